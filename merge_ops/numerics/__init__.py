"""Sums, top-k selection and random masks whose bits do not depend on threads, order or device."""
