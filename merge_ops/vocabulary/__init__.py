"""The vocabulary of a merged model: tokenizer, embedding rows, token ids and chat template."""
