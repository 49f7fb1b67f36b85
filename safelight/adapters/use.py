"""What a request asks of an adapter, and what that adds to the network's calls.

A `Use` stands in a request: an adapter with its picture and its numbers. Made ready for one picture it becomes an `Aid`
for each branch of the guidance, and for every call of the network an aid lays its part into the network's ports.

Axes: W rows of a call, [W, Z, h, w] latents. A call may hold rows of strangers: an aid is told which rows are its own,
computes its part for all rows of the call, and leaves every other row as it was, to the last bit. So a row's bits
depend on the width of the call and not on its neighbours (docs/learn/seeds.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol

from torch import Tensor

from safelight.core.guides.scale import step_at
from safelight.core.path import Level
from safelight.errors import RequestError
from safelight.families.family import Model, Words
from safelight.nn.ports import Ports

if TYPE_CHECKING:
    from PIL.Image import Image


class Call(NamedTuple):
    """One call of a network, as an adapter sees it, in the number format of the network.

    Attributes:
        x: [W, Z, h, w], the noisy latents alone, without what some networks are shown beside them.
        t: [W], their labels.
        told: the family's record, of W rows.
        predict: asks the network itself: (latents, labels, record, ports) -> its output.
        levels: W of them, where the rows are.
    """

    x: Tensor
    t: Tensor
    told: Any
    predict: Callable[[Tensor, Tensor, Any, Ports], Tensor]
    levels: Sequence[Level] = ()


class Aid(Protocol):
    """What one adapter does for one branch of one picture. Aids are compared by identity."""

    def on(self, level: Level) -> bool:
        """Whether it does anything at this level."""

    def ports(self, call: Call, rows: Tensor, inner: Ports) -> Ports:
        """``inner`` and its own part.

        Args:
            rows: [W] booleans on the device of the call: the rows that are its own. The others keep their bits.
        """


class Aids(NamedTuple):
    """What is made of a `Use`: for the prompt, and for what is led away from; None where it does nothing."""

    cond: Aid | None
    uncond: Aid | None


def unread(what: Any) -> NoReturn:
    """Where nothing is encoded. Raises: RequestError, always."""
    raise RequestError("no pictures and no texts are read here")


class Place(NamedTuple):
    """Where a use is made ready: one pass of one picture.

    Attributes:
        model: the model that draws. size: (width, height) in pixels.
        levels: those that are visited, noisiest first, the end included.
        seed: of the picture.
        latents: encodes a picture, fitted to the size: [1, Z, h, w] as the network sees it, float32.
        words: reads a text as the request's prompt is read.
    """

    model: Model
    size: tuple[int, int]
    levels: Sequence[Level]
    seed: int
    latents: Callable[[Image], Tensor] = unread
    words: Callable[[str], Words] = unread

    @property
    def rises(self) -> bool:
        """Whether this is the way up from a picture: an inversion."""
        return len(self.levels) > 1 and self.levels[0].lam > self.levels[-1].lam


class Use(Protocol):
    """An adapter as a request uses it: a frozen dataclass, equal where it does the same.

    `seeded` says whether what is made ready depends on the seed of the picture; else its series shares it.
    """

    @property
    def seeded(self) -> bool: ...

    def check(self, model: Model, size: tuple[int, int]) -> None:
        """Refuse early, before anything is computed.

        Raises:
            RequestError, ImageError: the adapter is for another model, or its picture or numbers cannot be meant.
        """

    def ready(self, place: Place) -> Aids:
        """Encode what has to be encoded, once for a pass."""

    def told(self) -> Mapping[str, Any]:
        """What a recipe says of it: ``kind``, ``name``, ``files`` (name -> SHA-256) and its numbers, as JSON."""


class Span(NamedTuple):
    """A share of a run's steps, as diffusers counts it: step i of n is inside if start <= i / n and (i + 1) / n <= end.

    Attributes:
        start, end: 0 is the first step, 1 the last.
    """

    start: float = 0.0
    end: float = 1.0

    def check(self, what: str) -> None:
        """Raises: RequestError where no share is meant."""
        if not 0.0 <= self.start < self.end <= 1.0:
            raise RequestError(
                f"{what} works from one share of the steps to a later one, 0 to 1, not {self.start:g} to {self.end:g}"
            )

    def holds(self, levels: Sequence[Level], level: Level) -> bool:
        """Whether the step that begins at ``level``, or around it, is inside."""
        count = len(levels) - 1
        step = step_at(levels, level)
        return not (step / count < self.start or (step + 1) / count > self.end)


def checked(uses: Sequence[Use], model: Model, size: tuple[int, int]) -> None:
    """Refuse what these uses cannot do with this model.

    Raises:
        RequestError: its network has no ports, or what `Use.check` raises.
    """
    if uses and model.ported is None:
        raise RequestError(f"the network of this model ({model.family}) has no ports for adapters; leave them out")
    for use in uses:
        use.check(model, size)


WHOLE = Span()
"""All steps."""
