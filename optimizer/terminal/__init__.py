"""Terminal output: console, progress, tables and durations."""
