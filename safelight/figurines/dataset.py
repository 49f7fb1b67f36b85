"""Data sets on disk: portraits or views with captions, masks, normals, depth and cameras, in layouts that others read.

    FOLDER/
      images/000000.png, 000000.txt   the picture and its caption; with several views 000000_00.png, 000000_01.png, ...
      images/metadata.jsonl           a line per picture: file_name, text, stated, person (Hugging Face ``imagefolder``)
      masks/000000.png                8 bits: 0 = background, 255 = figure
      normals/000000.png              8 bits: 255 (n + 1) / 2 in the camera's axes x right, y up, z towards the viewer
      depth/000000.png                16 bits: depth along the optical axis times ``DEPTH_STEPS``; 0 = background
      transforms.json                 cameras as NeRF and nerfstudio write them (OpenGL axes, camera to world)
      README.md                       what it is and how to make it again

The folder appears when all is written, or not at all. Axis legend: H W pixels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from safelight.core.camera import Camera
from safelight.errors import RequestError, UnknownNameError
from safelight.figurines.attributes import ATTRIBUTES
from safelight.figurines.captions import caption, everything
from safelight.figurines.frame import framed
from safelight.figurines.person import Person, random_people
from safelight.figurines.render import Render, render, view_camera
from safelight.figurines.splits import SEEDS, SPLITS
from safelight.weights.save import new_folder

__all__ = ["DEPTH_STEPS", "LAYERS", "Order", "examples", "normal_map", "write"]

#: what can be written beside the pictures.
LAYERS: Final = ("masks", "normals", "depth")
#: steps of a 16-bit depth per unit of the world; the farthest depth that fits is 16 units.
DEPTH_STEPS: Final = 4096

_BUFFERS: Final = {"masks": "mask", "normals": "normals", "depth": "depth"}


@dataclass(frozen=True)
class Order:
    """Which data set to write.

    Attributes:
        count: people, 1 and up.
        seed: 0 and up; the same order gives the same files.
        split: one of ``splits.SPLITS``.
        size: pixels a side, 16 to 2048.
        views: (azimuth, elevation) in degrees of every view of a person; the one given is the canonical portrait.
        layers: what to write beside the pictures, of ``LAYERS``.
        always: values that everybody has, attribute -> value; the people are then of no split.
        caption: of every picture; empty for one that describes it.
        framed: whether every picture has a golden frame (`safelight.figurines.frame`).
        thorough: whether captions state all that is seen from in front, and not a part of it.

    Raises:
        RequestError: a number out of range, or no views.
        UnknownNameError: an unknown split, layer, attribute or value.
    """

    count: int
    seed: int = 0
    split: str = "train"
    size: int = 128
    views: tuple[tuple[float, float], ...] = ((0.0, 6.0),)
    layers: tuple[str, ...] = LAYERS
    always: Mapping[str, str] = field(default_factory=dict)
    caption: str = ""
    framed: bool = False
    thorough: bool = False

    def __post_init__(self) -> None:
        if self.count < 1 or self.seed < 0 or not self.views:
            raise RequestError("a data set needs a count of 1 or more, a seed of 0 or more and at least one view")
        if not 16 <= self.size <= 2048:
            raise RequestError(f"the size of a picture lies between 16 and 2048 pixels, not {self.size}")
        if self.caption and self.thorough:
            raise RequestError("captions are one text for all, or say all that is seen; give one of the two")
        for kind, given, known in (("split", (self.split,), SPLITS), ("layer", self.layers, LAYERS)):
            for name in given:
                if name not in known:
                    raise UnknownNameError(kind, name, known)
        for name, value in self.always.items():
            if name not in ATTRIBUTES:
                raise UnknownNameError("attribute", name, ATTRIBUTES)
            if value not in ATTRIBUTES[name]:
                raise UnknownNameError(name, value, ATTRIBUTES[name])

    def examples(self) -> list[tuple[Person, str, dict[str, str]]]:
        """The people with their captions: (person, caption, what it states) each."""
        people = [replace(person, **self.always) for person, _, _ in examples(self.count, self.seed, self.split)]
        if self.caption:
            return [(person, self.caption, {}) for person in people]
        rngs = (np.random.default_rng([SEEDS[self.split], self.seed, i]) for i in range(self.count))
        say = everything if self.thorough else caption
        return [(person, *say(person, rng)) for person, rng in zip(people, rngs, strict=True)]


def examples(count: int, seed: int = 0, split: str = "train") -> list[tuple[Person, str, dict[str, str]]]:
    """People of a split with their captions: (person, caption, what it states) each, a function of the arguments."""
    people = random_people(np.random.default_rng([SEEDS[split], seed]), count, split)
    rngs = (np.random.default_rng([SEEDS[split], seed, i]) for i in range(count))
    return [(person, *caption(person, rng)) for person, rng in zip(people, rngs, strict=True)]


def write(folder: Path, order: Order) -> Iterator[int]:
    """Write a data set, person by person.

    Args:
        folder: where; must not exist yet, or be empty.
        order: what.

    Yields:
        The number of people done so far, for a progress bar. The folder appears after the last one; a writer that is
        stopped or fails leaves nothing behind.

    Raises:
        ExistsError: there is something at ``folder`` already.
        FileError: the place cannot be written.
    """
    with new_folder(folder) as part:
        yield from _write_all(part, order)


def _write_all(part: Path, order: Order) -> Iterator[int]:
    for name in ("images", *order.layers):
        (part / name).mkdir()
    cameras = [view_camera(azimuth, elevation, order.size) for azimuth, elevation in order.views]
    frames: list[dict[str, object]] = []
    with (part / "images" / "metadata.jsonl").open("w", encoding="utf-8") as metadata:
        for i, (person, text, stated) in enumerate(order.examples()):
            for k, camera in enumerate(cameras):
                name = f"{i:06}" if len(cameras) == 1 else f"{i:06}_{k:02}"
                drawn = render(person, camera, buffers=("rgb", *(_BUFFERS[layer] for layer in order.layers)))
                _write_view(part, name, drawn, order)
                (part / "images" / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
                line = {"file_name": f"{name}.png", "text": text, "stated": stated, "person": asdict(person)}
                azimuth, elevation = order.views[k]
                metadata.write(json.dumps({**line, "azimuth": azimuth, "elevation": elevation}) + "\n")
                frames.append(_frame(name, camera, order.layers))
            yield i + 1
    transforms = {**_lens(cameras[0]), "integer_depth_scale": 1.0 / DEPTH_STEPS, "frames": frames}
    (part / "transforms.json").write_text(json.dumps(transforms, indent=1) + "\n", encoding="utf-8")
    (part / "README.md").write_text(_readme(order), encoding="utf-8")


def normal_map(normals: np.ndarray) -> np.ndarray:
    """Normals float [H, W, 3] in the camera's axes as colours uint8: 255 (n + 1) / 2 with y up, z to the viewer."""
    upright = normals * np.array([1.0, -1.0, -1.0], np.float32)
    colours: np.ndarray = np.rint((upright + 1.0) * 127.5).astype(np.uint8)
    return colours


