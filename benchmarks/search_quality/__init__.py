"""How good the search is: made problems, searches on them, and the true scores of what the searches find.

    python -m benchmarks.search_quality build      make the problems, one to two minutes each
    python -m benchmarks.search_quality figures    base, parents, lines of total weight on unseen items
    python -m benchmarks.search_quality run        the arms, search by search
    python -m benchmarks.search_quality report     tables of all results so far; --write puts them into docs/

Run from the root of the checkout. Everything is cached, so each command goes on where it was interrupted.
"""
