"""A control network as a request uses it: hints, strength, a share of the steps, and guessing without a prompt.

Axes: W rows of a call, C_0 channels of the finest level, h w grid of latents. Source: Zhang et al. 2023, section 3; the
released pipelines for what strength, start, end and guessing mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from safelight.adapters.controlnet.model import ControlNet, weighed
from safelight.adapters.controlnet.union import KINDS, ControlNetUnion, Shown
from safelight.adapters.fitting import check_fit
from safelight.adapters.loaded import Loaded
from safelight.adapters.picture import STRONGEST, check_hint, fingerprint, to_hint, to_hole
from safelight.adapters.rows import added, own
from safelight.adapters.use import WHOLE, Aids, Call, Place, Span
from safelight.core.path import Level
from safelight.errors import RequestError, UnknownNameError
from safelight.families.family import Model
from safelight.families.sd.model import Added
from safelight.nn.ports import Ports


@dataclass(frozen=True)
class Hint:
    """What a control network is shown.

    Attributes:
        picture: of the shape of what is drawn; it is fitted where its size differs.
        hole: white where the picture says nothing, for networks that repaint; None shows all.
        kind: for union networks, a name of `KINDS` or its number from 0; None for the others.
        strength: how much it counts beside the other hints of a union network.
    """

    picture: Image
    hole: Image | None = None
    kind: str | int | None = None
    strength: float = 1.0


@dataclass(frozen=True)
class ControlUse:
    """Let a control network guide a picture.

    Attributes:
        control: the network. hints: one, or several of a union network.
        strength: 0 (nothing) to 2, 1 is as trained.
        span: the share of the steps in which it works.
        guess: count fine levels less and leave what is led away from alone, so that no prompt is needed.
    """

    control: Loaded[ControlNet]
    hints: tuple[Hint, ...]
    strength: float = 1.0
    span: Span = WHOLE
    guess: bool = False

    @property
    def seeded(self) -> bool:
        """What it sees does not depend on the seed."""
        return False

    def check(self, model: Model, size: tuple[int, int]) -> None:
        """Refuse early.

        Raises:
            RequestError: the network is of another family, or its numbers cannot be meant. ImageError: the picture is
                of another shape, or holds no colours.
        """
        what, net = f"ControlNet {self.control.name}", self.control.network
        check_fit(what, net.config, net.conv_in.weight.device, model)
        self.span.check(what)
        for strength in (self.strength, *(hint.strength for hint in self.hints)):
            if not 0.0 <= strength <= STRONGEST:
                raise RequestError(f"{what}: a strength lies between 0 and {STRONGEST:g}, not at {strength}")
        if isinstance(net, ControlNetUnion):
            kinds = [kind_of(hint.kind, net) for hint in self.hints]
            if not kinds or len(set(kinds)) < len(kinds):
                raise RequestError(f"{what}: shows a union network at least one hint, and each kind once")
        elif len(self.hints) != 1 or self.hints[0].kind is not None:
            raise RequestError(f"{what} is shown one hint, of the kind that it was made for; give one without a kind")
        for hint in self.hints:
            check_hint(hint.picture, size, what)
            if hint.hole is not None:
                check_hint(hint.hole, size, f"{what}, the hole")

    @torch.no_grad()
    def ready(self, place: Place) -> Aids:
        """Look at the hints once."""
        if not self.strength:
            return Aids(None, None)
        net, stride = self.control.network, place.model.latent.stride
        width, height = (edge // stride * net.config.stride for edge in place.size)
        seen = [net.look(self._shown(hint, (width, height))) for hint in self.hints]
        aid = Controlled(self, tuple(seen), place.levels)
        # One aid for both sides asks the network once a call.
        return Aids(aid, None if self.guess or net.config.global_pool_conditions else aid)

    def told(self) -> Mapping[str, Any]:
        """What a recipe says of it."""
        hints = [
            {
                **fingerprint(hint.picture),
                **({"hole": fingerprint(hint.hole)} if hint.hole is not None else {}),
                **({"kind": hint.kind, "strength": hint.strength} if hint.kind is not None else {}),
            }
            for hint in self.hints
        ]
        return {
            "kind": "controlnet",
            "name": self.control.name,
            "files": self.control.hashes,
            "hints": hints,
            "strength": self.strength,
            "span": list(self.span),
            "guess": self.guess,
        }

    def _shown(self, hint: Hint, size: tuple[int, int]) -> Tensor:
        """[1, channels, H, W] in [0, 1], -1 in the hole."""
        net = self.control.network
        shown = to_hint(hint.picture, size, net.config.conditioning_channels)
        if hint.hole is not None:
            shown = shown.masked_fill(to_hole(hint.hole, size), -1.0)
        return shown.to(net.conv_in.weight)


@dataclass(frozen=True, eq=False)
class Controlled:
    """A `ControlUse` made ready; ``seen`` is [1, C_0, h, w] a hint."""

    use: ControlUse
    seen: tuple[Tensor, ...]
    levels: Sequence[Level]

    def on(self, level: Level) -> bool:
        """Whether the level lies in the share of the steps."""
        return self.use.span.holds(self.levels, level)

    def ports(self, call: Call, rows: Tensor, inner: Ports) -> Ports:
        """``inner`` with the residuals of its rows."""
        net, use = self.use.control.network, self.use
        x, told = call.x.to(net.conv_in.weight.dtype), call.told.to(net.conv_in.weight)
        asked = Added(pooled=told.pooled, times=told.times, labels=told.labels)
        strength = use.strength
        if isinstance(net, ControlNetUnion):
            shown = [
                Shown(kind_of(hint.kind, net), seen, hint.strength)
                for hint, seen in zip(use.hints, self.seen, strict=True)
            ]
            strength *= shown[0].strength if len(shown) == 1 else 1.0  # of several, each counts inside
            said = net(x, call.t, told.context, shown, added=asked)
        else:
            said = net(x, call.t, told.context, self.seen[0], added=asked)
        said = weighed(said, strength, guess=use.guess and not net.config.global_pool_conditions)
        middle = own(rows, said.middle.to(call.x.dtype))
        return replace(
            inner,
            residuals=added(rows, [skip.to(call.x.dtype) for skip in said.skips], inner.residuals),
            mid_residual=middle if inner.mid_residual is None else inner.mid_residual + middle,
        )


def kind_of(kind: str | int | None, net: ControlNetUnion) -> int:
    """The number of a kind of hints.

    Raises:
        UnknownNameError: no such kind. RequestError: none is named, or the network does not know it.
    """
    known = KINDS[: net.config.num_control_type]
    if kind is None:
        raise RequestError(f"a union network is told the kind of each hint: {', '.join(known)}")
    if isinstance(kind, str):
        if kind not in known:
            raise UnknownNameError("kind of hint", kind, known)
        return known.index(kind)
    if not 0 <= kind < net.config.num_control_type:
        raise RequestError(f"a kind of hint is 0 to {net.config.num_control_type - 1}, not {kind}")
    return kind
