"""``safelight cameras``: lists rigs, prints poses as other programs write them, draws and exports cameras."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.cli import rigged
from safelight.errors import RequestError

if TYPE_CHECKING:
    from PIL.Image import Image

    from safelight.core.camera import Camera
    from safelight.multiview.rig import Rig

SIZE = 512


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``cameras``."""
    rigged.arguments(parser)
    add = parser.add_argument
    add("--from", dest="source", metavar="PATH", help="cameras of another program's file, or of the folder it is in")
    add("--size", type=int, metavar="N", help="pixels a side; those of the rig, the file or the pictures by default")
    add("--own", action="store_true", help="a rig in the world of its model's own files, whose front may be elsewhere")
    add("--convention", metavar="NAME", help="print poses as opencv-c2w, opencv-w2c, opengl-c2w or colmap")
    add("--plot", metavar="FILE.png", help="draw where the cameras stand, from above and from the side")
    formats = "nerfstudio, colmap, gsplat, nerf-synthetic or facelift"
    add("--export", metavar="FORMAT", help=f"write a folder for {formats}")
    add(
        "--images",
        nargs="+",
        metavar="FILE",
        help="the views' pictures in order, which --export puts beside the cameras",
    )
    add("-o", "--output", metavar="DIR", help="the new folder of --export")
    add("--json", action="store_true", help="print one JSON object, with every convention")


def run(args: argparse.Namespace) -> int:
    """List, print, draw or export."""
    if not (args.rig or args.camera or args.source):
        _alone(args)
        return _list(args.json)
    _idle(args)
    pictures = _pictures(args.images or [])
    cameras = _cameras(args, pictures)
    done: dict[str, str] = {}
    if args.plot:
        done["plot"] = _plot(args, cameras)
    if args.export:
        done["folder"] = _export(args, cameras, pictures)
    if args.json:
        print(json.dumps({**_facts(cameras), **done}))
    elif done:
        print("\n".join(done.values()))
    else:
        print("\n".join(_told(args, cameras)))
    return 0


def _alone(args: argparse.Namespace) -> None:
    """RequestError for flags that need cameras, where there are none."""
    for flag in ("fov", "span", "size", "own", "convention", "plot", "export", "images", "output"):
        if getattr(args, flag) not in (None, False):
            raise RequestError(f"--{flag} needs cameras: --rig NAME, --camera AZ,EL,DIST or --from PATH")


def _idle(args: argparse.Namespace) -> None:
    """RequestError for flags that would do nothing together."""
    printed = not (args.plot or args.export or args.json)
    for flag, given, used, why in (
        ("--from", args.source, not (args.rig or args.camera), "stands alone: not with --rig or --camera"),
        ("--fov", args.fov is not None, not args.source, "is of --camera"),
        ("--span", args.span is not None, not args.source, "is of --camera"),
        ("--own", args.own, args.rig, "is of --rig"),
        ("--convention", args.convention, printed, "chooses what is printed; --json has all, --export its own"),
        ("--images", args.images, args.export, "does nothing without --export"),
        ("--output", args.output, args.export, "does nothing without --export"),
        ("--export", args.export, args.output, "needs a new folder: -o DIR"),
    ):
        if given and not used:
            raise RequestError(f"{flag} {why}")
    if args.plot and Path(args.plot).suffix.lower() != ".png":
        raise RequestError(f"--plot draws a PNG; let its name end in .png, not {Path(args.plot).name!r}")


def _cameras(args: argparse.Namespace, pictures: list[Image]) -> Camera:
    from safelight.multiview.bounds import checked
    from safelight.multiview.export.table import load
    from safelight.multiview.rig import rig
    from safelight.weights.folder import typed

    size = args.size
    if size is None and pictures and pictures[0].width == pictures[0].height:
        size = pictures[0].width
    if args.source:
        cameras = checked(load(typed(args.source)).cameras, nearest=0.0)
        if args.size is not None and not 1 <= args.size <= rigged.LARGEST:
            raise RequestError(f"--size is a number of pixels from 1 to {rigged.LARGEST}, not {args.size}")
        return cameras if args.size is None else cameras.resized(args.size)
    cameras, _ = rigged.chosen(args, size, SIZE)
    return rig(args.rig).cameras(size, cameras.position.dtype, own=True) if args.own else cameras


