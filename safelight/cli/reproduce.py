"""``safelight reproduce``: draws a picture again and says whether every bit is equal, or what differs."""

from __future__ import annotations

import argparse

from safelight.cli import adapters, extras, source
from safelight.errors import RequestError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``reproduce``."""
    parser.add_argument("file", metavar="FILE", help="a picture that safelight drew: PNG, WebP, or JPEG")
    parser.add_argument("-m", "--model", metavar="MODEL", help="name or folder; by default a model that came along")
    parser.add_argument("--weak-model", metavar="MODEL", help="the same of the weaker model, where there was one")
    parser.add_argument("--refiner", metavar="MODEL", help="the same of the refiner, where there was one")
    parser.add_argument("--upscale-with", metavar="MODEL", help="the same of the upscaler, where there was one")
    parser.add_argument("--image", metavar="FILE", help="the picture it was drawn over, where there was one")
    parser.add_argument("--mask", metavar="FILE", help="the mask of that picture, where there was one")
    parser.add_argument("--depth", metavar="FILE", help="the depth it was drawn with, where there was one")
    adapters.arguments(parser)
    extras.arguments(parser)
    source.arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Draw and compare; 1 if a bit differs."""
    from safelight.cli.bar import Bar
    from safelight.generate.file import RECIPES, open_picture
    from safelight.generate.metadata.carrier import lossy, squeezed
    from safelight.generate.recipe import recipe_in

    picture = open_picture(args.file, RECIPES)
    recipe = recipe_in(picture)
    image, mask = (None if file is None else open_picture(file) for file in (args.image, args.mask))
    depth = None if args.depth is None else open_picture(args.depth, deep=True)
    from safelight.generate.reproduce import check_adapters, compare, differing, load_for, request_of

    if args.weak_model and recipe.weak is None:
        raise RequestError("the picture was drawn without --weak-model; leave it out")
    if args.refiner and recipe.refiner is None:
        raise RequestError("the picture was drawn without --refiner; leave it out")
    if args.upscale_with and recipe.upscaler is None:
        raise RequestError("the picture was drawn without --upscale-with; leave it out")
    beside = (args.weak_model, args.refiner, args.upscale_with)
    pipe = load_for(recipe, args.model, *beside, source=source.source(args))
    adapters.dress(args, pipe)
    extras.dress(args, pipe)
    uses = (*adapters.uses(args, pipe), *extras.uses(args))
    check_adapters(recipe, [worn.told() for worn in pipe.wardrobe.worn] + [use.told() for use in uses])
    request = request_of(recipe, image, mask, depth, uses)
    with Bar("drawing", pipe.settle(request).evaluations) as bar:
        for shown in pipe(request):
            bar.move(shown.index)
    assert shown.drawn is not None
    lost = lossy(args.file)
    again = squeezed(shown.drawn.image, args.file) if lost else shown.drawn.image
    difference = compare(picture, again)
    causes = list(differing(recipe, shown.drawn.recipe))
    if lost:
        print("the file is a JPEG, which keeps no bits: compared after the same losses")
    if difference.equal:
        print(("equal" if lost else "bit-equal") + "".join(f"\n  though {cause}" for cause in causes))
        return 0
    print(
        f"not equal: {difference.pixels:.2%} of the pixels differ, by at most {difference.largest} of 255, "
        f"PSNR {difference.psnr:.1f} dB" + "".join(f"\n  {cause}" for cause in causes)
    )
    return 1
