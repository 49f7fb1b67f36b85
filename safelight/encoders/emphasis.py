"""What the weights of a prompt do: four ways, by name, from a text to the vectors that a network is told.

Axes: z [1, L, C], what an encoder says of one chunk of L tokens. Nothing is changed where every weight is 1.
Sources: the documented behaviour of A1111's web UI (vectors times weights, the mean restored), ComfyUI (away from the
empty prompt) and compel 2 (the same, and weights below 1 towards the prompt without those words).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from safelight.encoders import chunks, prompt
from safelight.encoders.chunks import Chunk, Laid
from safelight.encoders.compel import compel
from safelight.encoders.prompt import Sections
from safelight.encoders.tokenizer import ClipTokenizer
from safelight.encoders.turns import turns
from safelight.errors import PromptError, UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

MOST = 128
"""Chunks that a network is told at most, some 9 600 tokens."""
LEAST = 1e-5
"""compel's weight 0: the prompt without those words then has the share 1 / tan of a number close to 0."""

Ask = Callable[[Sequence[int], Sequence[bool] | None], "Tensor"]
"""(the numbers of a row, which of them others look at, None for all) -> z of the encoder that is asked."""
Weigh = Callable[["Tensor", Chunk, Sequence[int], Ask], "Tensor"]
"""(z of a chunk as it is, the chunk, the row of the empty prompt, the encoder) -> z with the weights."""


Read = Callable[[Sequence[int], Sequence[bool] | None], tuple["Tensor", "Tensor"]]
"""As `Ask`, with the pooled text [1, P] beside z."""


def by_mean(z: Tensor, chunk: Chunk, empty: Sequence[int], ask: Ask) -> Tensor:
    """A1111: every vector times its weight, then all of the chunk scaled so that the mean of its numbers is as before.

    Its own weakness is kept: a mean close to 0 scales by a number without meaning.
    """
    weighed = z * _column(z, chunk)
    return weighed * (z.mean() / weighed.mean())


def from_empty(z: Tensor, chunk: Chunk, empty: Sequence[int], ask: Ask) -> Tensor:
    """ComfyUI: every vector moved along the line from that of the empty prompt at its place: 0 is there, 1 here."""
    nothing = ask(empty, None)
    weight = _column(z, chunk)
    return z.where(weight == 1.0, (z - nothing) * weight + nothing)


def towards_absence(z: Tensor, chunk: Chunk, empty: Sequence[int], ask: Ask) -> Tensor:
    """compel: as ComfyUI, and for each part with a weight below 1 mixed with the prompt in which nobody sees that part.

    The mix has the shares 1 for the prompt and tan((1 - weight) pi / 2) for each such part, over their sum.
    """
    weighed = from_empty(z, chunk, empty, ask)
    total, share = weighed, 1.0
    place = 1  # behind the start
    for _, group in groupby(chunk.tokens, key=lambda token: token.piece):
        part = list(group)
        if part[0].weight < 1.0:
            seen = [not place <= at < place + len(part) for at in range(len(chunk.ids))]
            lerp = math.tan((1.0 - max(LEAST, part[0].weight)) * math.pi / 2.0)
            total = total + from_empty(ask(chunk.ids, seen), chunk, empty, ask) * lerp
            share += lerp
        place += len(part)
    return total / share


def _column(z: Tensor, chunk: Chunk) -> Tensor:
    """The weights as [1, L, 1], on the device and in the dtype of z."""
    return z.new_tensor(chunk.weights).reshape(1, -1, 1)


@dataclass(frozen=True)
class Emphasis:
    """One way to read weights.

    Attributes:
        what: in a few words.
        read: a text -> sections of weighted pieces. lay: sections -> chunks. weigh: what a weight does.
        scheduled: whether the text may change from step to step.
        composed: whether it may hold several prompts; see ``encoders/shares.py``.
    """

    what: str
    read: Callable[[str], Sections]
    lay: Callable[[ClipTokenizer, Sections], Laid]
    weigh: Weigh
    scheduled: bool = False
    composed: bool = False


EMPHASES: dict[str, Emphasis] = {
    "none": Emphasis("no sign means anything; cut at one chunk", prompt.literal, chunks.one, from_empty),
    "a1111": Emphasis(
        what="(a:1.2), (a), [a], BREAK, AND, [a:b:0.5], [a|b]; any length",
        read=prompt.a1111,
        lay=chunks.by_comma,
        weigh=by_mean,
        scheduled=True,
        composed=True,
    ),
    "comfyui": Emphasis("(a:1.2), (a); any length", prompt.comfyui, chunks.by_part, from_empty),
    "compel": Emphasis("a++, a--, (a b)1.2; cut at one chunk", compel, chunks.one, towards_absence),
}


def emphasis(name: str) -> Emphasis:
    """The way of this name; UnknownNameError where there is none."""
    if name not in EMPHASES:
        raise UnknownNameError("emphasis", name, EMPHASES)
    return EMPHASES[name]


def script(text: str, name: str, steps: int) -> list[str]:
    """What one prompt says at each of its steps, every one of them checked.

    Raises:
        PromptError: a sign that cannot be meant. UnknownNameError: no such emphasis.
    """
    row = emphasis(name)
    said = turns(text, steps) if row.scheduled else [text] * steps
    for each in dict.fromkeys(said):
        row.read(each)
    return said


def lay(tokenizer: ClipTokenizer, text: str, name: str) -> Laid:
    """A prompt, as it stands at one step, in chunks.

    Raises:
        PromptError: a sign that cannot be meant, or more than 128 chunks. UnknownNameError: no such emphasis.
    """
    row = emphasis(name)
    laid = row.lay(tokenizer, row.read(text))
    if len(laid.chunks) > MOST:
        raise PromptError(f"the prompt takes {len(laid.chunks)} chunks of {tokenizer.room} tokens; {MOST} are the most")
    return laid


def weighed(chunks: Sequence[Chunk], name: str, empty: Sequence[int], read: Read) -> tuple[list[Tensor], Tensor]:
    """What an encoder says of each chunk, with the weights, and the pooled text of the first, which has none.

    Every chunk is read alone, so its numbers do not depend on how many there are.

    Args:
        name: of the emphasis. empty: the row of the empty prompt. read: asks the encoder.
    """
    columns, pooled = [], []
    for each in chunks:
        z, whole = read(each.ids, None)
        if each.weighted:
            z = emphasis(name).weigh(z, each, empty, lambda ids, seen: read(ids, seen)[0])
        columns.append(z)
        pooled.append(whole)
    return columns, pooled[0]
