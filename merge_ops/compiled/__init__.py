"""The executor of the CPU: compiled loops over raw memory, in strips that stay in the processor's cache.

Every kernel does the arithmetic of `execute.py` step by step (float32, no fused multiply-add) and gives its bits.
"""
