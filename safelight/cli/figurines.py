"""``safelight figurines``: draws exact pictures, such as the default model learned from: a sheet, a data set, views."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from safelight.cli import rigged
from safelight.errors import RequestError, UnknownNameError
from safelight.weights.folder import typed

if TYPE_CHECKING:
    from safelight.core.camera import Camera
    from safelight.figurines.person import Person

MOST_ON_A_SHEET = 1000


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the things that can be made, each with its flags."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True, title="kinds")
    page = kinds.add_parser("sheet", help="a page of people with their captions", allow_abbrev=False)
    page.add_argument("-o", "--output", metavar="FILE.png", default="figurines.png", help="%(default)s by default")
    page.add_argument("--columns", type=int, metavar="N", default=6, help="people in a row")
    page.add_argument("--force", action="store_true", help="replace a file that exists")
    data = kinds.add_parser("dataset", help="pictures, captions, masks, normals, depth, cameras", allow_abbrev=False)
    data.add_argument("folder", metavar="DIR", help="a new folder")
    data.add_argument("--view", metavar="AZ,EL", action="append", help="degrees, such as --view=-30,6; repeatable")
    data.add_argument("--without", metavar="LAYER", action="append", default=[], help="masks, normals or depth")
    data.add_argument(
        "--always",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="what all have, such as hat=crown; repeatable",
    )
    data.add_argument("--caption", metavar="TEXT", default="", help="of every picture, instead of what it shows")
    data.add_argument("--thorough", action="store_true", help="captions that say all that is seen")
    data.add_argument("--framed", action="store_true", help="with a golden frame, which no portrait has")
    around = kinds.add_parser(
        "views", help="one person from every camera of a rig, for other programs", allow_abbrev=False
    )
    around.add_argument("folder", metavar="DIR", help="a new folder")
    rigged.arguments(around)
    around.add_argument(
        "--export", metavar="FORMAT", default="nerfstudio", help="%(default)s by default, colmap, gsplat, ..."
    )
    around.add_argument(
        "--prompt", metavar="TEXT", default="", help="what the person is like; the seed decides the rest"
    )
    around.add_argument("--without", metavar="LAYER", action="append", default=[], help="masks, normals or depth")
    around.add_argument(
        "-n", "--count", type=int, metavar="N", help="N cameras all around, as 'safelight views -n N' stands them"
    )
    around.add_argument(
        "--coarse",
        action="store_true",
        help="normals without hair, ears, hat and glasses, and portrait.png, for 'safelight views --normals'",
    )
    for kind, count in ((page, 24), (data, 1000)):
        kind.add_argument("-n", "--count", type=int, metavar="N", default=count, help="people; %(default)s by default")
    for kind in (page, data, around):
        kind.add_argument("--seed", type=int, metavar="N", default=0, help="equal numbers give equal people")
        kind.add_argument("--split", metavar="NAME", default="train", help="train, validation, test or unseen")
        kind.add_argument("--size", type=int, metavar="N", default=128, help="pixels a side; %(default)s by default")
        kind.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")


def run(args: argparse.Namespace) -> int:
    """Draw the sheet, or write the data set or the views."""
    return {"sheet": _sheet, "dataset": _dataset, "views": _views}[args.kind](args)


def _sheet(args: argparse.Namespace) -> int:
    from safelight.cli import output
    from safelight.cli.bar import Bar

    if not 1 <= args.count <= MOST_ON_A_SHEET or not 1 <= args.columns <= MOST_ON_A_SHEET:
        raise RequestError(f"a sheet has 1 to {MOST_ON_A_SHEET} people and columns; 'dataset' writes more")
    place = output.plan(args.output, args.seed, 1, args.force)
    from safelight.figurines.dataset import Order, examples
    from safelight.figurines.render import portrait
    from safelight.figurines.sheet import sheet

    order = Order(args.count, args.seed, args.split, args.size)
    people = examples(order.count, order.seed, order.split)
    pictures = []
    with Bar("drawing", order.count) as bar:
        for person, _, _ in people:
            pictures.append(portrait(person, order.size))
            bar.move(len(pictures))
    place.put(0, output.png(sheet(pictures, [text for _, text, _ in people], args.columns)))
    if place.paths:
        print(place.name(0))
    return 0


def _dataset(args: argparse.Namespace) -> int:
    from safelight.cli.bar import Bar
    from safelight.figurines.dataset import LAYERS, Order, write

    for layer in args.without:
        if layer not in LAYERS:
            raise UnknownNameError("layer", layer, LAYERS)
    views = tuple(rigged.angles(text, "--view") for text in args.view or ["0,6"])
    layers = tuple(layer for layer in LAYERS if layer not in args.without)
    always = dict(_pair(text) for text in args.always)
    said = {"caption": args.caption, "framed": args.framed, "thorough": args.thorough}
    order = Order(args.count, args.seed, args.split, args.size, views, layers, always, **said)
    folder = typed(args.folder)
    with Bar("drawing", order.count, every=30) as bar:
        for done in write(folder, order):
            bar.move(done)
    print(folder)
    return 0


def _views(args: argparse.Namespace) -> int:
    from safelight.cli.bar import Bar
    from safelight.figurines.captions import unknown_words
    from safelight.figurines.dataset import Order
    from safelight.multiview.export.table import ready, save
    from safelight.multiview.figurine import LAYERS, described, gathered, views

    order = Order(1, args.seed, args.split, args.size)
    for layer in args.without:
        if layer not in LAYERS:
            raise UnknownNameError("layer", layer, LAYERS)
    layers = [layer for layer in LAYERS if layer not in args.without]
    if args.coarse and "normals" not in layers:
        raise RequestError("--coarse is of normals, and --without leaves them out; give one")
    cameras, folder = _around(args), typed(args.folder)
    ready(cameras, folder, args.export)
    if words := unknown_words(args.prompt):
        print(f"words that figurines do not know: {', '.join(words)}", file=sys.stderr)
    person = described(args.prompt, order.seed, order.split)
    drawn = []
    with Bar("drawing", cameras.shape[0]) as bar:
        for one in views(person, cameras, layers, args.coarse):
            drawn.append(one)
            bar.move(len(drawn))
    save(gathered(person, cameras, drawn), folder, args.export)
    if args.coarse:
        _front(person, folder, args.size)
    print(folder)
    return 0


def _around(args: argparse.Namespace) -> Camera:
    """The cameras that are asked for, in the figurines' world."""
    import torch

    from safelight.evaluate.views.truth import cameras
    from safelight.figurines.render import PORTRAIT
    from safelight.multiview.bounds import MOST_VIEWS
    from safelight.multiview.figurine import fitted

    if args.count is None:
        found, own_unit = rigged.chosen(args, args.size, args.size)
        return (fitted(found) if own_unit else found).to(torch.float32)
    if any(given is not None for given in (args.rig, args.camera, args.fov, args.span)):
        raise RequestError("-n is of cameras with a lens of their own; leave --rig, --camera, --fov and --span out")
    if not 1 <= args.count <= MOST_VIEWS:
        raise RequestError(f"-n is a number from 1 to {MOST_VIEWS}, not {args.count}")
    return cameras([(360.0 * view / args.count, PORTRAIT["elevation"]) for view in range(args.count)], args.size)


def _front(person: Person, folder: Path, size: int) -> None:
    """What a model of views is given beside the views' normals: the portrait, and its own."""
    from PIL import Image

    from safelight.cli import output
    from safelight.cli.views import NORMALS
    from safelight.figurines.dataset import normal_map
    from safelight.figurines.render import portrait, portrait_camera, render

    bare = render(person, portrait_camera(size), buffers=("normals",), coarse=True).normals_camera
    assert bare is not None
    made = {folder / "portrait.png": portrait(person, size), folder / "normals" / NORMALS: normal_map(bare)}
    for place, pixels in made.items():
        output.put(place, output.png(Image.fromarray(pixels)), force=False)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise RequestError(f"--always is NAME=VALUE, such as hat=crown, not {text!r}")
    return name.strip(), value.strip()
