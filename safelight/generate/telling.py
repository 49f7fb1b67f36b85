"""What a model of views is told of a request: first whether it can be told all of it, then the encoded inputs.

Axes: V views, S slots = V views of each domain, one domain after the other, [1, Z, S, h, w] latents, M X tokens of text
and their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from safelight.adapters.picture import check_hint, named, over
from safelight.core.camera import Camera
from safelight.errors import ImageError, RequestError
from safelight.figurines.render import portrait_camera
from safelight.generate.picture import to_tensor
from safelight.multiview.captions import captions
from safelight.multiview.encode import ENCODERS, encoder
from safelight.multiview.model import ViewModel
from safelight.multiview.network import Conditions, beside
from safelight.multiview.normals import AXES, misread
from safelight.multiview.presets import Preset
from safelight.multiview.rig import rig
from safelight.multiview.zero123.model import FOV, Told, Zero123

if TYPE_CHECKING:
    from safelight.generate.views import ViewRequest

NEAR = 0.5
"""Degrees by which views may stand beside a rig's."""


def check(preset: Preset, name: str, request: ViewRequest) -> None:
    """Refuse what a model cannot be told, or draws nothing without; nothing is loaded or computed.

    Args:
        name: of the model, for messages.

    Raises:
        RequestError: a portrait, a text, normals, a camera or views that it does not read, or the lack of one that it
            needs. ImageError: a picture of another shape, or normals in other axes.
    """
    if request.portrait is None and preset.pictured:
        raise RequestError(f"{name} draws views of a picture, and none was given; name one")
    if request.portrait is not None and not preset.pictured:
        raise RequestError(f"{name} reads no picture; leave it out, and say in a prompt what to draw")
    for what, text in (("prompt", request.prompt), ("negative prompt", request.negative)):
        if text is not None and not preset.prompted:
            raise RequestError(f"{name} reads no text; leave the {what} out")
    if preset.prompted and not preset.pictured and not (request.prompt or "").strip():
        raise RequestError(f"{name} draws what a text says, and none was given; give it a prompt")
    if request.own_camera is not None and "reference" not in _needs(preset):
        raise RequestError(f"{name} is not told where the picture was taken from; leave its camera out")
    _check_cameras(preset, name, request.cameras)
    _check_pictures(preset, name, request)


def _needs(preset: Preset) -> str:
    return ENCODERS[preset.camera].needs if preset.camera else ""


def _check_cameras(preset: Preset, name: str, cameras: Camera) -> None:
    """RequestError for lenses of which the model is not told, and for other views than it has, where it is told none;
    they may all be turned together."""
    if not (preset.camera and ENCODERS[preset.camera].maps) and bool((cameras.focal != cameras.focal[0]).any()):
        raise RequestError(f"{name} is not told of lenses, and these cameras have several; give all the same")
    if preset.free and cameras.projection != "perspective":
        raise RequestError(f"{name} draws what a lens shows, not {cameras.projection} views; give perspective cameras")
    if preset.free:
        return
    if not _of_rig(preset, cameras, rig(preset.rig).elevations):
        count = len(rig(preset.rig).azimuths)
        raise RequestError(f"{name} draws the {count} views of its rig {preset.rig!r}, no others; ask for those")


def _of_rig(preset: Preset, cameras: Camera, elevations: Sequence[float]) -> bool:
    """Whether cameras stand around as those of the preset's rig do, from wherever it is turned, at such heights."""
    own, asked = rig(preset.rig).cameras(), cameras.to(torch.float32, "cpu")
    if asked.shape != own.shape:
        return False
    (around, up, _), turned = asked.angles(), own.angles()[0]
    turns = (around - around[0] - turned + turned[0] + 180.0) % 360.0 - 180.0
    return bool((turns.abs() < NEAR).all()) and bool(((up - torch.tensor(elevations)).abs() < NEAR).all())


def _check_pictures(preset: Preset, name: str, request: ViewRequest) -> None:
    count = request.cameras.shape[0]
    if (request.normals or request.own_normals) and "normals" not in preset.shown:
        raise RequestError(f"{name} reads no normals; leave them out, or choose a model that does")
    if request.begin and (preset.tile or len(preset.domains) > 1):
        raise RequestError(f"{name} draws its views as one set with more than they show; leave the ones to refine out")
    for what, given in (("of normals", request.normals), ("to refine", request.begin)):
        if given and len(given) != count:
            raise RequestError(f"{len(given)} pictures {what} were given for {count} views; give one a view")
    for what, pictures in (
        ("portrait", [request.portrait]),
        ("normals", [*request.normals, request.own_normals]),
        ("views to refine", request.begin),
    ):
        for picture in pictures:
            if picture is not None:
                check_hint(picture, (preset.size, preset.size), f"the {what}")
    for number, picture in enumerate([*request.normals, request.own_normals]):
        if picture is not None and (why := misread(np.asarray(picture.convert("RGB")))):
            which = f"view {number}" if number < len(request.normals) else "the portrait"
            raise ImageError(f"the normals of {which}{named(picture)}: {why}; give them in the axes of {AXES}")


def texts(preset: Preset, request: ViewRequest) -> tuple[str, str]:
    """The prompt with what released scripts write behind it, and the negative one."""
    prompt = request.prompt or ""
    return prompt + preset.suffix if prompt else "", request.negative or ""


