"""Magnitudes of task vectors and variances: exact selection of the largest ones by histograms, on the CPU."""
