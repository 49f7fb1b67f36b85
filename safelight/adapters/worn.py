"""What is laid over a whole model until it is taken off: LoRA, learned words, edges that meet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from safelight.families.family import Model


class Worn(Protocol):
    """One adapter on one model."""

    def over(self, model: Model) -> Model:
        """The model as it is with this; the same for adapters that change layers where they are."""

    def told(self) -> Mapping[str, Any]:
        """What a recipe says of it: ``kind``, ``name``, ``files`` (name -> SHA-256) and its numbers, as JSON."""

    def take_off(self) -> None:
        """Every layer as it was, to the last bit."""


class Wearable(Protocol):
    """An adapter that a model can wear."""

    @property
    def taught(self) -> tuple[str, ...]:
        """Words that a prompt may use once a model wears it, as its file names them."""

    def put_on(self, model: Model, scale: float = 1.0) -> Worn:
        """Lay it over a model; a model that it does not fit stays as it was, to the last bit.

        Raises:
            WeightsError: it is for another model; the message ends in a table of what fits and what does not.
            RequestError: the scale is no finite number.
        """
