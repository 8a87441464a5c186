"""What single sections compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_runs import make_trial
from report_runs import WINNER, report_scores, write_run
from scipy.stats import binomtest, spearmanr

from mergesmith.optimizer.report.facts import gather
from mergesmith.optimizer.report.sections import history, matrix, parameters, recipe, trade_offs, won_and_lost
from mergesmith.optimizer.report.sections.matrix import Flips


def test_non_dominated() -> None:
    values = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.4, 0.5], [1.0, 0.0], [0.0, 0.0]])
    assert trade_offs.non_dominated(values).tolist() == [True, True, True, False, True, False]


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (5, 5), (9, 1), (0, 30), (700, 650)])
def test_mcnemar_is_the_exact_binomial_test(won: int, lost: int) -> None:
    expected = 1.0 if won + lost == 0 else binomtest(won, won + lost).pvalue
    assert Flips(won, lost).p_value == pytest.approx(expected)


def test_won_and_lost_items(tmp_path: Path) -> None:
    facts = gather(write_run(tmp_path / "run", 6).path, with_texts=True)
    found = won_and_lost.section(facts).content["tasks"]
    mine, other = report_scores(WINNER, 60).items, report_scores(1, 60).items
    for task in found:
        gains = mine[task.task].values - other[task.task].values
        assert (len(task.won), len(task.lost)) == ((gains > 0).sum(), (gains < 0).sum())
        assert task.same == (gains == 0).sum()
        assert task.won[0].winner_answer == f"<u>{WINNER}"
        assert task.won[0].text is not None


def test_matrix_shows_parents_baselines_and_the_best(tmp_path: Path) -> None:
    facts = gather(write_run(tmp_path / "run", 60).path)
    content = matrix.section(facts).content
    assert content["items"] == 60
    assert len(content["table"].rows) == 2 + 20  # base, the other parent and the best candidates


def test_history_thins_out_but_keeps_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = gather(write_run(tmp_path / "run", 60).path)
    assert history.section(facts).content["left_out"] == 0
    monkeypatch.setattr(history, "MAX_POINTS", 20)
    assert history.section(facts).content["left_out"] >= 40


def test_rank_correlations_are_spearmans() -> None:
    rng = np.random.default_rng(0)
    points, scores = rng.random((40, 3)), rng.random(40)
    found = parameters._correlations(points, scores)
    expected = [spearmanr(points[:, i], scores)[0] for i in range(3)]
    assert found[:, 0] == pytest.approx(expected)
    assert (found[:, 1] <= found[:, 0]).all()
    assert (found[:, 0] <= found[:, 2]).all()


def test_total_weight_comes_first(tmp_path: Path) -> None:
    content = parameters.section(gather(write_run(tmp_path / "run", 40).path)).content
    assert [method["name"] for method in content["methods"]] == ["task_arithmetic"]
    assert "total weight" in content["methods"][0]["slices"][0]
    assert not content["methods"][0]["few"]


def test_heat_map_has_a_cell_per_model_filter_and_knot(tmp_path: Path) -> None:
    content = recipe.section(gather(write_run(tmp_path / "run", 6).path)).content
    maps = dict(content["maps"])
    trial = make_trial(WINNER)
    cells = sum(len(rule.values) for s in trial.recipe.models for rule in s.parameters["weight"].rules)
    assert str(maps["weight"]).count("<rect") == cells
