"""Merge recipes as frozen records, and their YAML form. Opens no model."""
