"""Opened sources, their tensors in memory, and cached statistics that do not depend on the candidate."""
