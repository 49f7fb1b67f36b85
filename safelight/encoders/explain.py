"""How a prompt will be read, told before anything is drawn: what stands at which step, in what tokens and chunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from safelight.encoders.chunks import Laid
from safelight.encoders.emphasis import lay, script
from safelight.encoders.shares import shares
from safelight.encoders.tokenizer import ClipTokenizer


@dataclass(frozen=True)
class Stage:
    """What a prompt says at some of its steps.

    Attributes:
        text: what stands there. steps: at which, counted from 1.
        share: of which prompt, counted from 1, and its weight; None where there is only one.
        laid: the name of each text encoder -> how it is laid out for that encoder.
    """

    text: str
    steps: tuple[int, ...]
    laid: Mapping[str, Laid]
    share: tuple[int, float] | None = None

    @property
    def spans(self) -> list[tuple[int, int]]:
        """The steps as (first, last) of each run of neighbours."""
        runs = [list(run) for _, run in groupby(enumerate(self.steps), key=lambda pair: pair[1] - pair[0])]
        return [(run[0][1], run[-1][1]) for run in runs]

    def table(self) -> dict[str, Any]:
        """Everything as JSON would have it."""
        encoders = {}
        for name, laid in self.laid.items():
            chunks = [
                {
                    "tokens": [{"id": token.id, "text": token.text, "weight": token.weight} for token in chunk.tokens],
                    "ids": chunk.ids,
                    "border": chunk.border,
                }
                for chunk in laid.chunks
            ]
            encoders[name] = {"chunks": chunks, "cut": laid.cut}
        told = {"text": self.text, "steps": self.steps, "encoders": encoders}
        return told if self.share is None else {**told, "prompt": self.share[0], "weight": self.share[1]}


def explain(tokenizers: Mapping[str, ClipTokenizer], text: str, emphasis: str, steps: int) -> list[Stage]:
    """What a prompt says, in the order in which it first says it; of several in one, one after the other.

    Args:
        tokenizers: the name of each text encoder and its tokenizer.
        emphasis: a name of ``encoders/emphasis.py``. steps: of the whole schedule.

    Raises:
        PromptError, UnknownNameError: see `lay` and `script`.
    """
    stages, several = [], shares(text, emphasis)
    for place, share in enumerate(several, 1):
        said: dict[str, list[int]] = {}
        for step, each in enumerate(script(share.text, emphasis, steps), 1):
            said.setdefault(each, []).append(step)
        for each, when in said.items():
            laid = {name: lay(tokenizer, each, emphasis) for name, tokenizer in tokenizers.items()}
            stages.append(Stage(each, tuple(when), laid, (place, share.weight) if len(several) > 1 else None))
    return stages
