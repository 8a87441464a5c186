"""Forward passes over batches: log-likelihoods and greedy generation."""
