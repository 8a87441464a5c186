"""Results of probes are the same in every process, although the last bits of sums are not."""

from __future__ import annotations

import torch

from mergesmith.optimizer.session.gold_probe import _summary

SLOPES = 0.0028528144058360475, 0.0028528144058360613  # of one probe, before and after the process was restarted


def test_last_bits_do_not_show() -> None:
    results = []
    for slope in SLOPES:
        losses, weights = torch.tensor([0.25, 0.5]), torch.tensor([0.25, 0.25])
        results.append(_summary([(losses, weights, {"w": slope}), (losses, weights, {"w": slope / 3})]))
    assert SLOPES[0] != SLOPES[1]
    assert results[0] == results[1]
    assert results[0].by_dimension["w"] == 0.0038037525  # 4 / 3 of the slope
    assert (results[0].loss, results[0].items) == (0.375, 4)
