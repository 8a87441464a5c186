"""Sums, top-k selection and random masks with the same bits for any number of threads, order and device."""
