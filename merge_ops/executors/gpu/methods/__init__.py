"""Triton kernels of merge methods with `Custom` plans; see `executors.method_kernels`."""
