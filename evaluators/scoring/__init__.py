"""From a suite's requests to per-item scores: scorers, prepared batches, filters and metrics, aggregation."""
