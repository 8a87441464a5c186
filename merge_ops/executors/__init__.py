"""Executors compute a planned tensor: the torch reference, compiled CPU kernels and Triton GPU kernels."""
