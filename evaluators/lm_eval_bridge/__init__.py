"""The bridge to lm-eval: its HFLM around the live model, and isolation of its side effects."""
