"""Pictures as CLIP's image encoder reads them: the shorter edge fitted, the middle cut out, colours normalised.

Axes: B pictures, H W pixels. Every step is done in the number format of the released preprocessor (bytes, then float64
for the 255th, then float32), so its tensors come out bit for bit. Source: Radford et al. 2021, the released
``preprocessor_config.json`` files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from safelight.errors import ConfigError, ImageError
from safelight.weights.folder import read_json

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
LONGEST = 16_384
"""Pixels of the longer edge after fitting; pictures that are a hundred times as long as wide are refused."""
MOST_EDGE = 1024
FIXED: dict[str, tuple[Any, ...]] = {
    "do_center_crop": (True,),
    "do_convert_rgb": (True,),
    "do_normalize": (True,),
    "do_rescale": (True,),
    "do_resize": (True,),
    "resample": (3,),
    "use_square_size": (False,),
    "rescale_factor": (1 / 255,),
}
IGNORED = frozenset({"feature_extractor_type", "image_processor_type", "processor_class"})


@dataclass(frozen=True)
class ClipPixels:
    """How a picture becomes pixels.

    Attributes:
        edge: of the square that is cut out. shortest: to which the shorter edge is fitted before.
        mean, std: of red, green and blue in [0, 1].
    """

    edge: int = 224
    shortest: int = 224
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> ClipPixels:
        """Read a released ``preprocessor_config.json``.

        Raises:
            ConfigError: it asks for something that CLIP's preprocessor does not do; the message names the key.
        """
        known = {"size", "crop_size", "image_mean", "image_std"}
        for key, value in raw.items():
            if key in FIXED and not any(value == each for each in FIXED[key]):
                raise ConfigError(f"{key} = {str(value)[:80]!r} is not supported; CLIP's is {FIXED[key][0]!r}")
            if key not in known | FIXED.keys() | IGNORED and not key.startswith("_"):
                raise ConfigError(f"unknown key {key!r} (= {str(value)[:80]!r}) of a preprocessor of CLIP")
        shortest = _edge("size", raw.get("size", 224), "shortest_edge")
        return cls(
            _edge("crop_size", raw.get("crop_size", shortest), ""),
            shortest,
            _three("image_mean", raw.get("image_mean", MEAN)),
            _three("image_std", raw.get("image_std", STD)),
        )

    def __call__(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Pictures of any size and mode -> float32 [B, 3, edge, edge]; transparency over white.

        Raises:
            ImageError: a picture so long and thin that fitting it would fill the memory.
        """
        mean, std = (torch.tensor(three, dtype=torch.float32)[:, None, None] for three in (self.mean, self.std))
        return torch.stack([(self.cut(picture) - mean) / std for picture in pictures])

    def fitted(self, size: tuple[int, int]) -> tuple[int, int]:
        """To which (width, height) a picture of this one is fitted.

        Raises:
            ImageError: it is so long and thin that this would fill the memory.
        """
        short, long = sorted(size)
        length = int(self.shortest * long / short)
        if length > LONGEST:
            raise ImageError(f"a picture of {size[0]}x{size[1]} is too long for its width; cut it first")
        return (self.shortest, length) if size[0] <= size[1] else (length, self.shortest)

    def cut(self, picture: Image.Image) -> Tensor:
        """The middle of a picture: float32 [3, edge, edge] in [0, 1]; black where it is smaller than that."""
        rgb = flat(picture).resize(self.fitted(picture.size), Image.Resampling.BICUBIC)
        # The released processor pads what is too small, and rounds the padding up.
        left, top = ((edge - self.edge) // 2 for edge in rgb.size)
        rgb = rgb.crop((left, top, left + self.edge, top + self.edge))
        bytes_ = torch.frombuffer(bytearray(rgb.tobytes()), dtype=torch.uint8)
        shares = torch.tensor([value * (1 / 255) for value in range(256)], dtype=torch.float32)
        return shares[bytes_.view(self.edge, self.edge, 3).permute(2, 0, 1).long()]


def flat(picture: Image.Image) -> Image.Image:
    """A picture of any mode as RGB, what is transparent over white."""
    if "A" in picture.getbands() or picture.info.get("transparency") is not None:
        over = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    return picture.convert("RGB")


def read_pixels(folder: Path, edge: int) -> ClipPixels:
    """The preprocessor of an encoder that reads pictures of ``edge`` pixels: of its folder, or CLIP's own.

    Raises:
        WeightsError: the file is there and cannot be read. ConfigError: it asks for something else.
    """
    place = folder / "preprocessor_config.json"
    if not place.is_file():
        return ClipPixels(edge, edge)
    try:
        found = ClipPixels.from_dict(read_json(place))
        if found.edge != edge:
            raise ConfigError(f"it cuts out {found.edge} pixels; the encoder reads {edge}")
    except ConfigError as error:
        raise error if str(place) in str(error) else ConfigError(f"{place}: {error}") from error
    return found


def _edge(name: str, value: Any, alone: str) -> int:
    """One number, ``{"shortest_edge": n}``, or a square ``{"height": n, "width": n}`` where a square is meant."""
    if isinstance(value, dict):
        keys = set(value)
        if alone and keys == {alone}:
            value = value[alone]
        elif not alone and keys == {"height", "width"} and value["height"] == value["width"]:
            value = value["height"]
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_EDGE:
        raise ConfigError(f"{name} = {str(value)[:80]} is not supported; CLIP's is one number up to {MOST_EDGE}")
    return value


def _three(name: str, value: Any) -> tuple[float, float, float]:
    if not isinstance(value, list | tuple) or len(value) != 3 or not all(_number(each) for each in value):
        raise ConfigError(f"{name} = {str(value)[:80]} is not supported; three numbers above 0 are expected")
    return (float(value[0]), float(value[1]), float(value[2]))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
