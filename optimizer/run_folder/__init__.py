"""The folder of a run: trials, item scores, lock and provenance, written so that a crash loses nothing finished."""
