"""The report of a run: one self-contained HTML page, drawn from the run's folder alone."""
