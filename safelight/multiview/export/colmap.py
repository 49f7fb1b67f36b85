"""``sparse/0/*.txt`` as COLMAP, 3D Gaussian splatting and gsplat's trainer read it: world to camera, OpenCV axes.

Facts: colmap.github.io/format.html. Quaternions are w x y z; every image has a second line for its matches, which is
empty; ``points3D.txt`` must hold points, because trainers begin with them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from safelight.core.camera import Camera
from safelight.errors import ConfigError, RequestError
from safelight.multiview.bundle import Bundle
from safelight.multiview.export.found import Found, built, lens, sized
from safelight.weights.folder import read_text

FOLDER: Final = "sparse/0"
FILE: Final = "sparse/0/cameras.txt"
# Model -> where fx, fy, cx, cy stand among its parameters; all behind them bend the picture.
MODELS: Final = {
    "SIMPLE_PINHOLE": (0, 0, 1, 2), "PINHOLE": (0, 1, 2, 3), "SIMPLE_RADIAL": (0, 0, 1, 2), "RADIAL": (0, 0, 1, 2),
    "OPENCV": (0, 1, 2, 3),
}  # fmt: skip
COUNTS: Final = {"SIMPLE_PINHOLE": 3, "PINHOLE": 4, "SIMPLE_RADIAL": 4, "RADIAL": 5, "OPENCV": 8}


def check(cameras: Camera) -> None:
    """RequestError for orthographic cameras."""
    if cameras.projection != "perspective":
        raise RequestError(
            "COLMAP has no orthographic camera; export to gsplat or nerfstudio, or take a narrow field of view"
        )


def write(bundle: Bundle, folder: Path) -> None:
    """Write the views into an empty folder."""
    cameras = bundle.exact()
    bundle.write_layers(folder)
    place = folder / FOLDER
    place.mkdir(parents=True)
    lenses = torch.cat([cameras.focal, cameras.principal], -1).tolist()
    shared = all(one == lenses[0] for one in lenses)
    height, width = cameras.size
    rows = [f"{k} PINHOLE {width} {height} {_row(one)}" for k, one in enumerate(lenses[:1] if shared else lenses, 1)]
    _write(place / "cameras.txt", "CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]", rows)
    rows = []
    for view, (name, pose) in enumerate(zip(bundle.names(), cameras.world_to_camera, strict=True), 1):
        turned, moved = quaternion(pose[:3, :3]), pose[:3, 3].tolist()
        rows += [f"{view} {_row(turned)} {_row(moved)} {1 if shared else view} {name}.png", ""]
    _write(place / "images.txt", "IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME; POINTS2D[]", rows)
    points, colors = bundle.cloud()
    rows = [
        f"{k} {_row(point)} {red} {green} {blue} 0"
        for k, (point, (red, green, blue)) in enumerate(zip(points.tolist(), colors.tolist(), strict=True), 1)
    ]
    _write(place / "points3D.txt", "POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[]", rows)


def _row(numbers: Sequence[float]) -> str:
    return " ".join(repr(number) for number in numbers)


def _write(path: Path, head: str, rows: Sequence[str]) -> None:
    path.write_text("\n".join([f"# {head}", *rows]) + "\n", encoding="utf-8")


def quaternion(rotation: Tensor) -> list[float]:
    """w, x, y, z of a rotation [3, 3], w >= 0; from the largest of the four, so that nothing small is divided by."""
    m = rotation.tolist()
    xx, yy, zz = m[0][0], m[1][1], m[2][2]
    squares = [1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz]
    best = max(range(4), key=lambda k: squares[k])
    a, b, c = m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]
    d, e, f = m[1][0] + m[0][1], m[0][2] + m[2][0], m[2][1] + m[1][2]
    row = [
        [squares[0], a, b, c],
        [a, squares[1], d, e],
        [b, d, squares[2], f],
        [c, e, f, squares[3]],
    ][best]
    length = math.copysign(math.sqrt(sum(value * value for value in row)), row[0] or 1.0)
    return [value / length for value in row]


def rotation(turned: Sequence[float]) -> Tensor:
    """[3, 3] of a quaternion w, x, y, z of any length above 0."""
    length = math.sqrt(sum(value * value for value in turned))
    w, x, y, z = (value / length for value in turned)
    return torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ],
        dtype=torch.float64,
    )


def read(path: Path) -> Found:
    """The cameras of a model of COLMAP in text, in the order of its image ids.

    Args:
        path: the folder that holds ``cameras.txt`` and ``images.txt``, or one of them.

    Raises:
        ConfigError: there is none, it is binary, a line is none of COLMAP's, a lens bends, or pictures have several
            sizes. WeightsError: it cannot be read.
    """
    folder = path if path.is_dir() else path.parent
    if not (folder / "cameras.txt").is_file() and (folder / "cameras.bin").is_file():
        raise ConfigError(f"{folder}: holds a binary model; write it as text: colmap model_converter --output_type TXT")
    lenses = _lenses(folder / "cameras.txt")
    place = folder / "images.txt"
    images = sorted(_images(place))
    if not images:
        raise ConfigError(f"{place}: names no images")
    for number, _, _, camera, _ in images:
        if camera not in lenses:
            raise ConfigError(f"{place}: image {number} has camera {camera}, which is not in cameras.txt")
    size = sized(str(folder / "cameras.txt"), [lenses[camera][0] for _, _, _, camera, _ in images])
    poses = torch.zeros(len(images), 4, 4, dtype=torch.float64)
    for pose, (_, turned, moved, _, _) in zip(poses, images, strict=True):
        pose[:3, :3], pose[:3, 3], pose[3, 3] = rotation(turned), torch.tensor(moved, dtype=torch.float64), 1.0
    ks = torch.stack([lenses[camera][1] for _, _, _, camera, _ in images])
    return built(place, tuple(name for *_, name in images), lambda: Camera.from_opencv(poses, ks, size))


def _lenses(path: Path) -> dict[int, tuple[tuple[float, float], Tensor]]:
    """Camera id -> ((height, width), K)."""
    found = {}
    for index, line in _lines(path):
        where, words = f"{path}:{index}", line.split()
        if not words:
            continue
        model = words[1] if len(words) > 1 else ""
        if model not in MODELS:
            known = ", ".join(MODELS)
            raise ConfigError(f"{where}: camera model {model[:40]!r} is not read; {known} are. Undistort the pictures")
        if len(words) != 4 + COUNTS[model]:
            raise ConfigError(f"{where}: a {model} camera has {COUNTS[model]} parameters, not {len(words) - 4}")
        number, width, height, *given = _numbers(where, [words[0], *words[2:]])
        if any(given[max(MODELS[model]) + 1 :]):
            raise ConfigError(f"{where}: this lens bends the picture; undistort it first (colmap image_undistorter)")
        found[int(number)] = (height, width), lens(*(given[k] for k in MODELS[model]))
    return found


def _images(path: Path) -> list[tuple[int, list[float], list[float], int, str]]:
    """(id, quaternion, translation, camera id, name) of every image; each has a second line, of matches."""
    found = []
    lines = iter(_lines(path))
    for index, line in lines:
        where, words = f"{path}:{index}", line.split(None, 9)
        if not words:
            continue
        if len(words) != 10:
            raise ConfigError(f"{where}: an image has an id, 7 numbers of its pose, a camera and a name")
        number, *pose, camera = _numbers(where, words[:9])
        if not any(pose[:4]):
            raise ConfigError(f"{where}: a quaternion of zeros is no rotation")
        found.append((int(number), pose[:4], pose[4:], int(camera), words[9].strip()))
        next(lines, None)
    return found


def _lines(path: Path) -> list[tuple[int, str]]:
    """Numbered lines, without comments."""
    lines = read_text(path).splitlines()
    return [(index, line) for index, line in enumerate(lines, 1) if not line.startswith("#")]


def _numbers(where: str, words: Sequence[str]) -> list[float]:
    try:
        numbers = [float(word) for word in words]
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    if not all(map(math.isfinite, numbers)):
        raise ConfigError(f"{where}: holds numbers that are not finite")
    return numbers
