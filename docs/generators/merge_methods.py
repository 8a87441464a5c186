"""The tables of reference/methods.md: the methods' declarations, and mergekit's stored results beside ours.

The cases are those of tests/golden/data, made by mergekit 0.1.5 (tests/golden/make_golden.py makes them anew).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from golden import MethodCase, method_cases

from mergesmith.merge_ops.bank.input_statistics import InputStatistics
from mergesmith.merge_ops.executors.reference import execute
from mergesmith.merge_ops.methods import METHODS, MergeMethod, Parameter

ROUNDING = {"float32": 2e-6, "bfloat16": 2e-2}  # relative to the largest value; the same bounds as in the tests


def method_rows() -> Iterator[str]:
    """Yield the table of all methods; those that mergekit lacks come last."""
    yield "| method | what it does | base | models | parameters (default; searched) | paper |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for method in sorted(METHODS.values(), key=lambda m: not m.mergekit):
        star = "" if method.mergekit else " ★"
        parameters = "; ".join(parameter_text(p) for p in method.parameters if p.effect) or "none"
        yield (
            f"| `{method.name}`{star} | {method.summary} | {method.base.value} | {counts(method)} | {parameters} | "
            f"{method.paper} |"
        )


def counts(method: MergeMethod) -> str:
    """Return how many input models a method takes."""
    low, high = method.min_inputs, method.max_inputs
    return str(low) if low == high else f"{low}+" if high is None else f"{low}-{high}"


def parameter_text(parameter: Parameter) -> str:
    """Return a parameter's name, default and search range."""
    default = (
        "required" if parameter.required else "none" if parameter.default is None else str(parameter.default).lower()
    )
    if parameter.search is not None:
        searched = f"; {parameter.search.low:g} to {parameter.search.high:g}{' (log)' if parameter.search.log else ''}"
    else:
        searched = "" if parameter.search_fixed is None else f"; held at {str(parameter.search_fixed).lower()}"
    return f"`{parameter.name}`{'' if parameter.mergekit else ' ★'} ({default}{searched})"


def comparison_rows() -> Iterator[str]:
    """Yield the table of differences from mergekit's stored results. Takes some seconds."""
    torch.set_num_threads(1)
    yield "| method | cases | equal | to rounding | bfloat16 | on purpose | largest difference | in bfloat16 |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for method in (m for m in METHODS.values() if m.mergekit):
        kinds: dict[str, list[float]] = {"equal": [], "rounding": [], "half": [], "purpose": []}
        for case in method_cases(method.name):
            difference = relative_difference(case)
            kinds[kind_of(case, difference)].append(difference)
        counted = " | ".join(str(len(found)) for found in kinds.values())
        largest = largest_of([*kinds["equal"], *kinds["rounding"]])
        total, half = sum(map(len, kinds.values())), largest_of(kinds["half"])
        yield f"| `{method.name}` | {total} | {counted} | {largest} | {half} |"


def largest_of(differences: list[float]) -> str:
    """Return the largest difference as a cell of the table."""
    return "" if not differences else "0" if max(differences) == 0.0 else f"{max(differences):.1e}"


def kind_of(case: MethodCase, difference: float) -> str:
    """Return the column that a case is counted in.

    Raises:
        ValueError: the difference is larger than rounding explains.
    """
    if difference <= ROUNDING[case.dtype]:
        return "half" if case.dtype != "float32" else "rounding" if difference else "equal"
    if case.ties or (case.method == "arcee_fusion" and case.dtype != "float32"):
        return "purpose"
    raise ValueError(f"{case.id} differs from mergekit by {difference:g}, which nothing explains")


def relative_difference(case: MethodCase) -> float:
    """Return the largest difference from mergekit's result, relative to the result's largest value."""
    method, inputs = METHODS[case.method], case.inputs()
    values = method.values(len(inputs), case.value_of, base=case.base)
    plan = method.plan(values, InputStatistics(lambda: inputs, case.base))
    ours = execute(plan, inputs, base=case.base, seed=0, name=case.id).double()
    theirs = case.expected().double()
    return float((ours - theirs).abs().max()) / max(1e-12, float(theirs.abs().max()))
