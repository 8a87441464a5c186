"""Checks of the settings of one method: faults, and doubts about settings that are allowed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mergesmith.errors import Faults, UserError, unknown

from ..merge_ops import Parameter, Scope
from .config import PER_MODEL, ParameterConfig
from .method_space import SCALE, WEIGHT, MethodSpace


def check_settings(space: MethodSpace, faults: Faults) -> None:
    """Check the user's settings of a method against its parameters and models; add what is wrong to `faults`."""
    method, before = space.method, len(faults.messages)
    for key, config in space.config.parameters.items():
        place = f"methods.{method.name}.{key}"
        match = PER_MODEL.fullmatch(key)
        name = match["name"] if match else key
        parameter = method.parameter(name)
        if parameter is None or not parameter.effect:
            known = [p.name for p in method.parameters if p.effect]
            faults.add(place, unknown("parameter", name, known))
            continue
        if match:
            _check_model(space, parameter, match["model"], place, faults)
        if config.share:
            _check_share(space, parameter, place, faults)
        if not config.has_values and parameter.search is None and not (name == "lambda" and space.normalizes):
            faults.add(place, f"{name} is not searched by default: give a range, such as {{range: [0, 1], knots: 3}}")
        _check_values(parameter, config, place, faults)
    if len(faults.messages) == before and space.ingredients.layers is not None:
        try:
            _ = space.slots  # divides the parameters over depth and filters of the opened models
        except UserError as fault:
            faults.add(f"methods.{method.name}", str(fault))


def doubts(space: MethodSpace, trials: int) -> Iterator[str]:
    """Yield sentences on settings of a method that are allowed but probably not meant."""
    name, count, layers = space.method.name, len(space.dimensions), space.ingredients.layers
    if 0 < trials < count:
        yield (
            f"space: {name} has {count} dimensions, more than the {trials} trials of the whole search; fewer knots, "
            "steps or filters, or share: true, leave fewer dimensions"
        )
    most = max((len(knots) for slot in space.slots for knots in slot.dimensions.values() if not slot.blocks), default=1)
    if layers is not None and most > layers:
        yield f"space: {name} has {most} knots over {layers} layers; more than {layers} are redundant"
    if space.normalizes and any(s.parameter.name == "lambda" and s.dimensions for s in space.slots):
        lam = space.given("lambda", None)
        if lam is None or not lam.has_values:
            yield (
                f"space: {name} has normalize: true, which leaves the scale to lambda; so lambda is searched in "
                f"[{SCALE[0]:g}, {SCALE[1]:g}]. Write lambda: 1 to fix it"
            )


def _check_model(space: MethodSpace, parameter: Parameter, model: str, place: str, faults: Faults) -> None:
    """Check a value for one model."""
    models = dict.fromkeys(model for group in space.groups for model in group.searched)
    if parameter.scope is Scope.TENSOR:
        faults.add(place, f"{parameter.name} is shared by all models; it has no value per model")
    if space.method.max_inputs == 2:
        faults.add(
            place, f"{space.method.name} merges pairs; {parameter.name} belongs to a place in the pair, not to a model"
        )
    if model not in models:
        faults.add(place, unknown("model", model, models))


def _check_share(space: MethodSpace, parameter: Parameter, place: str, faults: Faults) -> None:
    """Check that a value that all models share is possible and has an effect."""
    name, keys = parameter.name, space.config.parameters
    single = [key for key in keys if (match := PER_MODEL.fullmatch(key)) and match["name"] == name]
    normalize = space.given("normalize", None)
    method = space.method.parameter("normalize")
    fixed = normalize.fixed if normalize is not None else None if method is None else method.default
    if method is not None and normalize is None and method.search_fixed is not None:
        fixed = method.search_fixed
    if parameter.scope is Scope.TENSOR:
        faults.add(place, f"{name} is one value for all models without share: true")
    elif "[" in place.rpartition("methods.")[2].partition(".")[2]:
        faults.add(place, "share: true belongs to the parameter of all models, not of one")
    elif single:
        faults.add(place, f"share: true leaves no value of one model, but {single[0]} is given")
    elif name == WEIGHT and fixed is True:
        faults.add(place, "a weight that all models share has no effect, as the weights are normalized")


def _check_values(parameter: Parameter, config: ParameterConfig, place: str, faults: Faults) -> None:
    values: Sequence[float | bool] = config.range or config.choices or ()
    values = values if config.fixed is None else (config.fixed,)
    if parameter.kind is bool:
        if config.range is not None or any(value not in (True, False) for value in values):
            faults.add(place, f"{parameter.name} is a switch: true, false or {{choices: [true, false]}}")
    elif parameter.kind is int and (config.range is not None or any(value != int(value) for value in values)):
        faults.add(place, f"{parameter.name} is a whole number: one, or {{choices: [...]}}")
    elif any(not parameter.low <= value <= parameter.high for value in values):
        faults.add(place, f"must lie in [{parameter.low:g}, {parameter.high:g}], but is {list(values)}")
