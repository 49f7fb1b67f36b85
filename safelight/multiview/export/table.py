"""The formats of bundles by name, and folders that appear whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safelight.core.camera import Camera
from safelight.errors import ConfigError, FileError, UnknownNameError
from safelight.multiview.bundle import Bundle
from safelight.multiview.export import colmap, facelift, gsplat, nerf_synthetic, nerfstudio
from safelight.multiview.export.found import Found, anything
from safelight.weights.folder import read_json
from safelight.weights.save import new_folder, vacant


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        write: puts a bundle into an empty folder. read: the cameras of its file.
        check: RequestError for cameras that it cannot tell.
        file: where the cameras stand in the folder.
        readers: programs that read it.
        poses: what its matrices are.
    """

    write: Callable[[Bundle, Path], None]
    read: Callable[[Path], Found]
    check: Callable[[Camera], None]
    file: str
    readers: str
    poses: str


_GL, _CV = "camera to world, OpenGL axes", "world to camera, OpenCV axes"
FORMATS: Final[dict[str, Format]] = {
    "nerfstudio": Format(nerfstudio.write, nerfstudio.read, anything, nerfstudio.FILE, "nerfstudio, Instant-NGP", _GL),
    "colmap": Format(colmap.write, colmap.read, colmap.check, colmap.FILE, "COLMAP, 3D Gaussian splatting", _CV),
    "gsplat": Format(gsplat.write, gsplat.read, anything, gsplat.FILE, "gsplat's functions", _CV),
    "nerf-synthetic": Format(
        nerf_synthetic.write, nerf_synthetic.read, nerf_synthetic.check, nerf_synthetic.FILE, "NeRF and kin", _GL
    ),
    "facelift": Format(facelift.write, facelift.read, facelift.check, facelift.FILE, "GS-LRM, FaceLift", _CV),
}


def find_format(name: str) -> Format:
    """The format of that name; UnknownNameError names the nearest."""
    if name not in FORMATS:
        raise UnknownNameError("format", name, FORMATS)
    return FORMATS[name]


def ready(cameras: Camera, folder: Path, name: str) -> Format:
    """The format, made sure before anything is drawn that `save` will take the cameras and the folder; raises as it."""
    chosen = find_format(name)
    chosen.check(cameras)
    vacant(folder)
    return chosen


def save(bundle: Bundle, folder: Path, name: str) -> None:
    """Write a bundle as a new folder, which appears whole or not at all.

    Raises:
        UnknownNameError: another format. RequestError: cameras that the format cannot tell.
        ExistsError: there is something at ``folder``. FileError: the place cannot be written.
    """
    chosen = ready(bundle.cameras, folder, name)
    with new_folder(folder) as part:
        chosen.write(bundle, part)
        (part / "README.md").write_text(_readme(bundle, name, chosen), encoding="utf-8")


def load(place: Path) -> Found:
    """The cameras of any of these formats: a folder, or the file in which they stand.

    Raises:
        FileError: there is nothing of the kind; ConfigError (a FileError) where there are several, or it is broken.
    """
    if place.is_dir():
        files = {name: place / row.file for name, row in FORMATS.items()}
        files["colmap"] = place if _colmap(place) else place / colmap.FOLDER
        there = [name for name, file in files.items() if file.is_file() or (file.is_dir() and _colmap(file))]
        if len(there) != 1:
            said = f"of {' and '.join(there)}; name the file" if there else "that are known: " + _known()
            raise ConfigError(f"{place}: holds cameras {said}" if there else f"{place}: holds no cameras {said}")
        return FORMATS[there[0]].read(files[there[0]])
    if not place.is_file():
        raise FileError(f"{place}: there is no such file or folder")
    if place.suffix == ".npz":
        return gsplat.read(place)
    if place.suffix == ".txt":
        return colmap.read(place)
    return facelift.read(place) if _w2c(read_json(place)) else nerfstudio.read(place)


def _known() -> str:
    return ", ".join(row.file for row in FORMATS.values())


def _colmap(folder: Path) -> bool:
    return any((folder / f"cameras.{end}").is_file() for end in ("txt", "bin"))


def _w2c(told: dict[str, Any]) -> bool:
    """Whether the views of a file have GS-LRM's matrices."""
    frames = told.get("frames")
    return isinstance(frames, list) and bool(frames) and isinstance(frames[0], dict) and "w2c" in frames[0]


def _readme(bundle: Bundle, name: str, chosen: Format) -> str:
    """What the folder holds, for those who find it."""
    cameras = bundle.cameras
    height, width = cameras.size
    lines = [f"# {cameras.shape[0]} views for {chosen.readers}", ""]
    lines += [f"{width} x {height} pixels, {cameras.projection} cameras; written by safelight as `{name}`.", ""]
    lines += [f"- `{chosen.file}`: {chosen.poses}; pixel centres at 0.5; the world is right-handed with z up."]
    images = "train" if name == "nerf-synthetic" else "images"
    cut = "" if bundle.mattes is None else "; transparency is the matte, edges are free of the background"
    told = {
        "images": f"- `{images}/`: the pictures{cut}.",
        "masks": "- `masks/`: 0 = background, 255 = figure.",
        "normals": "- `normals/`: 255 (n + 1) / 2; camera axes x right, y up, z towards the viewer.",
        "depth": "- `depth/`: 16 bits, 1000 x depth along the optical axis; 0 = background.",
    }
    lines += [told[layer] for layer in bundle.layers()]
    if bundle.pictures is None:
        last = f"{images}/{bundle.names()[-1]}.png"
        lines += [f"- The pictures are not here; the cameras expect them as `{images}/000.png` to `{last}`."]
    if bundle.background is not None:
        lines += [f"- The background was red, green, blue {', '.join(f'{c:g}' for c in bundle.background)} (0 to 1)."]
    if name == "nerfstudio" and cameras.projection == "orthographic":
        lines += ["- nerfstudio scales poses but not pixels per unit of the world: train with"]
        lines += ["  `--auto-scale-poses False`."]
    return "\n".join(lines) + "\n"
