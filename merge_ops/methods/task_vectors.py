"""The task-vector family: task arithmetic, TIES and DARE are one rule with different parts switched on.

Per source: task vector x_i - base, keep rule, L1 rescale, weight. Then sign consensus, sum, normalization, lambda.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .method import (
    Base,
    KeepAll,
    KeepLargest,
    KeepRandom,
    LinearCombination,
    MaskedSum,
    MergeMethod,
    Numbers,
    Parameter,
    Plan,
    Range,
    Scope,
    SourceRule,
    Statistics,
)

Keep = Callable[[float], KeepAll | KeepLargest | KeepRandom]
NO_DIVISOR = 1e-8  # a sum of weights below this is not divided by


def plan_masked(numbers: Numbers, _stats: Statistics, *, keep: Keep, consensus: bool) -> Plan:
    """Out = base + lambda * [sum_i w_i m_i (x_i - base)] / [sum of the weights that count, with normalize].

    Unlike in the TIES paper the weights take part in the sign election, as in mergekit.
    """
    tensor = numbers.tensor
    rules = tuple(
        SourceRule(
            weight=float(values["weight"]),
            keep=KeepAll() if values["density"] >= 1.0 else keep(float(values["density"])),
            rescale=bool(tensor["rescale"]) and values["density"] < 1.0,
        )
        for values in (numbers.inputs[i] for i in numbers.others)
    )
    if not consensus and all(isinstance(rule.keep, KeepAll) for rule in rules):
        return _combination(numbers)
    return MaskedSum(rules, consensus=consensus, normalize=bool(tensor["normalize"]), scale=float(tensor["lambda"]))


def plan_arithmetic(numbers: Numbers, _stats: Statistics) -> LinearCombination:
    """Out = base + lambda * sum_i w_i (x_i - base), as one combination of the models themselves."""
    return _combination(numbers)


def _combination(numbers: Numbers) -> LinearCombination:
    weights = {i: float(numbers.inputs[i]["weight"]) for i in numbers.others}
    total = sum(weights.values())
    divisor = total if numbers.tensor["normalize"] and abs(total) >= NO_DIVISOR else 1.0
    scale = float(numbers.tensor["lambda"]) / divisor
    coefficients = [weights.get(i, 0.0) * scale for i in range(len(numbers.inputs))]
    if numbers.base is not None:
        coefficients[numbers.base] = 1.0 - sum(coefficients)
    return LinearCombination(tuple(coefficients))


def _parameters(*, normalize: bool, rescale: bool, sparse: bool) -> tuple[Parameter, ...]:
    weights = Range(0.0, 1.5)  # evolved weights of good merges sum to about 2 (Akiba et al. 2024, arXiv:2403.13187)
    density = Range(0.1, 1.0) if sparse else None
    return (
        Parameter("weight", Scope.NON_BASE, required=True, search=weights, doc="weight of this task vector"),
        Parameter(
            "density",
            Scope.NON_BASE,
            default=1.0,
            low=0.0,
            high=1.0,
            search=density,
            effect=sparse,
            doc="share of the task vector's elements that are kept",
        ),
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
            effect=sparse,
            doc="scale what is kept so that each task vector's L1 norm stays",
        ),
        Parameter("lambda", Scope.TENSOR, default=1.0, doc="scale of the merged task vector"),
        Parameter("int8_mask", Scope.TENSOR, default=False, kind=bool, effect=False, doc="mergekit's storage choice"),
    )


METHODS = (
    MergeMethod(
        name="task_arithmetic",
        summary="Base plus weighted sum of task vectors.",
        paper="Ilharco et al. 2023, Editing models with task arithmetic, arXiv:2212.04089",
        base=Base.REQUIRED,
        parameters=_parameters(normalize=False, rescale=False, sparse=False),
        plan=plan_arithmetic,
    ),
    MergeMethod(
        name="ties",
        summary="Task vectors trimmed to their largest elements, signs elected, agreeing ones summed.",
        paper="Yadav et al. 2023, TIES-Merging, arXiv:2306.01708",
        base=Base.REQUIRED,
        parameters=_parameters(normalize=True, rescale=False, sparse=True),
        plan=partial(plan_masked, keep=KeepLargest, consensus=True),
    ),
    MergeMethod(
        name="dare_linear",
        summary="Task vectors with random elements dropped and the rest rescaled, then summed.",
        paper="Yu et al. 2024, Language models are super Mario, arXiv:2311.03099",
        base=Base.REQUIRED,
        parameters=_parameters(normalize=False, rescale=True, sparse=True),
        plan=partial(plan_masked, keep=KeepRandom, consensus=False),
        random=True,
    ),
    MergeMethod(
        name="dare_ties",
        summary="DARE's random drop and rescale, then TIES's sign election.",
        paper="Yu et al. 2024, arXiv:2311.03099; Yadav et al. 2023, arXiv:2306.01708",
        base=Base.REQUIRED,
        parameters=_parameters(normalize=False, rescale=True, sparse=True),
        plan=partial(plan_masked, keep=KeepRandom, consensus=True),
        random=True,
    ),
)
