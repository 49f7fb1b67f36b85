"""Zero123++: six views of a rig at once, drawn by a plain U-Net that reads the given picture in every self-attention.

The picture's latents are made as noisy as the views and go through the same U-Net, whose self-attention layers are
written down (`safelight.adapters.bank`); the views' layers then read their own tokens and those beside them. CLIP's
projection of the picture, times a learned number for each place, is added to the text.

Axes: B rows (one portrait each), [B, Z, 6, h, w] latents of views, [B, Z, h', w'] of the picture, M text tokens, X
their width. Source: Shi et al. 2310.15110, sections 2.1 to 2.3; the released pipeline.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import torch
from PIL import Image
from torch import Tensor, nn

from safelight.adapters.bank import Written, lend, noise_on, read, write
from safelight.adapters.picture import check_hint, over
from safelight.core.camera import Camera
from safelight.core.noise import draw, key
from safelight.core.similarity import Similarity
from safelight.encoders.clip_pixels import ClipPixels
from safelight.encoders.viewer import Viewer
from safelight.errors import RequestError
from safelight.families.family import Prompt, Rows
from safelight.families.sd.parts import Parts
from safelight.families.sd.scheduler import Plan
from safelight.families.sd.wiring import encode
from safelight.multiview.presets import Preset
from safelight.multiview.rig import rig
from safelight.multiview.zero123plus.tile import COLUMNS, ROWS, apart, tiled
from safelight.nn.attention import Attention
from safelight.nn.ports import NO_PORTS, Ports, SelfAttention
from safelight.vae.latent import LatentSpec

SHIFT: Final = 0.22
SPREAD: Final = 0.75
"""The network sees (z - SHIFT) SPREAD of the latents z as Stable Diffusion scales them."""


@dataclass(frozen=True)
class Told(Rows):
    """What the network is told of each row; a ``Cond``.

    Attributes:
        context: [B, M, X] text with the picture in it.
        reference: [B, Z, h', w'], the picture's latents as drawn from the autoencoder, not scaled.
        seed: [B] whole numbers, of the noise that is laid on the reference.
    """

    context: Tensor
    reference: Tensor
    seed: Tensor

    def stretch(self, times: int) -> Told:
        """The text ``times`` over: attention takes the mean of equal tokens, so nothing changes but the length."""
        return replace(self, context=self.context.repeat(1, times, 1))


@dataclass(frozen=True)
class Zero123Plus:
    """A loaded checkpoint. Frozen: several threads may draw from it at once.

    Attributes:
        parts: the U-Net, the autoencoder and the text encoder, as Stable Diffusion 2 has them.
        viewer: CLIP's image encoder. pixels: how the autoencoder is shown the picture.
        ramp: how much of CLIP's projection is added at each place of the text.
        plan: path, prediction and schedule.
        preset: its rig, and what its colours are.
        strength: how much of the reference is read: 1 = as trained; 0 = nothing, and then nothing is written either,
            and the network is the plain one.
    """

    parts: Parts
    viewer: Viewer
    pixels: ClipPixels
    ramp: tuple[float, ...]
    plan: Plan
    preset: Preset
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= 1.0:
            raise RequestError(f"the strength of the reference lies between 0 and 1, not {self.strength:g}")

    @property
    def latent(self) -> LatentSpec:
        """Shape and scale of what is drawn."""
        plain = self.parts.vae.config.latent()
        return replace(plain, scale=plain.scale * SPREAD, shift=plain.shift + SHIFT / plain.scale)

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """All networks."""
        return (self.parts.unet, self.parts.vae, *(each.encoder for each in self.parts.readers), self.viewer.encoder)

    def shape(self, edge: int | None = None) -> tuple[int, int, int, int]:
        """[Z, 6, h, w] of the latents of views of ``edge`` pixels a side; None = those of the rig.

        Raises:
            RequestError: the autoencoder makes no latents of this size.
        """
        edge = edge or rig(self.preset.rig).size
        channels, height, width = self.latent.shape(edge, edge)
        return channels, ROWS * COLUMNS, height, width

    @torch.no_grad()
    def tell(self, picture: Image.Image, seed: int = 0, text: str = "", negative: str = "") -> Mapping[str, Told]:
        """What the network is told, for ``cond``, and for ``uncond``: the negative text, no CLIP, a grey picture.

        Args:
            picture: a square one; transparency over grey, as the network was trained.
            seed: of the latents that are drawn of the picture, and of the noise on them.
            text: beside the picture; the network was trained with none.

        Raises:
            ImageError: a picture of another shape, or of no colours.
            RequestError: a text that is longer than the places of the ramp.
        """
        check_hint(picture, (1, 1), "the picture that views are drawn of")
        flat = over(picture, self.preset.background)
        weight = self.parts.unet.conv_in.weight
        seen = self.viewer.see([flat]).projected
        assert seen is not None
        steps = torch.tensor(self.ramp, dtype=seen.dtype, device=seen.device)[None, :, None]
        pixels = self.pixels([flat])
        cond = self._told(text, pixels, key(seed, 0, "views", "cond"))
        cond = replace(cond, context=cond.context + (seen[:, None] * steps).to(weight))
        return {"cond": cond, "uncond": self._told(negative, torch.zeros_like(pixels), key(seed, 0, "views", "uncond"))}

    def _told(self, text: str, pixels: Tensor, seed: int) -> Told:
        edge = rig(self.preset.rig).size
        words = encode(self.parts, Prompt(text, (COLUMNS * edge, ROWS * edge)))
        if words.cut:
            raise RequestError(
                f"{words.cut[0][:60]!r} does not fit into the {len(self.ramp)} places of the text; shorten it"
            )
        weight = next(self.parts.vae.parameters())
        gaussian = self.parts.vae.encode(pixels.to(weight.device, weight.dtype))
        drawn = gaussian.sample(draw(key(seed, "drawn"), tuple(gaussian.mean.shape[1:])).to(gaussian.mean))
        return Told(words.cond.context, drawn, torch.tensor([seed], device=weight.device))

    def write(self, t: Tensor, told: Told) -> Written:
        """What the network makes of the references, as noisy as what it calls t [B]: read by `predict`."""
        rows = []
        for each, label, seed in zip(told.reference.split(1), t.tolist(), told.seed.tolist(), strict=True):
            level = self.plan.path.level(label)
            rows.append(level.alpha * each + level.sigma * noise_on(seed, each)(level))
        unet = self.parts.unet

        def plain(x: Tensor, t: Tensor, told: Told, ports: Ports) -> Tensor:
            return unet(x, t, told.context, ports=ports)

        return write(plain, torch.cat(rows), t, told, spreads=False)

    def predict(
        self, x: Tensor, t: Tensor, told: Told, ports: Ports = NO_PORTS, written: Written | None = None
    ) -> Tensor:
        """What the network says of noisy views: [B, Z, 6, h, w], labels t [B] -> [B, Z, 6, h, w].

        Args:
            ports: see the whole tile.
            written: what `write` gave for the same t and told, where it is known already.

        Raises:
            RequestError: another number of views.
        """
        tile = tiled(x)
        if self.strength:
            override = self._override(written or self.write(t, told), ports)
            ports = replace(ports, override=override)
        return apart(self.parts.unet(tile, t, told.context, ports=ports))

    def _override(self, written: Written, inner: Ports) -> SelfAttention:
        def override(name: str, layer: Attention, x: Tensor) -> Tensor:
            def mixed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                both = read(layer, written.hidden[name], q, k, v)
                return both if self.strength == 1.0 else torch.lerp(layer.mix(q, k, v), both, self.strength)

            return lend(inner, layer, x, mixed)

        return override

    @torch.no_grad()
    def decode(self, x: Tensor) -> Iterator[Tensor]:
        """The views of [1, Z, 6, h, w]: six [1, 3, H, W] in about [-1, 1].

        The tile is decoded as one, as it was trained: the autoencoder looks over the seams between the views.
        """
        weight = next(self.parts.vae.parameters())
        tile = self.parts.vae.decode(self.latent.unscaled(tiled(x)).to(weight.dtype))
        yield from apart(tile * self.preset.contrast).unbind(2)

    def cameras(self, azimuth: float = 0.0, size: int | None = None) -> Camera:
        """Where the views are taken from: [6], around the origin.

        Args:
            azimuth: degrees of the given picture's camera from the front; the views' count from it, their elevations do
                not count from its.
            size: pixels a side; None = those of the rig.
        """
        return rig(self.preset.rig).cameras(size).moved(Similarity.turned(azimuth))


@dataclass(eq=False)
class Remembering:
    """`Zero123Plus.predict` for one run, which writes nothing twice: where a question has the level, the texts and the
    references of the one before it, it reads what was written for that. At another level the noise is another.

    Attributes:
        model: who is asked.
        last: labels and record of the last question, and what was written for it.
    """

    model: Zero123Plus
    last: tuple[Tensor, Told, Written] | None = field(default=None, repr=False)

    def __call__(self, x: Tensor, t: Tensor, told: Told, ports: Ports = NO_PORTS) -> Tensor:
        """See `Zero123Plus.predict`, whose bits it gives."""
        if not self.model.strength:
            return self.model.predict(x, t, told, ports)
        if self.last is None or not (torch.equal(self.last[0], t) and same(self.last[1], told)):
            self.last = t, told, self.model.write(t, told)
        return self.model.predict(x, t, told, ports, self.last[2])


def same(one: Told, other: Told) -> bool:
    """Whether two records say the same to the last bit."""
    pairs = ((getattr(each, name) for each in (one, other)) for name in ("context", "reference", "seed"))
    return all(torch.equal(*pair) for pair in pairs)
