"""A scale of its own for each thing that a network of views is told: it is told one more, and led on by what that adds.

    x0 = x0(nothing) + sum over i of w_i (x0(told 1 to i) - x0(told 1 to i - 1))

With equal scales this is plain guidance away from nothing. Source: Brooks et al. 2211.09800 eq. 3 (InstructPix2Pix), of
a picture and a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from torch import Tensor

from safelight.core.guidance import CFG, Guidance
from safelight.core.guides.push import Push
from safelight.core.guides.scale import Scale
from safelight.errors import RequestError, UnknownNameError
from safelight.multiview.network import Conditions
from safelight.multiview.presets import HIDES, Preset

TOLD: Final = {"portrait": ("hidden", "reference"), "text": ("text",), "normals": ("normals",)}
"""What can have a scale of its own -> the inputs of a preset that it is made of."""


def in_turn(
    preset: Preset, told: Conditions, negative: Tensor, scales: Mapping[str, Scale]
) -> tuple[Guidance, dict[str, Conditions]]:
    """The rule, and what each of its branches is told: one branch more than there are scales.

    Args:
        told: all, one row. negative: [1, M, X], the text that stands where none is told.
        scales: by names of `TOLD`, in the order in which they are told; 1 as the network says it, 0 not at all.

    Raises:
        UnknownNameError: another name. RequestError: no scales, one of what the network does not read, or see
            `Preset.without`.
    """
    inputs: dict[str, list[str]] = {}
    for name in scales:
        if name not in TOLD:
            raise UnknownNameError("thing with a scale of its own", name, TOLD)
        inputs[name] = [each for each in TOLD[name] if preset.unconditional.get(each) in HIDES]
        inputs[name] += [each for each in TOLD[name] if each in preset.shown]
        if not inputs[name]:
            raise RequestError(f"{preset.title}: reads no {name}; leave its scale out, or choose a model that does")
    if not scales:
        raise RequestError(f"guidance needs a scale for one or more of {', '.join(TOLD)}")
    first, *others = scales
    hidden = [each for name in scales for each in inputs[name]]
    conds = {"uncond": preset.without(told, negative, hidden)}
    rule: Guidance = CFG(scales[first])
    before = "cond"
    conds[before] = preset.without(told, negative, hidden := hidden[len(inputs[first]) :])
    for name in others:
        branch = f"cond and {name}"
        conds[branch] = preset.without(told, negative, hidden := hidden[len(inputs[name]) :])
        rule, before = Push(rule, before, scales[name], base=branch), branch
    return rule, conds
