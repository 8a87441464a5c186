"""`mergesmith merge`: merges a recipe into a checkpoint. Imports no search or scoring code, which is slow to import."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mergesmith.errors import UserError, unknown

from ...merge_ops import (
    DEFAULT_SHARD_SIZE,
    RECIPE_DTYPES,
    ModelBank,
    Recipe,
    Written,
    write_merge,
)
from ..run_folder.provenance import PACKAGES, anonymous_digest
from ..session.devices import device_name, pick_device
from ..session.versions import package_version
from ..terminal.steps import Steps


@dataclass(frozen=True)
class MergeCheck:
    """A written merge, compared with the digest that the recipe records.

    Attributes:
        written: the checkpoint.
        claim: the weights digest that the recipe records; None if it records none.
        differs: known differences from the recorded versions, device and sources, as phrases; empty if the digests
            agree.
        edited: whether the recipe or its seed was changed after its facts were recorded.
    """

    written: Written
    claim: str | None
    differs: tuple[str, ...]
    edited: bool = False

    @property
    def reproduced(self) -> bool:
        """Whether the digests agree."""
        return self.claim == self.written.digest

    @property
    def sentence(self) -> str:
        """The outcome, for the user."""
        if self.edited:
            return (
                f"weights digest {self.written.digest}; the recipe or its seed was changed, so its record was dropped"
            )
        if self.claim is None:
            return f"weights digest {self.written.digest}"
        if self.reproduced:
            return f"reproduced bit for bit: weights digest {self.written.digest}"
        because = "; ".join(self.differs) or "the sources or versions are the recorded ones: please report this"
        return f"NOT the recorded weights (digest {self.written.digest}, recorded {self.claim}): {because}"


@dataclass(frozen=True)
class MergeOptions:
    """Settings of a merge from the command line; None leaves the recipe's value."""

    seed: int | None = None
    dtype: str | None = None
    out_dtype: str | None = None
    device: str | None = None
    overwrite: bool = False
    max_shard_size: str = DEFAULT_SHARD_SIZE
    copy_tokenizer: bool = True
    write_card: bool = True
    allow_nonfinite: bool = False
    allow_different_architectures: bool = False
    trust_remote_code: bool = False

    def changed(self, recipe: Recipe) -> Recipe:
        """Return the recipe with the values given here.

        Raises:
            UserError: a dtype is unknown.
        """
        if self.seed is not None:
            recipe = recipe.seeded(self.seed)
        given: dict[str, Any] = {}
        for key in ("dtype", "out_dtype"):
            name = getattr(self, key)
            if name is not None:
                if name not in RECIPE_DTYPES:
                    raise UserError(f"--{key.replace('_', '-')}: {unknown('dtype', name, RECIPE_DTYPES)}")
                given[key] = name
        return replace(recipe, **given)


def merge_recipe(given: Recipe, path: Path, out: Path, options: MergeOptions) -> MergeCheck:
    """Merge a recipe that was read from `path` into a folder; compare it with the digest that it records, if any.

    Raises:
        UserError: a source or an option is at fault, or the folder cannot be written.
    """
    recipe = options.changed(given)
    edited = recipe.facts.get("recipe_digest") not in (None, anonymous_digest(recipe))
    if edited:  # the record describes another recipe
        recipe = replace(recipe, facts={})
    bank = ModelBank(
        recipe.references(),
        roots=(Path.cwd(), path.parent),
        device=pick_device(options.device or _recorded_kind(recipe), "--device"),
        trust_remote_code=options.trust_remote_code,
        allow_different_architectures=options.allow_different_architectures,
    )
    written = write_merge(
        recipe,
        bank,
        out,
        max_shard_size=options.max_shard_size,
        overwrite=options.overwrite,
        copy_tokenizer=options.copy_tokenizer,
        write_card=options.write_card,
        allow_nonfinite=options.allow_nonfinite,
        progress=partial(Steps(partial(print, file=sys.stderr), "tensors"), "merging"),
    )
    claim = recipe.facts.get("weights_digest")
    if claim in (None, written.digest):  # other differences did not matter, and finding them reads all sources
        return MergeCheck(written, claim, (), edited)
    return MergeCheck(written, claim, (*_overridden(given, recipe), *_what_differs(recipe, bank)), edited)


def _overridden(recorded: Recipe, recipe: Recipe) -> tuple[str, ...]:
    """Return the settings that the command line changed, as phrases."""
    return tuple(
        f"{key} is {getattr(recipe, key)}, was {getattr(recorded, key)}"
        for key in ("seed", "dtype", "out_dtype")
        if getattr(recipe, key) != getattr(recorded, key)
    )


def _recorded_kind(recipe: Recipe) -> str:
    """Return the kind of device that a recipe records, else 'cpu'; bits are promised for the same kind only."""
    return "cpu" if recipe.facts.get("device", "cpu") == "cpu" else "auto"


def _what_differs(recipe: Recipe, bank: ModelBank) -> tuple[str, ...]:
    """Return how this merge's versions, device and sources differ from the recorded ones."""
    differences: list[str] = []
    for name, recorded in recipe.facts.get("versions", {}).items():
        here = package_version(name)
        if name in PACKAGES[:2] and recorded and here and _minor(recorded) != _minor(here):
            differences.append(f"{name} is {here}, was {recorded}")
    device = device_name(bank.device)
    if recipe.facts.get("device") not in (None, device):
        differences.append(f"device is {device}, was {recipe.facts['device']}")
    for reference, digests in recipe.facts.get("sources", {}).items():
        if reference in bank.references and bank[reference].weights_digest != digests["weights_digest"]:
            differences.append(f"the weights of '{reference}' are not the recorded ones")
    return tuple(differences)


def _minor(version: str) -> str:
    return ".".join(version.split("+")[0].split(".")[:2])
