"""Source checkpoints on disk: finding them, reading weights and tokenizers, merging LoRA adapters, digests."""
