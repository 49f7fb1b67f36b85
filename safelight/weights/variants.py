"""What each family's files are told apart by: tables in its folder, read without importing the family or torch."""

from __future__ import annotations

import gzip
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from safelight.weights.keys import Keys, Shape, read_keys

FAMILIES = Path(__file__).resolve().parents[1] / "families"


@dataclass(frozen=True)
class Part:
    """Where a whole file keeps a part.

    Attributes:
        name: of its folder, such as ``unet``. table: of its rules. prefixes: of its names; the first is written.
    """

    name: str
    table: str
    prefixes: tuple[str, ...]


@dataclass(frozen=True)
class Variant:
    """One kind of checkpoint, such as Stable Diffusion XL.

    Attributes:
        family, name, title: of the family's folder, of this kind, and for a person.
        pipeline, inpaint: classes of ``model_index.json``, for networks that read 4 and 9 channels.
        has: a name that only whole files of this kind have.
        width: of the text that the U-Net reads.
        prediction: under the name of ``scheduler_config.json``; ``assumed`` says that files of this kind may mean
            another.
        parts: of a whole file. expected: part -> stored header.
        config: what shapes cannot say: part -> settings.
        unread: patterns of names that only this kind leaves unread.
    """

    family: str
    name: str
    title: str
    pipeline: str
    inpaint: str
    has: str
    width: int
    prediction: str
    parts: tuple[Part, ...]
    expected: Mapping[str, str]
    config: Mapping[str, Mapping[str, Any]]
    unread: tuple[str, ...] = ()
    assumed: bool = False

    @property
    def written(self) -> tuple[Part, ...]:
        """The parts as a file is written: of several ways to keep one the first."""
        return tuple({part.name: part for part in reversed(self.parts)}.values())[::-1]

    def part(self, name: str) -> Part:
        """The part of that name."""
        return next(part for part in self.parts if part.name == name)


@dataclass(frozen=True)
class Tables:
    """All that is known of a family's files.

    Attributes:
        folder: where its tables lie. vocabularies: names of the hub under which the tokenizer's may be found.
        told_by: ending of the name whose last axis is the ``width`` of a variant; empty for that of cross-attention.
    """

    name: str
    title: str
    folder: Path
    keys: Keys
    variants: tuple[Variant, ...] = ()
    vocabularies: tuple[str, ...] = ()
    told_by: str = ""

    def variant(self, name: str) -> Variant:
        """The kind of that name."""
        return next(variant for variant in self.variants if variant.name == name)


@cache
def tables() -> tuple[Tables, ...]:
    """Every family that has a table of variants."""
    return tuple(_tables(place.parent) for place in sorted(FAMILIES.glob("*/variants.toml")))


def tables_of(family: str) -> Tables:
    """The tables of one family."""
    return next(each for each in tables() if each.name == family)


@cache
def expected(folder: Path) -> Mapping[str, Mapping[str, Shape]]:
    """The stored headers of a family: name -> tensor -> shape."""
    text = gzip.decompress((folder / "headers.json.gz").read_bytes())
    raw = json.loads(text)
    return {name: {key: tuple(shape) for key, shape in rows.items()} for name, rows in raw.items()}


def _tables(folder: Path) -> Tables:
    raw = tomllib.loads((folder / "variants.toml").read_text(encoding="utf-8"))
    variants = tuple(_variant(raw["family"], row) for row in raw["variant"])
    return Tables(
        *(raw["family"], raw["title"], folder, read_keys(folder / "keys.toml"), variants),
        vocabularies=tuple(raw["vocabularies"]),
        told_by=raw.get("told_by", ""),
    )


def _variant(family: str, row: dict[str, Any]) -> Variant:
    parts = tuple(Part(name, table, tuple(prefixes)) for name, table, prefixes in row.pop("parts"))
    return Variant(family=family, parts=parts, unread=tuple(row.pop("unread", ())), **row)
