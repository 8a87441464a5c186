"""Magnitudes of task vectors and variances: exact selection of the largest ones by counts, on a CUDA device."""
