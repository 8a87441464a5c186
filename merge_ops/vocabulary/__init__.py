"""The output's vocabulary: tokenizer, embedding rows, token ids and chat template."""