def told_apart(own: Zero123, request: ViewRequest, elevation: float) -> dict[str, Conditions]:
    """What Zero123 is told of each view, for ``cond`` and ``uncond``.

    Args:
        elevation: of the picture's camera in degrees, where the request does not say.
    """
    assert request.portrait is not None
    cameras, reference = request.cameras, _reference(request, elevation)

    def said(told: Told) -> Conditions:
        shown = told.shown[:, :, None].expand(-1, -1, told.context.shape[1], -1, -1)
        return Conditions(context=told.context, shown=shown)

    return {name: said(told) for name, told in own.tell(request.portrait, cameras, reference).items()}


def doubts(model: ViewModel, request: ViewRequest) -> tuple[str, ...]:
    """What to expect of cameras that are not those of a model's training, where the model knows."""
    preset = model.preset
    if isinstance(model.own, Zero123):
        return model.own.doubts(request.cameras, _reference(request, preset.elevation))
    if not (preset.rig and preset.free) or _of_rig(preset, request.cameras, [float(preset.elevation)]):
        return ()
    around = ", ".join(f"{azimuth:g}" for azimuth in rig(preset.rig).azimuths)
    return (
        f"{model.name}: its own scripts draw {len(rig(preset.rig).azimuths)} views, {around} degrees around and "
        f"{preset.elevation:g} up; expect others to be worse",
    )


def _reference(request: ViewRequest, elevation: float) -> Camera:
    """Where the picture was taken from; by default in front, from as far as the first view."""
    if request.own_camera is not None:
        return request.own_camera
    distance = float(request.cameras.angles()[2][0])
    return Camera.orbit(0.0, elevation, distance, fov=FOV, dtype=request.cameras.position.dtype)


@torch.no_grad()
def conditions(model: ViewModel, request: ViewRequest) -> tuple[Conditions, Tensor]:
    """What the network is told, one row in float32, and the text that it is led away from, [1, M, X]."""
    preset, slots = model.preset, request.cameras.shape[0] * len(model.preset.domains)
    device = next(model.network.parameters()).device
    seen, latents = None, None
    if request.portrait is not None:
        flat = over(request.portrait, preset.background)
        latents = encode(model, [flat])
        seen = None if model.readers.viewer is None else model.readers.viewer.see([flat])
    parts = []
    if preset.maps:
        parts.append(_maps(preset, request.cameras.resized(model.shape[1]), device))
    if "normals" in preset.shown:
        parts.append(_normals(model, request))
    if "reference" in preset.shown:
        assert latents is not None
        parts.append((latents[:, :, None].expand(-1, -1, slots, -1, -1), latents))
    stands = beside(parts)
    if not preset.slot:
        stands.pop("beside_reference", None)
    projected = None if seen is None else seen.projected
    context, negative = _context(model, request, projected, device)
    noising = model.readers.noising
    return Conditions(
        context=context,
        cameras=_cameras(preset, request.cameras, device) if preset.camera and not preset.maps else None,
        embedding=None if noising is None or projected is None else noising.tell(projected, request.seed).float(),
        hidden=seen.hidden[-2].float() if seen is not None and preset.tokens else None,
        reference=latents if preset.slot else None,
        **stands,
    ), negative


def _context(
    model: ViewModel, request: ViewRequest, projected: Tensor | None, device: torch.device
) -> tuple[Tensor, Tensor]:
    """What stands where the U-Net reads a text: [1, M, X], or [1, S, M, X], each slot its own; and what stands there
    where guidance leads away from a text."""
    if model.preset.prompted:
        each = model.readers.read(texts(model.preset, request)).float()
        return each[:1], each[1:]
    if model.readers.text is not None:
        own = model.readers.read(captions(model.preset.domains))[None].float()
        return own, own
    if projected is not None:
        return projected[:, None].float(), projected[:, None].float()
    zeros = torch.zeros(1, 1, model.width, device=device)
    return zeros, zeros


def _cameras(preset: Preset, cameras: Camera, device: torch.device) -> Tensor:
    """[1, S, C], or [1, V, C]: what is told of the views, of each domain in turn where it is told which one it is."""
    own, function = cameras.to(torch.float32, device), encoder(preset.camera).function
    if _needs(preset) == "domain":
        return torch.cat([function(own, domain) for domain in preset.domains])[None]
    return function(own)[None]


def _maps(preset: Preset, cameras: Camera, device: torch.device) -> tuple[Tensor, Tensor]:
    """Maps of the views' cameras [1, C, V, h, w], and of the portrait's [1, C, h, w]."""
    function = encoder(preset.camera).function
    own = function(portrait_camera(cameras.size[0]).to(torch.float32, device))
    return function(cameras.to(torch.float32, device)).transpose(0, 1)[None], own[None]


def _normals(model: ViewModel, request: ViewRequest) -> tuple[Tensor, Tensor]:
    """Encoded normals [1, Z, V, h, w], and the portrait's own [1, Z, h, w]; zeros where there are none."""
    weight = next(model.vae.parameters())
    count, blank = request.cameras.shape[0], torch.zeros(1, *model.shape, device=weight.device)
    shown = encode(model, request.normals) if request.normals else blank.repeat(count, 1, 1, 1)
    own = blank if request.own_normals is None else encode(model, [request.own_normals])
    return shown.transpose(0, 1)[None], own


@torch.no_grad()
def encode(model: ViewModel, pictures: Sequence[Image.Image]) -> Tensor:
    """Pictures, fitted to the model's size -> [n, Z, h, w] as the network sees latents, float32.

    It is the mode of what the autoencoder says; where released code draws from it instead, the two differ by little.
    """
    weight = next(model.vae.parameters())
    size = (model.preset.size, model.preset.size)
    each = (model.vae.encode(to_tensor(picture, size).to(weight)).mode().float() for picture in pictures)
    return model.latent.scaled(torch.cat(list(each)))
