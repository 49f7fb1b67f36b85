"""Several prompts in one, each with a weight: ``a AND b :0.5``, in A1111's signs.

Source: the documented behaviour of A1111's web UI ("Composable Diffusion"): capital AND between prompts, a colon and a
number at the end of each, 1 where there is none. Each prompt is read for itself, chunks and changes of steps included.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from safelight.encoders.emphasis import emphasis, script
from safelight.encoders.prompt import COMPOSED, number
from safelight.errors import PromptError

MOST = 16
"""Prompts in one; every one of them costs as much as a picture alone."""
WEIGHT = re.compile(r":\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\Z")


class Share(NamedTuple):
    """One prompt, and how much it counts: below 0 it is led away from."""

    text: str
    weight: float = 1.0


def shares(text: str, name: str) -> tuple[Share, ...]:
    """The prompts in one: a single one of weight 1 where there is no AND, or where it means nothing.

    Args:
        name: of the emphasis.

    Raises:
        PromptError: a weight above 100, or too many prompts. UnknownNameError: no such emphasis.
    """
    parts = COMPOSED.split(text) if emphasis(name).composed else [text]
    if len(parts) == 1:
        return (Share(text),)
    if len(parts) > MOST:
        raise PromptError(f"{len(parts)} prompts are joined by AND; {MOST} are the most")
    return tuple(_share(part.strip()) for part in parts)


def spoken(text: str, name: str, steps: int) -> list[str]:
    """Everything that a prompt says at any of its steps, without the signs; see `script`."""
    said = dict.fromkeys(each for share in shares(text, name) for each in script(share.text, name, steps))
    return ["".join(piece.text for pieces in emphasis(name).read(each) for piece in pieces) for each in said]


def _share(text: str) -> Share:
    found = WEIGHT.search(text)
    return Share(text) if found is None else Share(text[: found.start()].rstrip(), number(found[1]))
