"""A transformers model in memory, whose weights are overwritten in place by each candidate."""
