"""Checkpoint structure derived from a model's configuration: tensor names, shapes, ties, layers. Reads no weights."""
