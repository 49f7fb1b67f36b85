"""What each family's files are told apart by: tables in its folder, read without importing the family or torch."""

from __future__ import annotations

import gzip
import itertools
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from safelight.weights.keys import Keys, Shape, read_keys

DISTILLED = "time_embedding.cond_proj.weight"
"""The tensor of a U-Net that is told the scale of the guidance, which was distilled into it."""
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
class Adds:
    """What a U-Net has beside a released one.

    Attributes:
        tensors: name -> shape. over: what each letter in braces of a name stands for.
        twins: (a, b): every tensor with a in its name has a twin with b there.
    """

    tensors: Mapping[str, Shape]
    over: Mapping[str, tuple[str, ...]]
    twins: tuple[tuple[str, str], ...]

    def to(self, unet: Mapping[str, Shape]) -> dict[str, Shape]:
        """The tensors that a U-Net of these has beside them, or of another shape."""
        made: dict[str, Shape] = {}
        for chosen in itertools.product(*self.over.values()):
            known = dict(zip(self.over, chosen))
            made |= {name.format(**known): shape for name, shape in self.tensors.items()}
        for old, new in self.twins:
            made |= {name.replace(old, new): shape for name, shape in unet.items() if old in name}
        return made


@dataclass(frozen=True)
class Variant:
    """One kind of checkpoint, such as Stable Diffusion XL.

    Attributes:
        family, name, title: of the family's folder, of this kind, and for a person.
        pipeline: class of ``model_index.json``.
        has: a name that only whole files of this kind have.
        width: of the text that the U-Net reads.
        prediction: under the name of ``scheduler_config.json``; ``assumed`` says that files of this kind may mean
            another.
        parts: of a whole file. expected: part -> stored header.
        config: what shapes cannot say: part -> settings.
        kinds: what is otherwise where the U-Net reads so many channels, or is ``distilled``.
        task: what its U-Net is for, where the channels that it reads do not tell.
        unread: patterns of names that only this kind leaves unread.
        presets: of `safelight.multiview`, where it draws several views. reader: the function that reads it then.
        adds: what its U-Net has beside the stored header.
    """

    family: str
    name: str
    title: str
    pipeline: str
    has: str
    width: int
    prediction: str
    parts: tuple[Part, ...]
    expected: Mapping[str, str]
    config: Mapping[str, Mapping[str, Any]]
    kinds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    task: str = ""
    unread: tuple[str, ...] = ()
    assumed: bool = False
    presets: tuple[str, ...] = ()
    reader: str = ""
    adds: tuple[Adds, ...] = ()

    def of(self, unet: Mapping[str, Shape]) -> Variant:
        """The same variant with what is otherwise for a U-Net of these shapes, under released names."""
        first = unet.get("conv_in.weight", ())
        names = [str(first[1])] if len(first) == 4 else []
        names += ["distilled"] if DISTILLED in unet else []
        made = self
        for kind in (self.kinds[name] for name in reversed(names) if name in self.kinds):
            config = {**made.config}
            for part, facts in kind.get("config", {}).items():
                config[part] = {**config.get(part, {}), **facts}
            told = {key: kind[key] for key in ("pipeline", "prediction") if key in kind}
            made = replace(made, config=config, assumed=made.assumed and "prediction" not in kind, **told)
        return made

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

    @cached_property
    def views(self) -> tuple[Variant, ...]:
        """The kinds that draw several views, which no width tells from the others; see ``views.toml``."""
        place = self.folder / "views.toml"
        return _views(place, self.variants) if place.is_file() else ()

    def variant(self, name: str) -> Variant:
        """The kind of that name; of one that draws views, all that is known."""
        return next(each for each in itertools.chain(self.views, self.variants) if each.name == name)

    def header(self, variant: Variant, part: str) -> Mapping[str, Shape]:
        """The tensors of a part at full size; empty where they are not known."""
        stored = expected(self.folder).get(variant.expected.get(part, ""), {})
        more = variant.adds if part == "unet" else ()
        return {**stored, **{name: shape for each in more for name, shape in each.to(stored).items()}}


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


def _views(place: Path, variants: tuple[Variant, ...]) -> tuple[Variant, ...]:
    raw = tomllib.loads(place.read_text(encoding="utf-8"))
    adds = {name: _adds(row) for name, row in raw["adds"].items()}
    known, made = {each.name: each for each in variants}, {}
    for row in raw["model"]:
        like = known[row.pop("like")]
        more = tuple(Part(name, table, tuple(prefixes)) for name, table, prefixes in row.pop("parts", ()))
        row["adds"] = (*like.adds, *(adds[name] for name in row["adds"]))
        row |= {"parts": (*like.parts, *more), "unread": (*like.unread, *row.get("unread", ()))}
        known[row["name"]] = made[row["name"]] = replace(
            like, **{**row, "presets": tuple(row["presets"]), "task": "views"}
        )
    return tuple(made.values())


def _adds(row: Mapping[str, Any]) -> Adds:
    tensors = {name: tuple(shape) for name, shape in row.get("tensors", {}).items()}
    return Adds(tensors, row.get("over", {}), tuple((old, new) for old, new in row.get("twins", ())))
