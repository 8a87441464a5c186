"""Opens intermediate merges, plans a recipe and computes its tensors."""
