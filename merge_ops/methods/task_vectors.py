"""The task-vector family: task arithmetic, TIES, DARE, DELLA and breadcrumbs are one rule with parts switched on.

Per source: task vector x_i - base, keep rule, L1 rescale, weight. Then sign consensus, sum, normalization, lambda.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from .base.declaration import Base, MergeMethod, Parameter, ParameterValues, PlanError, Range, Scope, Statistics
from .base.depth_scaling import LAMBDA, LINES, merged_scale
from .base.plans import (
    NO_DIVISOR,
    Keep,
    KeepAll,
    KeepLargest,
    KeepRandom,
    KeepRanked,
    KeepWindow,
    LinearCombination,
    MaskedSum,
    Plan,
    SourceRule,
)

KeepRule = Callable[[Mapping[str, Any]], Keep]


def plan_masked(values: ParameterValues, _stats: Statistics, *, keep: KeepRule, consensus: bool) -> Plan:
    """Out = base + lambda * [sum_i w_i m_i (x_i - base)] / [sum of the weights that count, with normalize].

    Unlike in the TIES paper the weights take part in the sign election, as in mergekit. DARE and DELLA rescale the
    kept elements to the task vector's L1 norm, as in mergekit, not by the inverse of the probability.
    """
    tensor = values.tensor
    rules = tuple(
        SourceRule(
            weight=float(source["weight"]),
            keep=KeepAll() if source["density"] >= 1.0 else keep(source),
            rescale=bool(tensor["rescale"]) and source["density"] < 1.0,
        )
        for source in (values.inputs[i] for i in values.others)
    )
    if not consensus and all(isinstance(rule.keep, KeepAll) for rule in rules):
        return _combination(values)
    return MaskedSum(rules, consensus=consensus, normalize=bool(tensor["normalize"]), scale=merged_scale(values))


def keep_largest(source: Mapping[str, Any]) -> Keep:
    """TIES: the largest magnitudes of the whole tensor."""
    return KeepLargest(float(source["density"]))


def keep_random(source: Mapping[str, Any]) -> Keep:
    """DARE: each element with the same probability."""
    return KeepRandom(float(source["density"]))


def keep_window(source: Mapping[str, Any]) -> Keep:
    """Breadcrumbs: the largest magnitudes without the very largest."""
    return KeepWindow(float(source["density"]), float(source["gamma"]))


def keep_ranked(source: Mapping[str, Any]) -> Keep:
    """DELLA: the larger an element among its row, the likelier it stays."""
    density, epsilon = float(source["density"]), float(source["epsilon"])
    if density <= 0.0:
        return KeepRandom(0.0)
    if not (density - epsilon > 0.0 and density + epsilon < 1.0):
        raise PlanError(
            "0 < density - epsilon and density + epsilon < 1 must hold (or density be 0 or 1), "
            f"but density is {density:g} and epsilon {epsilon:g}"
        )
    return KeepRanked(density, epsilon)


def plan_arithmetic(values: ParameterValues, _stats: Statistics) -> LinearCombination:
    """Out = base + lambda * sum_i w_i (x_i - base), as one combination of the models themselves."""
    return _combination(values)


def _combination(values: ParameterValues) -> LinearCombination:
    weights = {i: float(values.inputs[i]["weight"]) for i in values.others}
    total = sum(weights.values())
    divisor = total if values.tensor["normalize"] and abs(total) >= NO_DIVISOR else 1.0
    scale = merged_scale(values) / divisor
    coefficients = [weights.get(i, 0.0) * scale for i in range(len(values.inputs))]
    if values.base is not None:
        coefficients[values.base] = 1.0 - sum(coefficients)
    return LinearCombination(tuple(coefficients))


def _parameters(
    *, normalize: bool, rescale: bool, density: Range | None = None, more: tuple[Parameter, ...] = ()
) -> tuple[Parameter, ...]:
    weights = Range(0.0, 3.0)  # samplers draw a total weight and shares: see search_spaces/coordinates.py
    return (
        Parameter("weight", Scope.NON_BASE, required=True, search=weights, doc="weight of this task vector"),
        Parameter(
            "density",
            Scope.NON_BASE,
            default=1.0,
            low=0.0,
            high=1.0,
            search=density,
            effect=density is not None,
            doc="share of the task vector's elements that are kept",
        ),
        *more,
        Parameter(
            "normalize",
            Scope.TENSOR,
            default=normalize,
            kind=bool,
            search_fixed=False,  # with it only ratios of weights count, and the scale is lost to the search
            doc="divide by the weights that count",
        ),
        Parameter(
            "rescale",
            Scope.TENSOR,
            default=rescale,
            kind=bool,
            effect=density is not None,
            doc="scale what is kept so that each task vector's L1 norm stays",
        ),
        LAMBDA,
        LINES,
        Parameter("int8_mask", Scope.TENSOR, default=False, kind=bool, effect=False, doc="mergekit's storage choice"),
    )


def _family(name: str, summary: str, paper: str, keep: KeepRule, *, consensus: bool, **declared: Any) -> MergeMethod:
    return MergeMethod(
        name=name,
        summary=summary,
        paper=paper,
        base=Base.REQUIRED,
        parameters=_parameters(**declared),
        plan=partial(plan_masked, keep=keep, consensus=consensus),
        random=keep in (keep_random, keep_ranked),
    )


TIES = "Yadav et al. 2023, TIES-Merging, arXiv:2306.01708"
DARE = "Yu et al. 2024, Language models are super Mario, arXiv:2311.03099"
DELLA = "Deep et al. 2024, DELLA-Merging, arXiv:2406.11617"
BREADCRUMBS = "Davari and Belilovsky 2023, Model Breadcrumbs, arXiv:2312.06795"
# A search keeps epsilon at 0.1 and density where both bounds hold; breadcrumbs' two shares always fit.
EPSILON = Parameter(
    "epsilon", Scope.NON_BASE, default=0.15, low=0.0, high=0.5, search_fixed=0.1, doc="half the span of probabilities"
)
GAMMA = Parameter(
    "gamma",
    Scope.NON_BASE,
    default=0.01,
    low=0.0,
    high=1.0,
    search=Range(0.0, 0.1),
    doc="share of the largest elements that are dropped",
)
ANY, RANKED, WINDOW = Range(0.1, 1.0), Range(0.2, 0.8), Range(0.1, 0.9)

METHODS = (
    MergeMethod(
        name="task_arithmetic",
        summary="Base plus weighted sum of task vectors.",
        paper="Ilharco et al. 2023, Editing models with task arithmetic, arXiv:2212.04089",
        base=Base.REQUIRED,
        parameters=_parameters(normalize=False, rescale=False),
        plan=plan_arithmetic,
    ),
    _family(
        "ties",
        "Task vectors trimmed to their largest elements, signs elected, agreeing ones summed.",
        TIES,
        keep_largest,
        consensus=True,
        normalize=True,
        rescale=False,
        density=ANY,
    ),
    _family(
        "dare_linear",
        "Task vectors with random elements dropped and the rest rescaled, then summed.",
        DARE,
        keep_random,
        consensus=False,
        normalize=False,
        rescale=True,
        density=ANY,
    ),
    _family(
        "dare_ties",
        "DARE's random drop and rescale, then TIES's sign election.",
        f"{DARE}; {TIES}",
        keep_random,
        consensus=True,
        normalize=False,
        rescale=True,
        density=ANY,
    ),
    _family(
        "della",
        "Random drop that spares large elements of a row, rescale, then TIES's sign election.",
        DELLA,
        keep_ranked,
        consensus=True,
        normalize=True,
        rescale=True,
        density=RANKED,
        more=(EPSILON,),
    ),
    _family(
        "della_linear",
        "Random drop that spares large elements of a row, rescale, then sum.",
        DELLA,
        keep_ranked,
        consensus=False,
        normalize=False,
        rescale=True,
        density=RANKED,
        more=(EPSILON,),
    ),
    _family(
        "breadcrumbs",
        "Task vectors without their smallest and very largest elements, summed.",
        BREADCRUMBS,
        keep_window,
        consensus=False,
        normalize=False,
        rescale=False,
        density=WINDOW,
        more=(GAMMA,),
    ),
    _family(
        "breadcrumbs_ties",
        "Task vectors without their smallest and very largest elements, then TIES's sign election.",
        f"{BREADCRUMBS}; {TIES}",
        keep_window,
        consensus=True,
        normalize=False,
        rescale=False,
        density=WINDOW,
        more=(GAMMA,),
    ),
)
