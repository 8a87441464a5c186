"""The search as Python functions; `mergesmith` exports their names."""
