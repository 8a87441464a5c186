"""How many Ray workers a node holds."""

from __future__ import annotations

import pytest

from mergesmith.optimizer.pools.ray_cluster import workers_that_fit


@pytest.mark.parametrize(
    ("cpus", "gpus", "holds"),
    [
        ((4, 3), (0, 0), 1),
        ((64, 1), (4, 1), 4),
        ((2, 1), (8, 1), 2),  # the rest of its GPUs cannot be used
        ((64, 1), (4, 0.3), 12),  # three on each
        ((64, 1), (8, 3), 2),
        ((64, 1), (0, 1), 0),
    ],
)
def test_what_a_node_holds(cpus: tuple[int, int], gpus: tuple[int, float], holds: int) -> None:
    resources = {"CPU": float(cpus[0]), "GPU": float(gpus[0])}
    assert workers_that_fit(resources, cpus[1], gpus[1]) == holds
