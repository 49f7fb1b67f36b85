"""A LoRA, or one of its kin, as a model wears it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from safelight.adapters.lora.attach import KIND, attach, attached, detach
from safelight.adapters.lora.blocks import Blocks
from safelight.adapters.lora.file import Lora
from safelight.families.family import Model
from safelight.nn.surgery import Record

TRIGGER = "modelspec.trigger_phrase"
"""Where a file's metadata names what the captions of its training began with (Stability's ModelSpec)."""


@dataclass(frozen=True, eq=False)
class WearableLora:
    """A loaded file, ready to be laid over a model.

    Attributes:
        lora: the file. blocks: what the scale is multiplied by in which blocks.
    """

    lora: Lora
    blocks: Blocks = None

    @property
    def taught(self) -> tuple[str, ...]:
        """What its captions began with, where the file says so."""
        said = self.lora.contents.header.metadata.get(TRIGGER, "")
        return (said,) if said else ()

    def put_on(self, model: Model, scale: float = 1.0) -> WornLora:
        """Lay it over a model; the same file may lie there several times.

        Raises:
            WeightsError: it does not fit, with a table; nothing was changed. RequestError: a scale or a block that
                cannot be.
        """
        taken = attached(model)
        names = [self.lora.name, *(f"{self.lora.name}-{n}" for n in range(2, len(taken) + 2))]
        name = next(each for each in names if each not in taken)
        return WornLora(model, attach(model, self.lora, scale, self.blocks, name=name), self.lora)

    def within(self, blocks: Blocks) -> WearableLora:
        """The same with other strengths of blocks."""
        return replace(self, blocks=blocks)


@dataclass(frozen=True, eq=False)
class WornLora:
    """A LoRA that lies over a model. Its layers are changed where they are, so the model stays the same record."""

    model: Model
    record: Record
    lora: Lora

    def over(self, model: Model) -> Model:
        """The model itself."""
        return model

    def told(self) -> Mapping[str, Any]:
        """What a recipe says of it."""
        files = {self.lora.path.name: self.lora.sha256}
        blocks = {"blocks": dict(self.record.blocks)} if self.record.blocks else {}
        return {"kind": KIND, "name": self.lora.name, "files": files, "scale": self.record.scale, **blocks}

    def take_off(self) -> None:
        """Every layer has its own bits back."""
        detach(self.model, self.record.name)
