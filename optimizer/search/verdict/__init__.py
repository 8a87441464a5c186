"""The end of a search: the winner, its scores on the report items, and the comparisons."""
