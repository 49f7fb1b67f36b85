"""Views of one thing with all that is known of them: pictures, mattes, normals, depth, cameras.

Axis legend: V views, H W pixels, N points, last axis red green blue or x y z.

In a folder, every format has

  images/000.png   the picture; with its matte as transparency, and then with the background taken out of its edges
  masks/000.png    8 bits: 0 = background, 255 = figure
  normals/000.png  8 bits: 255 (n + 1) / 2 in the camera's axes x right, y up, z towards the viewer
  depth/000.png    16 bits: 1000 x depth along the optical axis; 0 = background, 65535 = 65.535 or farther
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image

from safelight.core.camera import Camera
from safelight.errors import RequestError
from safelight.multiview.bounds import checked

DEPTH_STEPS: Final = 1000
"""Steps of a 16-bit depth per unit of the world: "millimetres", as nerfstudio reads them."""
CLOUD: Final = 4096
"""Points to begin a reconstruction with, at most."""
_GREY: Final = 128


@dataclass(frozen=True, eq=False)
class Bundle:
    """What is known of V views of one thing; what is not known is None.

    Attributes:
        cameras: [V], 1 to 64.
        pictures: uint8 [V, H, W, 3].
        mattes: float32 [V, H, W], the share of the pixel that the thing covers, 0 to 1.
        normals: float32 [V, H, W, 3], unit, in the cameras' OpenCV axes; zero on the background.
        depth: float32 [V, H, W] along the optical axis; inf on the background.
        background: red, green, blue from 0 to 1 that the pictures stand before.

    Raises:
        RequestError: views that `bounds.checked` refuses, or arrays of other shapes or types.
    """

    cameras: Camera
    pictures: np.ndarray | None = None
    mattes: np.ndarray | None = None
    normals: np.ndarray | None = None
    depth: np.ndarray | None = None
    background: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        checked(self.cameras, nearest=0.0)
        maps = (*self.cameras.shape, *self.cameras.size)
        for name, shape, kind in (
            ("pictures", (*maps, 3), np.uint8),
            ("mattes", maps, np.float32),
            ("normals", (*maps, 3), np.float32),
            ("depth", maps, np.float32),
        ):
            found = getattr(self, name)
            if found is not None and (found.shape != shape or found.dtype != kind):
                wanted = f"{np.dtype(kind)} {list(shape)}"
                raise RequestError(f"{name} of these cameras are {wanted}, not {found.dtype} {list(found.shape)}")
        if self.mattes is not None and not ((self.mattes >= 0) & (self.mattes <= 1)).all():
            raise RequestError("a matte holds shares from 0 = background to 1 = figure")

    @classmethod
    def of(cls, cameras: Camera, pictures: Sequence[Image.Image] = ()) -> Bundle:
        """Cameras with the pictures of any program, in their order; where any is transparent, that is the matte.

        Raises:
            RequestError: another number of pictures than cameras, or of another size.
        """
        if not pictures:
            return cls(cameras)
        height, width = cameras.size
        found = sorted({f"{picture.width}x{picture.height}" for picture in pictures})
        if len(pictures) != cameras.shape[0] or found != [f"{width}x{height}"]:
            fit = f"{cameras.shape[0]} cameras of {width}x{height} do not fit"
            raise RequestError(f"{fit} {len(pictures)} pictures of {' and '.join(found)}")
        clear = any("A" in picture.getbands() or "transparency" in picture.info for picture in pictures)
        arrays = np.stack([np.asarray(picture.convert("RGBA" if clear else "RGB")) for picture in pictures])
        mattes = (arrays[..., 3] / np.float32(255)).astype(np.float32) if clear else None
        return cls(cameras, np.ascontiguousarray(arrays[..., :3]), mattes)

    def exact(self) -> Camera:
        """The cameras as files tell them: in float64, on the CPU."""
        return self.cameras.to(torch.float64, "cpu")

    def names(self) -> list[str]:
        """What the views are called in every folder, without an ending."""
        return [f"{view:03}" for view in range(self.cameras.shape[0])]

    def layers(self) -> dict[str, np.ndarray]:
        """What is written for each view: folder -> [V, H, W(, C)] in the numbers of the files."""
        found: dict[str, np.ndarray] = {}
        if self.pictures is not None:
            found["images"] = self.pictures if self.mattes is None else self._cut_out()
        if self.mattes is not None:
            found["masks"] = np.rint(self.mattes * 255).astype(np.uint8)
        if self.normals is not None:
            upright = self.normals * np.array([1.0, -1.0, -1.0], np.float32)
            found["normals"] = np.rint((upright + 1.0) * 127.5).astype(np.uint8)
        if self.depth is not None:
            near = np.where(np.isfinite(self.depth), self.depth, 0.0).astype(np.float64)
            found["depth"] = np.clip(np.rint(near * DEPTH_STEPS), 0, 65535).astype(np.uint16)
        return found

    def _cut_out(self) -> np.ndarray:
        """uint8 [V, H, W, 4]: on the outline, a pixel's colour is that of the figure alone; its share is the alpha."""
        assert self.pictures is not None
        assert self.mattes is not None
        share = self.mattes[..., None]
        color = self.pictures.astype(np.float32)
        if self.background is not None:
            behind = np.array(self.background, np.float32) * 255
            color = (color - (1 - share) * behind) / np.maximum(share, 1e-3)
        color = np.where(share > 0, np.clip(np.rint(color), 0, 255), 0)
        return np.concatenate([color, np.rint(share * 255)], -1).astype(np.uint8)

    def write_layers(self, folder: Path, images: str = "images") -> None:
        """Write every layer's pictures; ``images`` is the folder of the pictures themselves."""
        for layer, pictures in self.layers().items():
            place = folder / (images if layer == "images" else layer)
            place.mkdir()
            for name, picture in zip(self.names(), pictures, strict=True):
                Image.fromarray(picture).save(place / f"{name}.png")

    def cloud(self) -> tuple[np.ndarray, np.ndarray]:
        """Points to begin a reconstruction with, as other programs want them: float64 [N, 3], uint8 [N, 3].

        The surface itself where depth is known; else what of a ball around the middle every matte covers; else the
        ball. The same bundle gives the same points.
        """
        if self.depth is not None and np.isfinite(self.depth).any():
            return self._surface(self.depth)
        cameras = self.exact()
        generator = torch.Generator().manual_seed(0)
        points = torch.randn(CLOUD, 3, dtype=torch.float64, generator=generator)
        reach = torch.rand(CLOUD, 1, dtype=torch.float64, generator=generator) ** (1 / 3)
        points = points / points.norm(dim=-1, keepdim=True) * reach * _radius(cameras)
        inside = self._inside(cameras, points)
        found = points[inside] if int(inside.sum()) >= 64 else points
        return found.numpy(), np.full((len(found), 3), _GREY, np.uint8)

    def _inside(self, cameras: Camera, points: torch.Tensor) -> torch.Tensor:
        """bool [N]: which points every matte covers."""
        if self.mattes is None:
            return torch.ones(len(points), dtype=torch.bool)
        pixels, depth = cameras.project(points)
        height, width = cameras.size
        columns, rows = pixels.floor().long().unbind(-1)
        seen = (depth > 0) & (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        views = torch.arange(cameras.shape[0])[:, None]
        shares = torch.from_numpy(self.mattes)[views, rows.clamp(0, height - 1), columns.clamp(0, width - 1)]
        return (seen & (shares >= 0.5)).all(0)

    def _surface(self, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        view, row, column = np.nonzero(np.isfinite(depth))
        step = -(-len(view) // CLOUD)
        view, row, column = view[::step], row[::step], column[::step]
        pixels = torch.from_numpy(np.stack([column, row], -1) + 0.5)[:, None]
        seen = torch.from_numpy(depth[view, row, column].astype(np.float64))[:, None]
        points = self.exact()[torch.from_numpy(view)].unproject(pixels, seen)[:, 0].numpy()
        if self.pictures is None:
            return points, np.full((len(points), 3), _GREY, np.uint8)
        return points, self.layers()["images"][view, row, column, :3]


def _radius(cameras: Camera) -> float:
    """Half of the least length that a picture shows at the origin."""
    sides = torch.tensor(cameras.size[::-1], dtype=cameras.position.dtype) / cameras.focal
    if cameras.projection == "perspective":
        sides = sides * cameras.angles()[2][:, None]
    return 0.5 * float(sides.min())


def same(values: Sequence[float]) -> bool:
    """Whether numbers differ by rounding only."""
    low, high = min(values), max(values)
    return high - low <= 1e-6 * max(abs(low), abs(high))