def _write_view(part: Path, name: str, drawn: Render, order: Order) -> None:
    assert drawn.rgb is not None
    layers = order.layers
    pictures = {"images": framed(drawn.rgb) if order.framed else drawn.rgb}
    if "masks" in layers and drawn.mask is not None:
        pictures["masks"] = np.rint(drawn.mask * 255).astype(np.uint8)
    if "normals" in layers and drawn.normals_camera is not None:
        pictures["normals"] = normal_map(drawn.normals_camera)
    if "depth" in layers and drawn.depth is not None:
        near = np.where(np.isfinite(drawn.depth), drawn.depth, 0.0)
        pictures["depth"] = np.clip(np.rint(near * DEPTH_STEPS), 0, 65535).astype(np.uint16)
    for folder, picture in pictures.items():
        Image.fromarray(picture).save(part / folder / f"{name}.png")


def _lens(camera: Camera) -> dict[str, float | int | str]:
    """What all views share, in nerfstudio's words."""
    height, width = camera.size
    (fx, fy), (cx, cy) = camera.focal.tolist(), camera.principal.tolist()
    angles = {"camera_angle_x": 2 * math.atan(width / (2 * fx)), "camera_angle_y": 2 * math.atan(height / (2 * fy))}
    return {"camera_model": "OPENCV", **angles, "w": width, "h": height, "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy}


def _frame(name: str, camera: Camera, layers: tuple[str, ...]) -> dict[str, object]:
    words = {"masks": "mask_path", "normals": "normal_file_path", "depth": "depth_file_path"}
    paths = {words[layer]: f"{layer}/{name}.png" for layer in layers}
    matrix = camera.camera_to_world_opengl.tolist()
    return {"file_path": f"images/{name}.png", **paths, "transform_matrix": matrix}


def _readme(order: Order) -> str:
    views = ", ".join(f"({azimuth:g}, {elevation:g})" for azimuth, elevation in order.views)
    always = "".join(f" Everybody has {name} = {value}." for name, value in order.always.items())
    return f"""# Figurines

{order.count} people of the split `{order.split}`, seed {order.seed}, {order.size} by {order.size} pixels, drawn by
safelight. Views as (azimuth, elevation) in degrees: {views}.{always}

- `images/`: pictures, captions (`.txt`) and `metadata.jsonl`; reads as a Hugging Face `imagefolder`.
- `masks/`: 0 = background, 255 = figure.
- `normals/`: 255 (n + 1) / 2; camera axes x right, y up, z towards the viewer; grey = background.
- `depth/`: 16 bits, units of the world times {DEPTH_STEPS}; 0 = background.
- `transforms.json`: cameras, OpenGL axes, camera to world; the world is right-handed with z up.
"""
