"""Flags that say where views are taken from: a named rig, or cameras one by one."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from safelight.errors import RequestError

if TYPE_CHECKING:
    from safelight.core.camera import Camera

FOV = 40.0
LARGEST = 8192


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--rig``, and ``--camera`` with its lens."""
    add = parser.add_argument
    add("--rig", metavar="NAME", help="the views of a published model, such as zero123pp-1.2")
    where = "azimuth and elevation in degrees, and distance, such as --camera=-30,6,8; repeatable"
    add("--camera", metavar="AZ,EL,DIST", action="append", help=where)
    add(
        "--fov",
        type=float,
        metavar="D",
        help=f"degrees that the height of --camera's picture spans; {FOV:g} by default",
    )
    add("--span", type=float, metavar="L", help="orthographic instead: the length that the picture's height shows")


def chosen(args: argparse.Namespace, size: int | None, default: int) -> tuple[Camera, bool]:
    """The cameras [V] in float64 of ``--rig`` or ``--camera``, and whether they are a rig's, in its own unit.

    Args:
        size: pixels a side; None = the rig's own, or ``default`` for single cameras.

    Raises:
        RequestError: neither or both of them, a lens for a rig, or numbers out of range.
    """
    import torch

    from safelight.core.camera import Camera
    from safelight.multiview.bounds import checked
    from safelight.multiview.rig import rig

    if bool(args.rig) == bool(args.camera):
        raise RequestError("give --rig NAME, or --camera AZ,EL,DIST once or more; 'safelight cameras' lists the rigs")
    if size is not None and not 1 <= size <= LARGEST:
        raise RequestError(f"--size is a number of pixels from 1 to {LARGEST}, not {size}")
    if args.rig:
        for flag in ("fov", "span"):
            if getattr(args, flag) is not None:
                raise RequestError(f"--{flag} is of --camera; a rig has a lens of its own")
        return rig(args.rig).cameras(size, torch.float64), True
    if args.fov is not None and args.span is not None:
        raise RequestError("--fov is of perspective pictures, --span of orthographic ones; give one")
    places = torch.tensor([place(text) for text in args.camera], dtype=torch.float64)
    fov = FOV if args.fov is None else args.fov
    azimuth, elevation, distance = places.unbind(-1)
    views = Camera.orbit(azimuth, elevation, distance, fov, size or default, dtype=torch.float64)
    return checked(views if args.span is None else views.orthographic(args.span)), False


def angles(text: str, flag: str) -> tuple[float, float]:
    """Azimuth and elevation in degrees, such as 30,6; RequestError names the flag."""
    try:
        azimuth, elevation = (float(part) for part in text.split(","))
    except ValueError:
        azimuth = elevation = math.nan
    if not (abs(azimuth) <= 360 and abs(elevation) <= 90):
        raise RequestError(f"{flag} is azimuth,elevation in degrees, such as 30,6, not {text!r}")
    return azimuth, elevation


def place(text: str) -> tuple[float, float, float]:
    """Azimuth and elevation in degrees, and distance, such as 30,6,8; RequestError."""
    try:
        azimuth, elevation, distance = (float(part) for part in text.split(","))
    except ValueError:
        azimuth = elevation = distance = math.nan
    if not (abs(azimuth) <= 360 and abs(elevation) <= 90 and 0 < distance < math.inf):
        raise RequestError(f"--camera is azimuth,elevation,distance, such as 30,6,8, not {text!r}")
    return azimuth, elevation, distance
