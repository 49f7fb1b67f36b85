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
    add("--camera", metavar="AZ,EL", action="append", help="azimuth and elevation in degrees, such as 30,6; repeatable")
    add("--elevation", type=float, metavar="D", help="of the portrait's camera in degrees, for models that are told it")


def chosen(args: argparse.Namespace, preset: Preset) -> Camera:
    """The cameras [V], at the distance and with the lens with which the model learned.

    Raises:
        RequestError: several of the flags, a number out of range, or any of them for a model that draws its rig alone.
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
        _doubt([elevation for _, elevation in places])
    return _orbit(places, preset)


def portrait(args: argparse.Namespace) -> Camera | None:
    """Where the portrait was taken from: in front, as far away as the views; None where nothing says how high.

    Raises:
        RequestError: no angle between straight below and straight above.
    """
    from safelight.core.camera import Camera
    from safelight.multiview.zero123.model import FOV

    if args.elevation is None:
        return None
    if not -90 <= args.elevation <= 90:
        raise RequestError(f"--elevation is an angle from -90 to 90 degrees, not {args.elevation:g}")
    return Camera.orbit(0.0, args.elevation, distance=ANYWHERE, fov=FOV, size=64)


def target(preset: Preset) -> tuple[float, float, float]:
    """What the cameras of a model look at."""
    from safelight.figurines.render import PORTRAIT

    found: tuple[float, float, float] = PORTRAIT["target"] if preset.figure else (0.0, 0.0, 0.0)
    return found


def _own(preset: Preset) -> Camera:
    from safelight.multiview.rig import rig

    return rig(preset.rig).cameras(preset.size)


def _places(args: argparse.Namespace, preset: Preset) -> list[tuple[float, float]]:
    """Azimuth and elevation of each view in degrees."""
    from safelight.figurines.render import PORTRAIT
    from safelight.multiview.rig import rig

    if args.camera:
        return [rigged.angles(text, "--camera") for text in args.camera]
    if args.rig:
        azimuth, elevation, _ = rig(args.rig).cameras(None).angles()
        print("views are drawn at the model's own distance and with its lens, at the rig's angles", file=sys.stderr)
        return list(zip(azimuth.tolist(), elevation.tolist(), strict=True))
    height = PORTRAIT["elevation"] if preset.figure else preset.elevation
    if preset.rig and args.count is None:
        return [(azimuth, height) for azimuth in rig(preset.rig).azimuths]
    count = COUNT if args.count is None else args.count
    return [(360.0 * view / count, height) for view in range(count)]


def _orbit(places: list[tuple[float, float]], preset: Preset) -> Camera:
    import torch

    from safelight.core.camera import Camera
    from safelight.figurines.render import PORTRAIT
    from safelight.multiview.rig import rig
    from safelight.multiview.zero123.model import FOV

    azimuths, elevations = torch.tensor(places).unbind(-1)
    distance, fov = ANYWHERE, FOV
    if preset.figure:
        distance, fov = PORTRAIT["distance"], PORTRAIT["fov"]
    elif preset.rig:
        own = rig(preset.rig)
        assert own.fov is not None
        distance, fov = own.distance, own.fov
    return Camera.orbit(azimuths, elevations, distance=distance, fov=fov, size=64, target=target(preset))


def _doubt(elevations: list[float]) -> None:
    """Say which cameras a model of figurines has not learned."""
    from safelight.train.views.scenes import ELEVATIONS

    low, high = ELEVATIONS
    beyond = [f"{e:g}" for e in elevations if not low <= e <= high]
    if beyond:
        told = f"{low:g} to {high:g}"
        print(f"cameras at {', '.join(beyond)} degrees: trained on {told}; expect these to be worse", file=sys.stderr)
