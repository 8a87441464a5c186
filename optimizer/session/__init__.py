"""Everything that scoring candidates of one run needs, opened once: sources, devices, tokenizer, tasks, live model."""
