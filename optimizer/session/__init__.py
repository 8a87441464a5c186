"""Everything needed to score the candidates of a run, opened once: sources, devices, tokenizer, tasks, live model."""
