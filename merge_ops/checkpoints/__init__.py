"""Source checkpoints on disk: finding them, reading their weights, LoRA adapters, digests."""
