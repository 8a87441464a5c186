"""A transformers model in memory whose weights candidates overwrite in place."""
