"""``safelight views``: draws views of one thing from a picture, a text or both, as a folder for other programs."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.cli import output, values, viewpoints
from safelight.errors import ExistsError, FileError, RequestError, UnknownNameError
from safelight.weights.folder import typed

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from safelight.cli.frames import Frames
    from safelight.core.camera import Camera
    from safelight.generate.pipe import Pipe
    from safelight.generate.settle import Settled as Larger
    from safelight.generate.views import Seen, Settled, ViewRequest
    from safelight.multiview.bundle import Bundle
    from safelight.multiview.model import ViewModel
    from safelight.multiview.presets import Preset

DEFAULT = "figurines-views"
FRAME_MS = 120
NORMALS = "portrait.png"
"""The file in the folder of normals that is of the portrait."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``views``."""
    add = parser.add_argument
    shown = "a picture from in front, on a plain background, of a figurine or of what the model draws; none for a text"
    add("portrait", metavar="PORTRAIT", nargs="?", help=shown)
    add("-m", "--model", metavar="MODEL", default=DEFAULT, help="a model of views, by name or folder")
    add("--preset", metavar="NAME", help="which published model it is, for a folder that does not say, such as mvdream")
    add("--prompt", metavar="TEXT", help="what to draw, or what the portrait shows, for models that read a text")
    add("--negative", metavar="TEXT", help="what to lead away from, for the same models")
    viewpoints.arguments(parser)
    add("--normals", metavar="DIR", help=f"coarse normals in each camera's own axes, 000.png and on, and {NORMALS}")
    add("--steps", type=int, metavar="N", help="steps; by default the model's own")
    add("--guidance", metavar="S[,S...]", help="how much portrait and prompt lead, all views or each; else the model's")
    add("--normals-guidance", metavar="S[,S...]", help="how much the normals lead, apart from the portrait")
    add("--refine", metavar="DIR", help="begin from pictures of the views, such as renders, 000.png and on")
    add("--strength", type=float, metavar="S", help="of --refine: how much of them is forgotten, above 0 to 1 (all)")
    add("--slots", type=int, metavar="N", help="draw at most N views at once, in groups that change at every step")
    add("--chunk", type=int, metavar="N", default=0, help="answer N queries of attention at once, for memory")
    add("--shift", metavar="F", help="levels nearer to noise: a number above 0, or views for the root of their count")
    add("--upscale-with", metavar="MODEL", help="the x2 latent upscaler, which then draws every view twice as large")
    add("--seed", type=int, metavar="N", default=0, help="equal numbers give equal views")
    add("--sampler", metavar="NAME", help="sampler; by default the model's own")
    add("--device", metavar="D", help="cpu, cuda, ...; by default the best there is")
    add("-o", "--output", metavar="DIR", default="views", help="the new folder; views by default")
    add("--export", metavar="FORMAT", default="nerfstudio", help="nerfstudio by default, colmap, gsplat, ...")
    add("--turntable", metavar="FILE.gif", help="also the views in their order, as a film")
    add("--every-step", metavar="PLACE", help="also keep what the network sees after each step: a folder, or FILE.gif")
    add("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Draw, and write a folder with pictures, mattes, cameras and a sheet."""
    from safelight.generate.file import open_picture
    from safelight.generate.telling import check
    from safelight.generate.views import bundle, of_a_figure
    from safelight.multiview.export.table import ready
    from safelight.multiview.model import load, named
    from safelight.runtime.device import pick

    if args.turntable and Path(args.turntable).suffix.lower() != ".gif":
        raise RequestError(f"--turntable writes a GIF; let its name end in .gif, not {Path(args.turntable).name!r}")
    folder, place = typed(args.output), located(args.model)
    preset = named(place, args.preset or "")
    cameras = viewpoints.chosen(args, preset)
    ready(cameras, folder, args.export)
    if args.turntable:
        output.reachable(typed(args.turntable).parent)
        if typed(args.turntable).exists():
            raise ExistsError(f"{typed(args.turntable)}: exists; name another with --turntable")
    portrait = None if args.portrait is None else open_picture(args.portrait)
    request = _request(args, preset, portrait, cameras)
    check(preset, place.name, request)
    if portrait is not None and preset.figure:
        of_a_figure(portrait)
    model = load(place, pick(args.device), args.preset or "", args.chunk)
    request = replace(request, cameras=cameras.resized(model.preset.size))
    upscaler = _upscaler(args, model, request)
    drawn = _drawn(args, model, request)
    larger = None if upscaler is None else _larger(*upscaler, drawn)
    cameras = cameras.resized(model.preset.size if larger is None else larger.shape[1])
    return _written(args, bundle(drawn, cameras, larger), folder, drawn)


def _upscaler(args: argparse.Namespace, model: ViewModel, request: ViewRequest) -> tuple[Pipe, list[Larger]] | None:
    """The upscaler, and what it will draw of every view."""
    if not args.upscale_with:
        return None
    from safelight.generate.larger import settle
    from safelight.generate.pipe import load

    pipe = load(args.upscale_with, args.device)
    return pipe, settle(pipe, model, request)


def _larger(pipe: Pipe, settled: list[Larger], drawn: Seen) -> np.ndarray:
    """The views as the upscaler draws them: uint8 [V, H, W, 3]."""
    from safelight.cli.bar import Bar
    from safelight.generate.larger import enlarge, pictures

    found, each = [], settled[0].evaluations
    with Bar("enlarging", each and each * len(settled)) as bar:
        for done, shown in enumerate(enlarge(pipe, settled, drawn.latents)):
            bar.move(done + 1)
            found += [shown.drawn] if shown.drawn else []
    return pictures(found)


def located(name: str) -> Path:
    """The folder of a model of views.

    Raises:
        UnknownNameError: neither a folder, nor one that came along.
    """
    from safelight.generate.source import viewers

    known, place = viewers(), typed(name)
    if name in known:
        return known[name]
    if not place.is_dir():
        raise UnknownNameError("model of views (neither a folder, nor one that came along)", name, known)
    return place


def _request(args: argparse.Namespace, preset: Preset, portrait: Image | None, cameras: Camera) -> ViewRequest:
    from safelight.generate.file import open_picture
    from safelight.generate.views import ViewRequest

    if args.strength is not None and not args.refine:
        raise RequestError("--strength is of pictures to refine; name their folder with --refine")
    normals = _pictures("--normals", args.normals, cameras.shape[0])
    own = typed(args.normals) / NORMALS if args.normals else None
    return ViewRequest(
        portrait=portrait,
        cameras=cameras,
        normals=normals,
        own_normals=open_picture(own) if own and own.is_file() else None,
        steps=args.steps,
        guidance=_scales("--guidance", args.guidance),
        normals_guidance=_scales("--normals-guidance", args.normals_guidance),
        seed=args.seed,
        sampler=args.sampler,
        begin=_pictures("--refine", args.refine, cameras.shape[0]),
        strength=args.strength,
        slots=args.slots,
        shift=_shift(args.shift),
        prompt=args.prompt,
        negative=args.negative,
        own_camera=viewpoints.portrait(args, preset),
    )


def _pictures(flag: str, folder: str | None, count: int) -> list[Image]:
    """The pictures of a folder that a flag names, one for each view; none for no folder."""
    from safelight.generate.file import open_picture

    if not folder:
        return []
    place = typed(folder)
    if not place.is_dir():
        raise FileError(f"{place}: no such folder; {flag} takes one with 000.png and on")
    return [open_picture(place / f"{view:03d}.png") for view in range(count)]


def _shift(text: str | None) -> float | str | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _scales(flag: str, text: str | None) -> tuple[float, ...] | None:
    """One number for all views, or one for each."""
    return None if text is None else values.numbers(flag, text, 0, "view")


def _drawn(args: argparse.Namespace, model: ViewModel, request: ViewRequest) -> Seen:
    from PIL import Image as Pillow

    from safelight.cli.bar import Bar
    from safelight.generate.telling import doubts
    from safelight.generate.views import draw, settle

    for doubt in doubts(model, request):
        print(doubt, file=sys.stderr)
    settled = settle(model, request)
    if settled.strength is not None:
        run = f"{len(settled.levels) - 1} of {settled.steps} steps (strength {settled.strength:g})"
        print(f"the given views are drawn over in {run}", file=sys.stderr)
    for cut in settled.cut:
        print(f"the prompt is too long for the text encoder; this was cut off: {cut!r}", file=sys.stderr)
    frames = None if args.every_step is None else _frames(args.every_step, request.cameras.shape[0], settled)
    last: Seen | None = None
    with Bar("drawing", settled.evaluations) as bar:
        for last in draw(model, request):
            bar.move(last.step)
            if frames:
                for view, picture in enumerate(last.pictures()):
                    frames.keep(view, last.step, Pillow.fromarray(picture), last=last.last)
    assert last is not None
    return last


def _frames(place: str, count: int, settled: Settled) -> Frames:
    """Where the steps of so many views go, whose pictures have the names that they have in the folder."""
    from safelight.cli.frames import Frames

    return Frames(place, [f"{view:03d}" for view in range(count)], [settled.evaluations] * count, None)


def _written(args: argparse.Namespace, made_of: Bundle, folder: Path, drawn: Seen) -> int:
    from safelight.figurines.sheet import sheet
    from safelight.multiview.export.table import save

    pictures, cameras, model = made_of.pictures, made_of.cameras, drawn.model
    assert pictures is not None
    save(made_of, folder, args.export)
    azimuths, elevations, _ = (part.tolist() for part in cameras.angles(viewpoints.target(model.preset)))
    words = [f"{azimuth:.0f}, {elevation:.0f}" for azimuth, elevation in zip(azimuths, elevations, strict=True)]
    output.put(folder / "sheet.png", output.png(sheet(list(pictures), words)), force=True)
    told = {"model": model.name, "seed": args.seed, "steps": drawn.step, "azimuth": azimuths, "elevation": elevations}
    made = {"folder": str(folder), **told}
    if args.turntable:
        made["turntable"] = str(_film(typed(args.turntable), pictures))
    print(json.dumps(made) if args.json else "\n".join(_said(made)))
    return 0


def _film(place: Path, pictures: np.ndarray) -> Path:
    import io

    from PIL import Image as Pillow

    frames = [Pillow.fromarray(picture) for picture in pictures]
    data = io.BytesIO()
    frames[0].save(data, "GIF", save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0)
    output.put(place, data.getvalue(), force=False)
    return place


def _said(made: dict[str, Any]) -> list[str]:
    return [made[name] for name in ("folder", "turntable") if name in made]
