"""Recipes are written and read through libyaml: the same text and values, ten times as fast as PyYAML's Python code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from mergesmith.merge_ops.recipes import multi_document, recipe


class FastLoader(yaml.CSafeLoader):
    """The loader of recipes over libyaml's parser."""

    yaml_constructors: Any = multi_document._Loader.yaml_constructors


class FastDumper(yaml.CSafeDumper):
    """The dumper of recipes over libyaml's emitter."""

    yaml_representers: Any = recipe.Dumper.yaml_representers  # pyright: ignore[reportPrivateImportUsage]


@pytest.fixture(autouse=True, scope="package")
def _fast_yaml() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multi_document, "_Loader", FastLoader)
        patch.setattr(recipe, "Dumper", FastDumper)
        yield
