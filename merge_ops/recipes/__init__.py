"""Merge recipes as frozen records, and reading and writing them as YAML. Opens no model."""
