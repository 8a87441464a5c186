"""Checks of our scorers against lm-eval's before a run."""
