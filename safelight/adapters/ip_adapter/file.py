"""Load an IP-Adapter's released file, and the image encoder that it was trained with, for one model.

The released repositories hold the adapter in a folder such as ``models`` or ``sdxl_models`` and the encoder in
``image_encoder`` inside of one of them; the encoder that fits is found by its ``config.json``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor

from safelight.adapters.ip_adapter.model import BASE, FACES, READS, IpNetwork, misfit, numbered, plan
from safelight.adapters.lora.contents import Contents
from safelight.adapters.lora.dialects import parse
from safelight.adapters.lora.file import Lora
from safelight.adapters.lora.settings import Settings
from safelight.adapters.lora.wear import WearableLora
from safelight.encoders.clip_vision import ClipVisionConfig
from safelight.encoders.viewer import Viewer, load_viewer
from safelight.errors import ConfigError, RequestError, WeightsError
from safelight.families.family import Model
from safelight.families.sd.model import UNet
from safelight.weights.container import read_any
from safelight.weights.folder import read_json
from safelight.weights.hash import sha256
from safelight.weights.header import Entry, Header
from safelight.weights.load import Unfilled, load_into, read

ENCODER = "image_encoder"


@dataclass(frozen=True, eq=False)
class Faces:
    """Embeddings of faces, which another program made (ArcFace's are 512 wide): ``vectors`` is [n, F]."""

    path: Path
    vectors: Tensor


@dataclass(frozen=True, eq=False)
class IpAdapter:
    """A loaded adapter, on the device and in the number format of the model it was loaded for.

    Attributes:
        path: its file. network: its weights.
        viewer: the image encoder; None where the kind has none.
    """

    path: Path
    network: IpNetwork
    viewer: Viewer | None

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @cached_property
    def hashes(self) -> dict[str, str]:
        """File -> SHA-256, of the adapter's own file and those of its encoder."""
        files = {self.path.name: self.path}
        for file in self.viewer.files if self.viewer else ():
            files[f"{file.parent.name}/{file.name}"] = file
        return {name: sha256(file) for name, file in files.items()}

    @torch.no_grad()
    def tokens(self, pictures: tuple[Image, ...], faces: Tensor | None) -> tuple[Tensor, Tensor]:
        """What the network reads of n pictures or faces, and of nothing: [n, M, X] each.

        Nothing is zeros where the kind reads a projected vector or a face, else what the encoder says of grey pixels.
        """
        told, project = self.network.plan, self.network.image_proj
        seen: list[Tensor] = []
        blank: list[Tensor] = []
        if told.kind in FACES:
            assert faces is not None
            like = next(project.parameters())
            seen.append(faces.to(like.device, like.dtype))
            blank.append(torch.zeros_like(seen[0]))
        if self.viewer is not None:
            pixels = self.viewer.prepared(pictures)
            found = self.viewer.encoder(pixels)
            if told.kind == BASE:
                seen.append(found.projected)
                blank.append(torch.zeros_like(found.projected))
            else:
                seen.append(found.hidden[-2])
                blank.append(self.viewer.encoder(torch.zeros_like(pixels[:1])).hidden[-2].expand_as(found.hidden[-2]))
        return project(*seen), project(*blank)

    def lora(self, model: Model) -> WearableLora:
        """The LoRA that the "face id" kinds were trained with; lay it over the model, at scale 1, beside their use.

        Raises:
            RequestError: the kind brings none.
        """
        tensors = self._changes(model)
        if not tensors:
            raise RequestError(f"{self.path}: brings no LoRA; only the kinds for faces do")
        entries = {name: Entry("F32", tuple(tensor.shape), 0, 0) for name, tensor in tensors.items()}
        contents = Contents(self.path, Header(entries), parse(entries).pieces, Settings())
        return WearableLora(Lora(contents, tensors))

    def _changes(self, model: Model) -> dict[str, Tensor]:
        """Its tensors under the names of PEFT."""
        found: dict[str, Tensor] = {}
        assert isinstance(model.network, UNet)
        for number, layer in enumerate(numbered(model.network)):
            if number not in self.network.plan.loras:
                continue
            held = self.network.layer(number)
            for part in ("to_q", "to_k", "to_v", "to_out"):
                change = getattr(held, f"{part}_lora")
                stem = f"unet.{layer.name}.{part if part != 'to_out' else 'to_out.0'}"
                found |= {f"{stem}.lora_A.weight": change.down.weight, f"{stem}.lora_B.weight": change.up.weight}
        return found


def load_ip_adapter(
    path: Path,
    model: Model,
    *,
    encoder: Path | Viewer | None = None,
    shortcut: bool | None = None,
    pickles: bool = False,
) -> IpAdapter:
    """Load an adapter of any released kind for a model.

    Args:
        encoder: its image encoder, a folder or a single file, or one that was loaded before; None looks beside the
            file, in ``image_encoder`` and in ``../models/image_encoder``, for the one that fits.
        shortcut: whether a "face id plus" adapter is of the second version, which its tensors do not say; None goes by
            ``plusv2`` in the file's name.
        pickles: whether a file of torch.save (``.bin``) may be read; it is never run.

    Raises:
        WeightsError: the file is no adapter, a tensor of it is missing, of another shape or belongs to nothing (with a
            table), it is for another model, or no image encoder fits. ConfigError: the encoder's configuration.
    """
    shapes = read_any(path, pickles=pickles).shapes()
    try:
        told = plan(shapes)
        if why := misfit(told, model.network):
            raise WeightsError(why)
        second = "plusv2" in path.name.lower() if shortcut is None else shortcut
        with torch.device("meta"), Unfilled():
            network = IpNetwork(told, shortcut=second)
        load_into(network, path, pickles=pickles)
        viewer = _viewer(path, network, encoder, pickles=pickles)
    except WeightsError as error:
        raise error if str(path) in str(error) else WeightsError(f"{path}: {error}") from error
    weight = next(model.network.parameters())
    for module in (network, *([viewer.encoder] if viewer else [])):
        module.to(weight.device, weight.dtype).eval().requires_grad_(False)
    return IpAdapter(path, network, viewer)


def read_faces(path: Path, *, pickles: bool = False) -> Faces:
    """Embeddings of faces from a file that holds one tensor, [F] or [..., F]: one face a row.

    Raises:
        WeightsError: the file is unreadable, or holds something else.
    """
    tensors = read(path, pickles=pickles)
    rows = [tensor for tensor in tensors.values() if tensor.is_floating_point() and tensor.ndim and tensor.numel()]
    if len(rows) != 1 or len(tensors) != 1 or not rows[0].isfinite().all():
        raise WeightsError(f"{path}: holds {len(tensors)} tensors; one with the embeddings of faces is expected")
    return Faces(path, rows[0].reshape(-1, rows[0].shape[-1]).float())


def _viewer(path: Path, network: IpNetwork, encoder: Path | Viewer | None, *, pickles: bool) -> Viewer | None:
    told = network.plan
    if not READS[told.kind]:
        return None
    wanted = f"a {'projection' if told.kind == BASE else 'width'} of {told.source}"
    if encoder is None:
        places = list(_beside(path))
        for place in places:
            try:
                config = ClipVisionConfig.from_dict(read_json(place / "config.json"))
            except (WeightsError, ConfigError):
                continue
            if _width(config, told.kind) == told.source:
                return load_viewer(place, pickles=pickles)
        looked = ", ".join(map(str, places))
        raise WeightsError(f"needs an image encoder with {wanted}; none was found in {looked}; name its folder")
    viewer = encoder if isinstance(encoder, Viewer) else load_viewer(encoder, pickles=pickles)
    if (width := _width(viewer.encoder.config, told.kind)) != told.source:
        raise WeightsError(f"needs an image encoder with {wanted}; the named one has {width or 'none'}")
    return viewer


def _beside(path: Path) -> Iterator[Path]:
    up = path.absolute().parent
    yield from (up / ENCODER, up.parent / "models" / ENCODER, up.parent / ENCODER)


def _width(config: ClipVisionConfig, kind: str) -> int:
    """What an adapter of this kind reads of an encoder; 0 where there is no projection to be read."""
    if kind == BASE:
        return config.projection_dim if config.projection else 0
    return config.hidden_size
