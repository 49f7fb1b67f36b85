"""Where the views of ``safelight views`` are taken from: its flags, and what stands for them by default."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from safelight.cli import rigged
from safelight.errors import RequestError

if TYPE_CHECKING:
    from safelight.core.camera import Camera
    from safelight.multiview.presets import Preset

COUNT = 8
ANYWHERE = 1.8
"""How far from the middle views stand of models that have no rig: amid the distances of their training."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``-n``, ``--rig``, ``--camera`` and ``--elevation``."""
    add = parser.add_argument
    around = f"views all around at one height, 1 to 64; by default the model's own rig, or {COUNT}"
    add("-n", "--count", type=int, metavar="N", help=around)
    add("--rig", metavar="NAME", help="the angles of a published model's views, such as zero123pp-1.2")
    where = "azimuth and elevation in degrees, such as 30,6, and the distance, for models that are told it; repeatable"
    add("--camera", metavar="AZ,EL[,DIST]", action="append", help=where)
    add("--elevation", type=float, metavar="D", help="of the portrait's camera in degrees, for models that are told it")


def chosen(args: argparse.Namespace, preset: Preset) -> Camera:
    """The cameras [V] with the lens with which the model learned, and where no distance is given, from as far away.

    Raises:
        RequestError: several of the flags, a number out of range, any of them for a model that draws its rig alone, or
            a distance for one that is not told how far away cameras are.
        UnknownNameError: no such rig.
    """
    from safelight.multiview.bounds import MOST_VIEWS

    given = sum(value is not None for value in (args.count, args.rig, args.camera))
    if given > 1:
        raise RequestError("-n, --rig and --camera each say where views are taken from; give one of them")
    if args.count is not None and not 1 <= args.count <= MOST_VIEWS:
        raise RequestError(f"-n is a number from 1 to {MOST_VIEWS}, not {args.count}")
    if given and not preset.free:
        raise RequestError(f"{preset.title}: draws the views of its own rig; leave -n, --rig and --camera out")
    if not preset.free:
        return _own(preset)
    places = _places(args, preset)
    if preset.figure:
        _doubt([elevation for _, elevation, _ in places])
    return _orbit(places, preset)


def portrait(args: argparse.Namespace, preset: Preset) -> Camera | None:
    """Where the portrait was taken from: in front, from as far as is usual; None where nothing is said that needs it,
    neither how high it was taken, nor how far away a view is.

    Raises:
        RequestError: no angle between straight below and straight above.
    """
    from safelight.core.camera import Camera
    from safelight.multiview.encode import encoder
    from safelight.multiview.zero123.model import FOV

    far = _told_distance(preset) and encoder(preset.camera).needs == "reference"
    if args.elevation is None and not (far and any(text.count(",") == 2 for text in args.camera or [])):
        return None
    height = preset.elevation if args.elevation is None else args.elevation
    if not -90 <= height <= 90:
        raise RequestError(f"--elevation is an angle from -90 to 90 degrees, not {height:g}")
    return Camera.orbit(0.0, height, distance=ANYWHERE, fov=FOV, size=64)


def target(preset: Preset) -> tuple[float, float, float]:
    """What the cameras of a model look at."""
    from safelight.figurines.render import PORTRAIT

    found: tuple[float, float, float] = PORTRAIT["target"] if preset.figure else (0.0, 0.0, 0.0)
    return found


def _own(preset: Preset) -> Camera:
    from safelight.multiview.rig import rig

    return rig(preset.rig).cameras(preset.size)


def _places(args: argparse.Namespace, preset: Preset) -> list[tuple[float, float, float]]:
    """Azimuth and elevation of each view in degrees, and its distance."""
    from safelight.figurines.render import PORTRAIT
    from safelight.multiview.rig import rig

    usual, _ = _lens(preset)
    if args.camera:
        return [_place(text, preset, usual) for text in args.camera]
    if args.rig:
        azimuth, elevation, _ = rig(args.rig).cameras(None).angles()
        print("views are drawn at the model's own distance and with its lens, at the rig's angles", file=sys.stderr)
        return [(*angles, usual) for angles in zip(azimuth.tolist(), elevation.tolist(), strict=True)]
    height = PORTRAIT["elevation"] if preset.figure else preset.elevation
    if preset.rig and args.count is None:
        return [(azimuth, height, usual) for azimuth in rig(preset.rig).azimuths]
    count = COUNT if args.count is None else args.count
    return [(360.0 * view / count, height, usual) for view in range(count)]


def _place(text: str, preset: Preset, usual: float) -> tuple[float, float, float]:
    """What ``--camera`` says, from as far away as usual where it says nothing of that.

    Raises:
        RequestError: no such numbers, or a distance of which the model is not told.
    """
    if text.count(",") != 2:
        return (*rigged.angles(text, "--camera"), usual)
    azimuth, elevation, distance = rigged.place(text)
    if distance != usual and not _told_distance(preset):
        raise RequestError(
            f"{preset.title}: is not told how far away cameras are, and draws from {usual:g}; give --camera AZ,EL"
        )
    return azimuth, elevation, distance


def _told_distance(preset: Preset) -> bool:
    from safelight.multiview.encode import encoder

    return bool(preset.camera) and encoder(preset.camera).distant


def _lens(preset: Preset) -> tuple[float, float]:
    """How far away the cameras of a model's training stood, and the degrees that the height of a picture spans."""
    from safelight.figurines.render import PORTRAIT
    from safelight.multiview.rig import rig
    from safelight.multiview.zero123.model import FOV

    if preset.figure:
        return PORTRAIT["distance"], PORTRAIT["fov"]
    if not preset.rig:
        return ANYWHERE, FOV
    own = rig(preset.rig)
    assert own.fov is not None
    return own.distance, own.fov


def _orbit(places: list[tuple[float, float, float]], preset: Preset) -> Camera:
    import torch

    from safelight.core.camera import Camera

    azimuths, elevations, distances = torch.tensor(places).unbind(-1)
    _, fov = _lens(preset)
    return Camera.orbit(azimuths, elevations, distance=distances, fov=fov, size=64, target=target(preset))


def _doubt(elevations: list[float]) -> None:
    """Say which cameras a model of figurines has not learned."""
    from safelight.train.views.scenes import ELEVATIONS

    low, high = ELEVATIONS
    beyond = [f"{e:g}" for e in elevations if not low <= e <= high]
    if beyond:
        told = f"{low:g} to {high:g}"
        print(f"cameras at {', '.join(beyond)} degrees: trained on {told}; expect these to be worse", file=sys.stderr)
