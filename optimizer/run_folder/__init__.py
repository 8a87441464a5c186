"""The folder of a run: trials, item scores, events, lock and provenance, written so that a crash loses no trial."""
