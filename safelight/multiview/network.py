"""A stock U-Net that draws sets of views: views as rows of its batch, everything else through its ports.

Axes: B rows (one portrait each), Z channels of latents, V views, S = V slots, or V + 1 with a reference, h w grid, M
text tokens of width X, L tokens of the image encoder of width E, K numbers of a camera.
Sources: Shi et al. 2308.16512 (MVDream: layout, camera); Wang & Shi 2312.02201, section 3 (ImageDream: a slot for the
reference, the picture's own keys and values); Tang et al. 2412.10209, section 3.3 (GAF: normals beside the latents);
Long et al. 2310.15008, section 4.3 (Wonder3D: domains); Li et al. 2405.11616 (Era3D: a guess).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from safelight.adapters.ip_adapter.model import IpNetwork, numbered
from safelight.errors import RequestError
from safelight.families.family import Rows
from safelight.families.sd.model import Added, UNet
from safelight.multiview.guess import ascent
from safelight.multiview.layouts import Layout, Views, override
from safelight.multiview.second import Second, between
from safelight.nn.attention import Attention, Beside, split_heads
from safelight.nn.ports import NO_PORTS, Ports
from safelight.nn.widen import WidenedConv


@dataclass(frozen=True)
class Conditions(Rows):
    """What the network is told of a set of views; a ``Cond``. What a network does not read stays None.

    Attributes:
        context: [B, M, X] text, the same for all views, or [B, V, M, X], each view its own.
        cameras: [B, V, K], what an encoder of `safelight.multiview.encode` says of them; None tells nothing.
        embedding: [B, K], the picture's projection and how noisy it is, where the network is told that and no camera.
        hidden: [B, L, E], the last layer but one of the image encoder, of the reference.
        reference: [B, Z, h, w], its clean latents, which stand in a slot of their own at every step.
        shown: [B, C, V, h, w], what stands beside the latents, such as encoded normals.
        beside_reference: [B, C, h, w], the same for the reference; None shows zeros.
    """

    context: Tensor
    cameras: Tensor | None = None
    embedding: Tensor | None = None
    hidden: Tensor | None = None
    reference: Tensor | None = None
    shown: Tensor | None = None
    beside_reference: Tensor | None = None

    def only(self, views: Tensor) -> Conditions:
        """What is told of some of the views, whose numbers are given [v], in their order."""
        context = self.context[:, views] if self.context.ndim == 4 else self.context
        cameras = None if self.cameras is None else self.cameras[:, views]
        shown = None if self.shown is None else self.shown[:, :, views]
        return replace(self, context=context, cameras=cameras, shown=shown)


class ViewNetwork(nn.Module):
    """A U-Net over sets of views.

    Args:
        unet: a stock one. Where it is told cameras, its ``class_embed_type`` is ``projection``.
        layout: who reads whom in self-attention.
        picture: keys and values of the reference's own, where the text is read; None where there are none.
        slot: whether the clean reference stands behind the views, with a camera of zeros.
        domains: the V views are so many times as many, such as normals and colours; with ``slot`` it is 1.
        second: a second self-attention, of a U-Net that has the layers; None where there is none.
        guesses: whether the U-Net guesses the picture's camera; see `safelight.multiview.guess`.
        embedded: whether the U-Net's class embedding is told the picture's projection, not cameras.
        picture_scale: how much the picture counts beside the text.
        chunk: see `safelight.multiview.layouts.read`.

    Raises:
        RequestError: a slot beside several domains.
    """

    def __init__(
        self,
        unet: UNet,
        layout: Layout,
        picture: IpNetwork | None = None,
        *,
        slot: bool = False,
        domains: int = 1,
        second: Second | None = None,
        guesses: bool = False,
        embedded: bool = False,
        picture_scale: float = 1.0,
        chunk: int = 0,
    ) -> None:
        super().__init__()
        if slot and domains > 1:
            raise RequestError("a slot for the reference stands behind views of one domain only")
        self.unet, self.picture = unet, picture
        self.layout, self.slot, self.domains, self.second = layout, slot, domains, second
        self.guesses, self.embedded = guesses, embedded
        self.picture_scale, self.chunk = picture_scale, chunk
        self._numbers = {layer.name: number for number, layer in enumerate(numbered(unet))}

    def forward(self, x: Tensor, t: Tensor, told: Conditions, ports: Ports = NO_PORTS) -> Tensor:
        """One prediction for every view.

        Args:
            x: [B, Z, V, h, w] noisy latents. t: [B] time labels.
            ports: what adapters feed, for the B * S pictures in the order (row, slot); ``override`` is the layout's,
                ``between`` that of the second self-attention.

        Returns:
            [B, Z', V, h, w].

        Raises:
            RequestError: something that the network reads is missing, or of another shape, or is not read at all.
        """
        self._check(x, told)
        if any(port is not None for port in (ports.override, ports.between, ports.ascent)):
            raise RequestError("views read each other in self-attention; what replaces it does not go with them")
        rows, views = len(x), x.shape[2]
        pictures = self._pictures(x, told)
        slots = pictures.shape[2]
        flat = pictures.transpose(1, 2).flatten(0, 1)
        grid = Views(slots // self.domains, x.shape[3], x.shape[4], self.domains)
        laid = replace(ports, override=override(self.layout, grid, self.chunk))
        if self.second is not None:
            laid = replace(laid, between=between(self.unet, self.second, grid, self.chunk))
        if self.guesses:
            laid = replace(laid, ascent=ascent(self.unet, grid))
        if self.picture is not None:
            assert told.hidden is not None
            laid = replace(laid, beside=self._beside(self.picture.image_proj(told.hidden), slots, ports.beside))
        context = told.context.repeat_interleave(slots, 0) if told.context.ndim == 3 else told.context.flatten(0, 1)
        out = self.unet(flat, t.repeat_interleave(slots, 0), context, added=self._added(told, slots), ports=laid)
        return out.unflatten(0, (rows, slots)).transpose(1, 2)[:, :, :views]

    def _pictures(self, x: Tensor, told: Conditions) -> Tensor:
        """[B, Z + C, S, h, w]: the views, behind them the reference, beside both what is shown."""
        if self.slot:
            assert told.reference is not None
            x = torch.cat([x, told.reference[:, :, None]], dim=2)
        if told.shown is None:
            return x
        shown = told.shown
        if self.slot:
            own = torch.zeros_like(shown[:, :, 0]) if told.beside_reference is None else told.beside_reference
            shown = torch.cat([shown, own[:, :, None]], dim=2)
        return torch.cat([x, shown], dim=1)

    def _added(self, told: Conditions, slots: int) -> Added:
        """The picture, or the cameras of all slots, that of the reference zeros."""
        if told.embedding is not None:
            return Added(labels=told.embedding.repeat_interleave(slots, 0))
        if told.cameras is None:
            return Added()
        empty = told.cameras.new_zeros(len(told.cameras), slots - told.cameras.shape[1], told.cameras.shape[2])
        return Added(labels=torch.cat([told.cameras, empty], dim=1).flatten(0, 1))

    def _beside(self, tokens: Tensor, slots: int, inner: Beside | None) -> Beside:
        """What every slot of a row reads of the row's picture beside the text."""
        assert self.picture is not None
        picture = self.picture

        def beside(name: str, layer: Attention, q: Tensor, y: Tensor) -> Tensor:
            y = y if inner is None else inner(name, layer, q, y)
            pair = picture.layer(self._numbers[name]).pair(tokens)
            k, v = (split_heads(each, layer.heads).repeat_interleave(slots, 0) for each in pair)
            return y + self.picture_scale * layer.read(q, k, v)

        return beside

    def _check(self, x: Tensor, told: Conditions) -> None:
        """RequestError where what is told is not what the network reads."""
        if x.ndim != 5 or x.shape[2] < 1 or x.shape[2] % self.domains:
            split = f"V in {self.domains} domains" if self.domains > 1 else "V above 0"
            raise RequestError(f"latents of views are [B, Z, V, h, w], {split}, not {list(x.shape)}")
        batch, channels, views, *size = x.shape
        config = self.unet.config
        width, extra = config.projection_width if config.class_embed_type else 0, config.in_channels - channels
        each = (views + self.slot,) if told.context.ndim == 4 else ()
        wanted: dict[str, tuple[bool, tuple[int, ...]]] = {
            "context": (True, (batch, *each, -1, config.cross_attention_dim)),
            "cameras": (False, (batch, views, width) if width and not self.embedded else ()),
            "embedding": (True, (batch, width) if self.embedded else ()),
            "hidden": (True, (batch, -1, self.picture.plan.source) if self.picture else ()),
            "reference": (True, (batch, channels, *size) if self.slot else ()),
            "shown": (True, (batch, extra, views, *size) if extra else ()),
            "beside_reference": (False, (batch, extra, *size) if extra and self.slot else ()),
        }
        for name, (needed, shape) in wanted.items():
            found = getattr(told, name)
            if found is None and needed and shape:
                raise RequestError(f"these views need {name} of shape {_said(shape)}; it was not given")
            if found is not None and not shape:
                raise RequestError(f"this network of views reads no {name}; leave it out")
            if found is not None and not _fits(found.shape, shape):
                raise RequestError(f"{name} of these views is {_said(shape)}, not {list(found.shape)}")


def beside(parts: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """What stands beside the latents, as fields of `Conditions`.

    Args:
        parts: for each kind, in order, its channels beside the views [B, C, V, h, w] and the reference [B, C, h, w].
    """
    if not parts:
        return {}
    views, own = zip(*parts, strict=True)
    return {"shown": torch.cat(views, 1), "beside_reference": torch.cat(own, 1)}


def widened(unet: UNet, extra: int) -> UNet:
    """The same U-Net, which reads ``extra`` channels more and does not heed them yet: its answers keep every bit.

    Changes it where it is, and gives it back.
    """
    unet.conv_in = WidenedConv(unet.conv_in, extra)
    unet.config = replace(unet.config, in_channels=unet.config.in_channels + extra)
    return unet


def _fits(found: Sequence[int], wanted: Sequence[int]) -> bool:
    return len(found) == len(wanted) and all(w in (-1, f) for f, w in zip(found, wanted))


def _said(shape: Sequence[int]) -> str:
    return str(["any" if edge == -1 else edge for edge in shape]).replace("'", "")
