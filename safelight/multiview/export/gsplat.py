"""``cameras.npz`` with what ``gsplat.rasterization`` takes: ``viewmats`` and ``Ks``, world to camera, OpenCV axes.

Facts: docs.gsplat.studio, "Rasterization". Its ``camera_model`` is "pinhole" or "ortho", and then K counts pixels per
unit of the world, as here. Numbers are float64, so that nothing is lost; ``torch.from_numpy(...).float()`` takes them.

  viewmats [V, 4, 4]   Ks [V, 3, 3]   width, height   camera_model   files [V]   points [N, 3]   colors [N, 3] uint8
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from safelight.core.camera import Camera
from safelight.errors import ConfigError
from safelight.multiview.bundle import Bundle
from safelight.multiview.export.found import Found, built, sized, unknown

FILE: Final = "cameras.npz"
MODELS: Final = {"perspective": "pinhole", "orthographic": "ortho"}
KEYS: Final = ("viewmats", "Ks", "width", "height", "camera_model", "files", "points", "colors")


def write(bundle: Bundle, folder: Path) -> None:
    """Write the views into an empty folder."""
    bundle.write_layers(folder)
    cameras = bundle.exact()
    height, width = cameras.size
    points, colors = bundle.cloud()
    told: dict[str, Any] = {
        "viewmats": cameras.world_to_camera.numpy(),
        "Ks": cameras.intrinsics.numpy(),
        "width": np.int64(width),
        "height": np.int64(height),
        "camera_model": np.str_(MODELS[cameras.projection]),
        "files": np.array([f"images/{name}.png" for name in bundle.names()]),
        "points": points,
        "colors": colors,
    }
    with (folder / FILE).open("wb") as file:
        np.savez(file, **told)


def read(path: Path) -> Found:
    """The cameras of such a file.

    Raises:
        ConfigError: it is no such file, or holds pickles, which are never run.
    """
    try:
        with np.load(path, allow_pickle=False) as opened:
            told = dict(opened) if isinstance(opened, np.lib.npyio.NpzFile) else {}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path}: cannot be read as cameras for gsplat ({error})") from None
    unknown(str(path), told, KEYS)
    needed = ("viewmats", "Ks", "width", "height", "camera_model", "files")
    if lost := [key for key in needed if key not in told]:
        raise ConfigError(f"{path}: lacks {', '.join(lost)}")
    views = len(told["files"]) if told["files"].ndim == 1 else 0
    if told["viewmats"].shape != (views, 4, 4) or told["Ks"].shape != (views, 3, 3) or not views:
        raise ConfigError(f"{path}: viewmats [V, 4, 4], Ks [V, 3, 3] and files [V] do not belong together")
    if any(told[key].dtype.kind not in "fiu" for key in ("viewmats", "Ks", "width", "height")):
        raise ConfigError(f"{path}: poses, lenses and sizes are numbers")
    models = {word: name for name, word in MODELS.items()}
    model = str(told["camera_model"])
    if model not in models:
        raise ConfigError(f"{path}: camera_model {model[:40]!r} is not read; {' and '.join(models)} are")
    size = sized(str(path), [(float(told["height"]), float(told["width"]))])
    poses, lenses = (torch.from_numpy(told[key].astype(np.float64)) for key in ("viewmats", "Ks"))
    projection: Any = models[model]
    files = tuple(map(str, told["files"]))
    return built(path, files, lambda: Camera.from_opencv(poses, lenses, size, projection))
