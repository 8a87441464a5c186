"""Opened sources, and statistics of their tensors that no candidate changes."""
