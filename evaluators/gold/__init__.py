"""Differentiable losses of gold answers, for items as a suite scores them."""
