"""The problem `real`: LoRA adapters of a language model that people use, SmolLM2-135M-Instruct, on three subjects."""