def _pictures(names: list[str]) -> list[Image]:
    from safelight.generate.file import open_picture

    return [open_picture(name) for name in names]


def _plot(args: argparse.Namespace, cameras: Camera) -> str:
    from safelight.cli import output
    from safelight.multiview.plot import plot
    from safelight.weights.folder import typed

    place = typed(args.plot)
    output.reachable(place.parent)
    output.put(place, output.png(plot(cameras, args.rig or args.source or "")), force=True)
    return str(place)


def _export(args: argparse.Namespace, cameras: Camera, pictures: list[Image]) -> str:
    from safelight.multiview.bundle import Bundle
    from safelight.multiview.export.table import save
    from safelight.weights.folder import typed

    folder = typed(args.output)
    save(Bundle.of(cameras, pictures), folder, args.export)
    return str(folder)


def _facts(cameras: Camera) -> dict[str, Any]:
    """Cameras as JSON."""
    from safelight.multiview.conventions import CONVENTIONS

    azimuth, elevation, distance = (part.tolist() for part in cameras.angles())
    height, width = cameras.size
    return {
        "projection": cameras.projection,
        "width": width,
        "height": height,
        "azimuth": azimuth,
        "elevation": elevation,
        "distance": distance,
        "intrinsics": cameras.intrinsics.tolist(),
        "poses": {name: row.poses(cameras) for name, row in CONVENTIONS.items()},
    }


def _told(args: argparse.Namespace, cameras: Camera) -> list[str]:
    """Cameras as text: a line a view, or their poses."""
    from safelight.multiview.conventions import convention

    if args.convention:
        chosen = convention(args.convention)
        lines = [f"{args.convention}: {chosen.what} ({chosen.who})"]
        for view, rows in enumerate(chosen.poses(cameras)):
            lines += [f"view {view}", *("  " + "  ".join(_number(value, 9, 6) for value in row) for row in rows)]
        return lines
    from safelight.multiview.rig import rig

    lines = _about(rig(args.rig)) if args.rig else []
    height, width = cameras.size
    lines += [f"{cameras.projection}, {width} x {height} pixels"]
    lines += ["view   azimuth  elevation   distance          x          y          z      focal"]
    parts = (*cameras.angles(), *cameras.position.unbind(-1), cameras.focal[:, 0])
    for view, row in enumerate(zip(*(part.tolist() for part in parts), strict=True)):
        azimuth, elevation, *rest = row
        words = [_number(azimuth, 9, 3), _number(elevation, 10, 3), *(_number(value, 10, 4) for value in rest)]
        lines += [f"{view:4} " + " ".join(words)]
    return lines


def _number(value: float, width: int, places: int) -> str:
    """A number without a sign where it is 0."""
    return f"{round(value, places) + 0.0:{width}.{places}f}"


def _about(row: Rig) -> list[str]:
    said = [f"{row.name}: {row.title}", f"source: {row.source}"]
    said += ["azimuths count from the given picture"] if row.relative else []
    said += [f"not fixed by the source, chosen here: {', '.join(row.assumed)}"] if row.assumed else []
    return [*said, *([f"note: {row.note}"] if row.note else [])]


def _list(as_json: bool) -> int:
    from dataclasses import asdict

    from safelight.multiview.rig import rigs

    if as_json:
        print(json.dumps({name: asdict(row) for name, row in rigs().items()}))
        return 0
    print(f"{'name':14}  views  {'lens':13}  {'elevations':10}  distance  model")
    for name, row in rigs().items():
        lens = f"fov {row.fov:.4g}" if row.fov else f"ortho {row.span:g}"
        raised = ", ".join(f"{angle:g}" for angle in dict.fromkeys(row.elevations))
        print(f"{name:14}  {len(row.azimuths):5}  {lens:13}  {raised:10}  {row.distance:8.4g}  {row.title}")
    print(
        "\nAzimuth 0 is in front, positive counter-clockwise seen from above; 'safelight cameras --rig NAME' says more."
    )
    return 0
