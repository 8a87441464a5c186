"""Scores requests: scorers, prepared batches, filters and metrics, aggregation."""
