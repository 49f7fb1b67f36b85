"""How pictures are read: a preprocessor makes pixels of them, and CLIP's image encoder makes vectors of those.

A released folder holds ``config.json``, the weights, and maybe ``preprocessor_config.json``. A single file holds the
weights alone, under the names of Hugging Face or of OpenCLIP (``keys.toml``); its shapes say the rest but the number of
heads and the activation, which are those of the released encoder of that width.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from safelight.encoders.clip_pixels import ClipPixels, read_pixels
from safelight.encoders.clip_vision import ClipVision, ClipVisionConfig, ClipVisionOutput
from safelight.errors import SafelightError, WeightsError
from safelight.weights.folder import weight_files
from safelight.weights.keys import read_keys
from safelight.weights.load import fill, load_part, read, unfilled
from safelight.weights.moves import to_ours

KEYS = Path(__file__).with_name("keys.toml")
RELEASED = {768: (12, "quick_gelu"), 1024: (16, "quick_gelu"), 1280: (16, "gelu"), 1664: (16, "gelu")}
"""Width -> heads and activation: OpenAI's B and L, OpenCLIP's H and bigG. A folder's ``config.json`` knows better."""
OTHERS = ("text_model.", "text_projection.", "logit_scale")
"""How the names of a whole CLIP begin that are not of its image encoder."""


@dataclass(frozen=True)
class Viewer:
    """How one picture is read.

    Attributes:
        pixels: the preprocessor. encoder: the network.
        files: every file that was read, for hashes.
    """

    pixels: ClipPixels
    encoder: ClipVision
    files: tuple[Path, ...] = ()

    @torch.no_grad()
    def see(self, pictures: Sequence[Image]) -> ClipVisionOutput:
        """What the encoder makes of pictures of any size; on its device and in its number format."""
        return self.encoder(self.prepared(pictures))

    def prepared(self, pictures: Sequence[Image]) -> Tensor:
        """The pixels [B, 3, edge, edge] that the encoder is shown; ImageError for a picture that is far too long."""
        weight = self.encoder.vision_model.embeddings.class_embedding
        return self.pixels(pictures).to(weight.device, weight.dtype)


def load_viewer(place: Path, variant: str = "", *, pickles: bool = False, preprocessor: Path | None = None) -> Viewer:
    """An image encoder and its preprocessor, the encoder in evaluation mode on the CPU, in the dtype of its file.

    Args:
        place: a released folder with ``config.json``, or a single file.
        variant, pickles: see `safelight.weights.folder.weight_files`.
        preprocessor: folder of ``preprocessor_config.json`` where it is another, as ``feature_extractor`` beside
            ``image_encoder``; where no such file is, CLIP's own preprocessor is meant.

    Raises:
        WeightsError: a file is missing, unreadable, or of another shape; the message names it.
        ConfigError: a configuration asks for something else than CLIP.
    """
    if place.is_dir():
        encoder = load_part(place, _build, rename=released, variant=variant, pickles=pickles)
        files = (place / "config.json", *weight_files(place, variant, pickles=pickles))
    else:
        encoder, files = _single(place, pickles=pickles), (place,)
    beside = preprocessor or (place if place.is_dir() else place.parent)
    pixels = read_pixels(beside, encoder.config.image_size)
    said = beside / "preprocessor_config.json"
    return Viewer(pixels, encoder, (*files, *([said] if said.is_file() else [])))


def released(name: str) -> str | None:
    """A name in a file -> ours: the newest lack ``vision_model.``; the oldest list the positions, which say nothing."""
    if name.endswith("embeddings.position_ids"):
        return None
    return name if name.startswith(("vision_model.", "visual_projection.")) else f"vision_model.{name}"


def _build(raw: Mapping[str, Any]) -> ClipVision:
    return ClipVision(ClipVisionConfig.from_dict(raw))


def _single(path: Path, *, pickles: bool) -> ClipVision:
    """The image encoder in a single file, alone or in a whole CLIP."""
    tensors = read(path, pickles=pickles)
    table = read_keys(KEYS).parts["openclip_vision"]
    if table.marker in tensors:
        plan = table.to_ours(tensors)
        found = {**to_ours(tensors, plan.moves), **{name: tensors[name] for name in plan.left}}
    else:
        kept = {name: released(name) for name in tensors if not name.startswith(OTHERS)}
        found = {ours: tensors[name] for name, ours in kept.items() if ours is not None}
    try:
        return filled(found)
    except SafelightError as error:
        raise type(error)(f"{path}: {error}") from error


def filled(tensors: Mapping[str, Tensor]) -> ClipVision:
    """The image encoder of these tensors under released names, in evaluation mode; their shapes say what it is.

    Raises:
        WeightsError: they are of none, or some are missing, of another shape, or belong to nothing.
    """
    module = unfilled(_config(tensors), _build)
    fill(module, tensors)
    return module.eval()


def _config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """``config.json`` from the shapes of the tensors.

    Raises:
        WeightsError: the tensors that say them are not there, or no released encoder is so wide.
    """
    stem = "vision_model.embeddings."
    try:
        width, _, patch, _ = tensors[f"{stem}patch_embedding.weight"].shape
        positions = len(tensors[f"{stem}position_embedding.weight"])
        inner = len(tensors["vision_model.encoder.layers.0.mlp.fc1.weight"])
    except (KeyError, ValueError):
        raise WeightsError("is no image encoder of CLIP (vision_model.* or visual.*); choose another file") from None
    if width not in RELEASED:
        known = ", ".join(map(str, RELEASED))
        raise WeightsError(f"an image encoder of width {width}; released are {known}; use a folder with config.json")
    heads, activation = RELEASED[width]
    layer = re.compile(r"vision_model\.encoder\.layers\.(\d+)\.")
    numbers = [int(found[1]) for name in tensors if (found := layer.match(name))]
    projection = tensors.get("visual_projection.weight")
    return {
        "architectures": ["CLIPVisionModel" if projection is None else "CLIPVisionModelWithProjection"],
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": max(numbers) + 1,
        "num_attention_heads": heads,
        "image_size": patch * math.isqrt(max(positions - 1, 1)),
        "patch_size": patch,
        "hidden_act": activation,
        **({} if projection is None else {"projection_dim": len(projection)}),
    }
