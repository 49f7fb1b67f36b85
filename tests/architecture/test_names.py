"""The public names: sorted, documented, loaded on first use."""

from __future__ import annotations

import ast
import inspect

import pytest

import safelight
from tests.architecture.source import ROOT, sources

PUBLIC = [name for name in safelight.__all__ if name != "__version__"]


def test_public_names_are_sorted_and_stand_in_one_table() -> None:
    assert list(safelight.__all__) == sorted(safelight.__all__)
    assert sorted(safelight._HOME) == PUBLIC
    assert dir(safelight) == safelight.__all__


def test_type_checkers_see_the_names_that_are_loaded() -> None:
    tree = next(source.tree for source in sources("safelight") if source.module == "safelight")
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == safelight._HOME


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_documented(name: str) -> None:
    value = getattr(safelight, name)
    assert value.__module__ == safelight._HOME[name], "a name is loaded from the module that defines it"
    own = value.__doc__ if isinstance(value, type) else inspect.getdoc(value)
    assert own, f"safelight.{name} has no docstring"
    page = (ROOT / "docs/reference/python.md").read_text(encoding="utf-8")
    assert f"`{name}" in page, f"docs/reference/python.md does not mention {name}"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no public name 'lamp'"):
        safelight.lamp  # noqa: B018


def test_the_version_is_named_in_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {safelight.__version__}" in changelog
