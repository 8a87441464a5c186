"""The executor for CUDA devices: Triton kernels over raw memory, many tensors in one launch.

Every kernel repeats the arithmetic of `reference.py` step by step, so the results have the same bits: float32, division
rounded to nearest, launched with `enable_fp_fusion=False`. Under TRITON_INTERPRET=1 they run on the CPU, slowly, for
tests.
"""
