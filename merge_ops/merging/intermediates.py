"""Intermediate merges as sources: their tensors are merged on access, and nothing is written to disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..architectures.architecture import Architecture
from ..bank.model_bank import ModelBank
from ..checkpoints.source import ModelSource, TensorEntry
from ..planning.output_config import merged_config
from ..planning.plan import plan_resolved
from ..recipes.recipe import Recipe
from ..vocabulary.chat_template import output_template
from ..vocabulary.output_tokenizer import vocabulary_tokenizer, write_tokenizer
from ..vocabulary.output_vocabulary import tokenizer_model
from ..vocabulary.token_ids import output_generation_config
from .merge_tensors import merge_task, output_spec


class MergedSource(ModelSource):
    """The output of a recipe as a source of another one; `folder` is that of its donor.

    Only the last merged tensor is cached. So reading a tensor for statistics and then for the merge costs one merge,
    but a layer that is stacked twice costs two.
    """

    def __init__(self, reference: str, recipe: Recipe, bank: ModelBank) -> None:
        """Plan the recipe; the bank has its models open.

        Raises:
            UserError: the sources are not compatible with each other or with the recipe.
        """
        self.reference, self.bank = reference, bank
        self.plan = plan_resolved(recipe, recipe, bank)
        self.donor = bank[self.plan.donor]
        self.folder = self.donor.folder
        self.architecture: Architecture = self._architecture()
        self._tasks = {task.name: task for task in self.plan.tasks}
        specs = {task.name: output_spec(self.plan, task, bank) for task in self.plan.tasks}
        self.entries = {name: TensorEntry(self.folder, name, spec.shape, spec.dtype) for name, spec in specs.items()}
        self._last: tuple[str, torch.Tensor] | None = None

    def _read_config(self) -> dict[str, Any]:
        return merged_config(self.plan, self.bank)

    def tensor(self, name: str) -> torch.Tensor:
        """Return the merged tensor of a canonical name, on its home device. It must not be written to."""
        if self._last is None or self._last[0] != name:
            self._last = name, merge_task(self.plan, self._tasks[name], self.bank.at_home(name))
        return self._last[1]

    def _tokenizer_digest(self) -> str | None:
        vocabulary = self.plan.vocabulary
        if vocabulary is not None and vocabulary.extended:
            return vocabulary.digest
        return self._tokenizer_source.tokenizer_digest

    def _vocabularies(self) -> Mapping[str, str]:
        vocabulary = self.plan.vocabulary
        if vocabulary is None or not vocabulary.extended:
            return self._tokenizer_source.vocabularies
        pairs = sorted(zip(vocabulary.tokens, vocabulary.ids.tolist(), strict=True))
        return {"tokenizer.json": hashlib.sha256(json.dumps(pairs).encode()).hexdigest()}

    def tokenizer(self) -> Any:
        """Return a copy of the output's tokenizer; see `ModelSource.tokenizer`."""
        return vocabulary_tokenizer(self.plan.recipe, self.bank)

    def write_tokenizer(self, folder: Path) -> None:
        """Write the output's tokenizer and chat template into `folder`."""
        write_tokenizer(self.plan.recipe, self.bank, folder)

    @property
    def tokenizer_folder(self) -> Path:
        """The folder of the checkpoint whose tokenizer the output's starts from."""
        return self._tokenizer_source.tokenizer_folder

    @property
    def chat_template(self) -> str | None:
        """The output's chat template, or None."""
        return output_template(self.plan.recipe, self.bank)

    @property
    def generation_config(self) -> dict[str, Any] | None:
        """The generation_config.json that the output would have, or None."""
        return output_generation_config(self.plan.donor, self.plan.vocabulary, self.bank)

    @property
    def on_disk(self) -> bool:
        """False: tensors are merged each time."""
        return False

    @property
    def mapped(self) -> bool:
        """False: tensors are computed."""
        return False

    @property
    def folders(self) -> tuple[Path, ...]:
        """None: its models are in the bank too."""
        return ()

    def _sampled_digest(self) -> str:
        """Return `weights_digest`: every tensor has to be merged anyway."""
        return self.weights_digest

    @property
    def _tokenizer_source(self) -> ModelSource:
        return self.bank[tokenizer_model(self.plan.recipe)]

    def _architecture(self) -> Architecture:
        if {**self.config, "dtype": None} == {**self.donor.config, "dtype": None}:
            return self.donor.architecture
        from ..architectures.meta_model import (
            architecture_from,
        )  # takes seconds to import, and most merges do not need it

        return architecture_from(
            self.config, self.folder, self.reference, trust_remote_code=self.bank.trust_remote_code
        )


def with_intermediates(recipe: Recipe, bank: ModelBank) -> Recipe:
    """Open the intermediates of a recipe in the bank, and return the recipe with references to them.

    The references contain the digests of the intermediates.

    Raises:
        UserError: the sources of an intermediate are not compatible with each other or with its recipe.
    """
    references: dict[str, str] = {}
    for name, part in recipe.intermediates:
        inner = part.renamed(references)
        references[name] = f"{name}#{inner.digest[:12]}"
        if references[name] not in bank.references:
            bank.add(MergedSource(references[name], inner, bank))
    return replace(recipe, intermediates=()).renamed(references)
