"""The tables of the generated reference pages."""
