"""Uses at work on tiny networks: ours through ports, and the reference's, whose processors are written by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor

from safelight.adapters.use import Call, Place, Use
from safelight.core.noise import Fresh, key
from safelight.core.path import Level
from safelight.families.sd.model import Added, UNet
from safelight.nn.ports import NO_PORTS, Ports
from tests.generate.scenes import pipe
from tests.parity.networks import predict_reference, random

LEVELS = (Level(0.98, 0.199, 3.25), Level(0.2, 0.9798, 801.0))
"""Of the two rows of `tests.parity.networks.unet_inputs`."""
SEED = 7


def reference_latents(asked: dict[str, Any]) -> Tensor:
    """[1, 4, h, w] in the format of the network's inputs."""
    return random(1, *asked["x"].shape[1:], seed=30, dtype=asked["x"].dtype)


def reference_noise(asked: dict[str, Any]) -> Tensor:
    """The noise of both levels: a function of the seed and the level."""
    noise = Fresh(key(SEED, 0, "reference"), tuple(asked["x"].shape[1:]))
    return torch.cat([noise(level, level) for level in LEVELS]).to(asked["x"])


def noised(asked: dict[str, Any]) -> dict[str, Any]:
    """The same question about the reference, as noisy as each row."""
    alpha, sigma = (
        torch.tensor([getattr(level, name) for level in LEVELS], dtype=asked["x"].dtype)[:, None, None, None]
        for name in ("alpha", "sigma")
    )
    return {**asked, "x": alpha * reference_latents(asked) + sigma * reference_noise(asked)}


def with_uses(
    ours: UNet, asked: dict[str, Any], uses: Sequence[Use], sides: Sequence[str | None], inner: Ports = NO_PORTS
) -> Tensor:
    """One call, whose rows are of these sides of the guidance, or of strangers (None)."""
    told = {name: asked[name] for name in ("pooled", "times") if name in asked}
    added = Added(**told) if told else None

    def predict(x: Tensor, t: Tensor, record: Any, ports: Ports) -> Tensor:
        return ours(x, t, asked["context"], added=added, ports=ports)

    place = Place(pipe().model, (64, 64), (), SEED, lambda picture: reference_latents(asked))
    call = Call(asked["x"], asked["t"], None, predict, LEVELS)
    ports = inner
    for use in uses:
        cond, uncond = use.ready(place)
        for aid in dict.fromkeys(each for each in (cond, uncond) if each is not None):
            rows = torch.tensor([{"cond": cond, "uncond": uncond}.get(side or "") is aid for side in sides])
            if rows.any():
                ports = aid.ports(call, rows, ports)
    with torch.no_grad():
        return predict(asked["x"], asked["t"], None, ports)


class Twice:
    """A processor that keeps what it is shown in the first pass, and is handed it in the second."""

    def __init__(self, read: Callable[[Any, Tensor, Tensor], Tensor]) -> None:
        self.read = read
        self.kept: Tensor | None = None

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        if self.kept is None:
            self.kept = hidden_states.clone()
            return AttnProcessor2_0()(attn, hidden_states)
        return self.read(attn, hidden_states, self.kept)


def twice(theirs: Any, asked: dict[str, Any], read: Callable[[Any, Tensor, Tensor], Tensor]) -> Tensor:
    """What the reference says of a question after it was shown the noisy picture."""
    theirs.set_attn_processor(
        {name: Twice(read) if ".attn1." in name else AttnProcessor2_0() for name in theirs.attn_processors}
    )
    with torch.no_grad():
        predict_reference(theirs, noised(asked))
        return predict_reference(theirs, asked)
