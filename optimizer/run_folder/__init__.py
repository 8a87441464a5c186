"""The folder of a run: trials, item scores, events, lock and provenance. A crash loses no finished trial."""
