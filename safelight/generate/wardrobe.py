"""The adapters that lie over a pipe's model, put on and taken off while it is loaded.

with safelight.applied(pipe, lora, 0.8):
    pipe.draw("a person with a red hat")
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import TYPE_CHECKING

from safelight.adapters.worn import Wearable, Worn
from safelight.families.family import Model

if TYPE_CHECKING:
    from safelight.generate.pipe import Pipe


class Wardrobe:
    """What one model wears now.

    Attributes:
        worn: in the order in which they were put on.
        dressed: the model with all of them.
    """

    def __init__(self, model: Model) -> None:
        self.bare = self.dressed = model
        self.worn: tuple[Worn, ...] = ()
        self._adapters: tuple[tuple[Worn, Wearable], ...] = ()

    @property
    def taught(self) -> tuple[str, ...]:
        """Words that what is worn taught the model."""
        return tuple(word for _, adapter in self._adapters for word in adapter.taught)

    def put_on(self, adapter: Wearable, scale: float = 1.0) -> Worn:
        """Lay an adapter over the model; see `Wearable.put_on`."""
        worn = adapter.put_on(self.dressed, scale)
        self._wear((*self.worn, worn))
        self._adapters = (*self._adapters, (worn, adapter))
        return worn

    def take_off(self, worn: Worn) -> None:
        """Take one off again, in any order."""
        worn.take_off()
        self._adapters = tuple(pair for pair in self._adapters if pair[0] is not worn)
        self._wear(tuple(each for each in self.worn if each is not worn))

    def _wear(self, worn: tuple[Worn, ...]) -> None:
        self.worn, self.dressed = worn, reduce(lambda model, each: each.over(model), worn, self.bare)


@contextmanager
def applied(pipe: Pipe, adapter: Wearable, scale: float = 1.0) -> Iterator[Pipe]:
    """Draw with an adapter: inside, the pipe has it, for everyone who draws from this pipe; after, every bit is back.

    Args:
        adapter: a LoRA, learned words, edges that meet ...; `safelight.adapter` reads a file.
        scale: how strongly; 0 changes nothing, 1 is what it was trained for.

    Raises:
        WeightsError: it is for another model, which stays as it was. RequestError: a scale that is no finite number.
    """
    worn = pipe.wardrobe.put_on(adapter, scale)
    try:
        yield pipe
    finally:
        pipe.wardrobe.take_off(worn)
