"""Search for the best merge in Python, look at the trials as a table, and write the winner.

python examples/search_in_python.py SEARCH.YAML OUT
"""

import sys

import mergesmith as ms


def stop_when_good_enough(run: ms.Run, trial: ms.Trial) -> None:
    """End the search once a candidate that was scored in full reaches 95 % on the search items."""
    if not trial.name and trial.complete and trial.value is not None and trial.value >= 0.95:
        run.stop()


def main(search_yaml: str, out: str) -> None:
    """Search, print the best trials, the verdict and the items that the winner lost, and merge the winner."""
    run = ms.search(search_yaml, resume=True, callbacks=[stop_when_good_enough], progress=False)

    trials = run.trials_dataframe()
    complete = trials.query("state == 'complete'").sort_values("value", ascending=False)
    print(complete[["label", "method", "value", "items"]].head())

    assert run.verdict is not None
    for comparison in run.verdict["comparisons"]:
        print(comparison["sentence"])

    items = run.items_dataframe("report")  # a row per item, a column per trial
    winner, parent = (items[run.verdict[role]["trial"]] for role in ("winner", "best_parent"))
    print(f"against the best parent: {(winner > parent).sum()} items won, {(winner < parent).sum()} lost")

    merged = ms.merge(run.best_recipe, out, overwrite=True)
    print(f"wrote {merged.written.folder}; {merged.sentence}")


if __name__ == "__main__":
    main(*sys.argv[1:])
