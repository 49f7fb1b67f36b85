"""What XL's networks are told beside the text, in numbers: sizes, crops, and the refiner a score of beauty.

Axes: [1, 6] original height and width, top and left of the crop, target height and width, in pixels; the refiner's
[1, 5] end in the score instead of the target. Source: Podell et al. 2023, section 2.2; the released pipelines.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from safelight.families.family import Fact, Prompt
from safelight.families.sd.model import UNetConfig

SIZES = {"original": Fact(2), "crop": Fact(2), "target": Fact(2)}
SCORE, NEGATIVE_SCORE = 6.0, 2.5
"""Of pictures that are wanted and led away from, out of 10: those of the released pipeline."""
REFINED = 5
"""How many numbers a refiner is told; XL itself is told six."""


def names(count: int) -> Mapping[str, Fact]:
    """What a network that is told ``count`` numbers can be told; each fact has a negative beside it."""
    told = SIZES if count > REFINED else {"original": Fact(2), "crop": Fact(2), "score": Fact(1)}
    known = told if count else {}
    return {**known, **{f"negative-{name}": fact for name, fact in known.items()}}


def count(config: UNetConfig, pooled: int) -> int:
    """How many numbers a network is told whose pooled text is ``pooled`` wide; 0 for those that are told none."""
    if not config.addition_embed_type:
        return 0
    rest, width = (config.projection_class_embeddings_input_dim or 0) - pooled, config.addition_time_embed_dim or 1
    return rest // width if rest > 0 and rest % width == 0 else -1


def times(prompt: Prompt, count: int, device: torch.device) -> Tensor:
    """The numbers [1, count]; a fact that is not given of the negative prompt is that of the prompt."""

    def fact(name: str, usual: tuple[float, ...]) -> tuple[float, ...]:
        told = prompt.facts.get(name, usual)
        return prompt.facts.get(f"negative-{name}", told) if prompt.negative else told

    width, height = fact("original", prompt.size)
    left, top = fact("crop", (0.0, 0.0))
    row = [height, width, top, left]
    if count == REFINED:
        score = prompt.facts.get("negative-score", (NEGATIVE_SCORE,)) if prompt.negative else fact("score", (SCORE,))
        row += score
    else:
        row += reversed(fact("target", prompt.size))
    return torch.tensor([row], dtype=torch.float32, device=device)
