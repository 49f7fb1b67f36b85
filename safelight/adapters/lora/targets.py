"""The layers that a model has, under every name by which files call them; from a model or a stored header, no torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from safelight.adapters.lora.dialects import BEGINNINGS, LDM, OLD, OURS, Beginning
from safelight.weights.keys import Shape
from safelight.weights.variants import Variant, expected, tables, tables_of

WORDS = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}
"""What diffusers' attention processors once called the layers of a text encoder."""


@dataclass(frozen=True)
class Layer:
    """A layer that has numbers.

    Attributes:
        part: ``unet``, ``text_encoder`` or ``text_encoder_2``. name: dotted, inside of it.
        weight: shape of its weight. biased: whether it has a bias.
    """

    part: str
    name: str
    weight: Shape
    biased: bool

    @property
    def full(self) -> str:
        """The name with the part before it, but for the U-Net's."""
        return self.name if self.part == "unet" else f"{self.part}.{self.name}"


@dataclass(frozen=True)
class Targets:
    """All layers of a model.

    Attributes:
        title: what the model is, for a person.
        parts: part -> name of a tensor -> shape.
        family: whose tables of names hold.
    """

    title: str
    parts: Mapping[str, Mapping[str, Shape]]
    family: str = "sd"
    layers: Mapping[str, Mapping[str, Layer]] = field(init=False)

    def __post_init__(self) -> None:
        found = {part: {layer.name: layer for layer in _layers(part, rows)} for part, rows in self.parts.items()}
        object.__setattr__(self, "layers", found)

    @property
    def count(self) -> int:
        """How many layers there are."""
        return sum(map(len, self.layers.values()))

    def named(self, stem: str) -> list[tuple[Layer, Beginning]]:
        """The layers that a stem can mean, and the rule by which it does; those of the first dialect that knows it."""
        for beginning in BEGINNINGS:
            if not stem.startswith(beginning.words):
                continue
            rest = stem[len(beginning.words) :]
            parts = [beginning.part] if beginning.part else list(self.layers)
            found = [(part, self._index.get((part, beginning.naming, beginning.joint), {}).get(rest)) for part in parts]
            rows = [(self.layers[part][name], beginning) for part, name in found if name is not None]
            if rows:
                return rows
        return []

    def spelled(self, layer: Layer, beginning: Beginning) -> str | None:
        """The stem by which a dialect means a layer; None where it has no word for it."""
        index = self._index.get((layer.part, beginning.naming, beginning.joint), {})
        back = self._back.setdefault((layer.part, beginning.naming, beginning.joint), {})
        if not back:
            back.update({name: stem for stem, name in index.items()})
        return beginning.words + back[layer.name] if layer.name in back else None

    @cached_property
    def _back(self) -> dict[tuple[str, str, str], dict[str, str]]:
        return {}

    @cached_property
    def _index(self) -> dict[tuple[str, str, str], dict[str, str]]:
        """(part, naming, joint) -> what a file calls a layer -> its name."""
        index: dict[tuple[str, str, str], dict[str, str]] = {}
        for part, layers in self.layers.items():
            ways = {OURS: {name: name for name in layers}, OLD: dict(_old(part, layers))}
            if part == "unet":
                ways[LDM] = self._ldm
            for naming, names in ways.items():
                index[part, naming, "."] = names
                joined: dict[str, set[str]] = defaultdict(set)
                for theirs, ours in names.items():
                    joined[theirs.replace(".", "_")].add(ours)
                index[part, naming, "_"] = {
                    theirs: next(iter(ours)) for theirs, ours in joined.items() if len(ours) == 1
                }
        return index

    @cached_property
    def _ldm(self) -> dict[str, str]:
        """What single files call the layers of the U-Net -> their names."""
        if self.family not in {each.name for each in tables()}:
            return {}
        tensors = [name for name in self.parts["unet"] if name.endswith(".weight")]
        moves = tables_of(self.family).keys.parts["unet"].to_theirs(tensors).moves
        return {m.theirs.removesuffix(".weight"): m.ours[0].removesuffix(".weight") for m in moves}


def of_variant(variant: Variant) -> Targets:
    """The layers of a released model."""
    headers = expected(tables_of(variant.family).folder)
    parts = {part: headers[name] for part, name in variant.expected.items() if _is_part(part)}
    return Targets(variant.title, parts, variant.family)


def released() -> Iterator[Targets]:
    """The layers of every released model whose headers are stored."""
    for family in tables():
        for variant in family.variants:
            if "unet" in variant.expected:
                yield of_variant(variant)


def _is_part(name: str) -> bool:
    return name == "unet" or name.startswith("text_encoder")


def _layers(part: str, rows: Mapping[str, Shape]) -> Iterator[Layer]:
    for name, shape in rows.items():
        layer, _, number = name.rpartition(".")
        if number == "weight":
            yield Layer(part, layer, tuple(shape), f"{layer}.bias" in rows)


def _old(part: str, layers: Mapping[str, Layer]) -> Iterator[tuple[str, str]]:
    """What diffusers' attention processors called the layers of attention."""
    for name in layers:
        words = name.removesuffix(".0").split(".")
        if part == "unet" and words[-1] in ("to_q", "to_k", "to_v", "to_out"):
            yield ".".join([*words[:-1], "processor", words[-1]]), name
        elif part != "unet" and words[-1] in WORDS:
            yield ".".join([*words[:-1], WORDS[words[-1]]]), name
