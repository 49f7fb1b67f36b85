"""The passes after the first: over what it drew, enlarged, and of models that are shown what was drawn before.

Those are the decoder after its prior, and an upscaler after any model.
"""

from __future__ import annotations

from dataclasses import replace

from safelight.core.kinds import KINDS
from safelight.encoders.shares import shares
from safelight.errors import RequestError
from safelight.families.family import Model
from safelight.generate.hires import PICTURE, Hires
from safelight.generate.request import Request
from safelight.generate.settle import STAND_IN, Settled, plan, settle
from safelight.vae.latent import LatentSpec

SHOWN = "shown"
"""How such a pass begins: from noise."""


def chained(
    model: Model,
    request: Request,
    weak: Model | None = None,
    refiner: Model | None = None,
    upscaler: Model | None = None,
) -> Settled:
    """What ``settle`` decides, the second pass of hires, and the passes of those who draw on.

    A second pass is drawn by the network whose latents are enlarged: those of a picture by the one that drew it, what
    is no picture yet by the one that begins; see docs/choose/passes.md.

    Args:
        weak, refiner: see ``settle``.
        upscaler: draws what was drawn once more, larger.

    Raises:
        RequestError: also that the upscaler is for other latents, or that later steps are asked of nobody.
        The others: see ``settle``.
    """
    whole = settle(model, request, weak, refiner)
    if model.after is upscaler is None and not request.later is request.later_guidance is None:
        raise RequestError("no model draws on from what is drawn; leave out what is later, or name an upscaler")
    if len(shares(request.prompt, request.emphasis)) > 1 and not model.after is upscaler is None:
        raise RequestError("AND composes answers of one network, and another draws on from them; ask for one prompt")
    hires = request.hires
    drawer = model.after if model.after and hires and hires.upscaler == PICTURE else model
    if hires and drawer is model:
        whole = _followed(whole, _enlarged(model, whole, hires, weak))
    for shown in (model.after, upscaler):
        if shown is not None:
            last = whole.passes[-1]
            own = shown is model.after
            on = _shown(shown, last.request, last.size) if own else larger(model.latent, shown, last.request, last.size)
            whole = _followed(whole, on)
            if hires and shown is drawer:
                whole = _followed(whole, _enlarged(shown, whole.passes[-1], hires, None))
    return whole


def _enlarged(model: Model, first: Settled, hires: Hires, weak: Model | None) -> Settled:
    """The second pass: image to image over what ``first`` will draw, with its seed, guidance and rows."""
    request, own = first.request, first.sampler.sampler.noise
    if KINDS[first.noise].steps == "stream":
        raise RequestError(f"noise {first.noise!r} is known for pictures from text only; leave it or hires out")
    multiple = model.enlarge.multiple if model.enlarge else 1
    try:
        asked = replace(
            request,
            hires=None,
            image=STAND_IN if request.mask is None else request.image,  # what is kept is the image's, at any size
            invert=None,
            strength=hires.strength,
            steps=hires.steps or request.steps,
            size=hires.size(first.size, lambda edge: model.latent.nearest(edge, multiple)),
            noise=None if first.noise == own else first.noise,
            rows=first.rows,
        )
        return replace(plan(model, asked, weak, again=True), begin=hires.upscaler)
    except RequestError as error:
        raise RequestError(f"the second pass, of hires: {error}") from error


def _followed(first: Settled, last: Settled) -> Settled:
    return replace(first, then=last if first.then is None else _followed(first.then, last))


def larger(latent: LatentSpec, upscaler: Model, request: Request, size: tuple[int, int]) -> Settled:
    """The pass of an upscaler over latents that were drawn for a request: same texts, same seed, and all else its own.

    Args:
        latent: of the model that draws them. size: width and height of its picture.

    Raises:
        RequestError: the upscaler enlarges no latents, or others, or cannot draw so large.
    """
    mine, other = ((each.channels, each.stride, each.scale, each.shift) for each in (latent, upscaler.latent))
    return _shown(upscaler, request, size, mine == other)


def _shown(shown: Model, request: Request, size: tuple[int, int], alike: bool = True) -> Settled:
    """The pass of a model that is shown what was drawn for a request.

    So are the rows of its calls: it is rarely guided, and padding them to those of a guided pass would double its work.
    """
    enlarge = shown.enlarge
    if enlarge is None or enlarge.show is None or not alike:
        raise RequestError("the upscaler must enlarge latents, and those of this model; this one does not")
    guidance = shown.defaults.guidance if request.later_guidance is None else request.later_guidance
    asked = Request(
        prompt=request.prompt,
        steps=request.later,
        guidance=request.later_guidance,
        negative="" if guidance == 1.0 else request.negative,  # where nothing leads away from it
        seed=request.seed,
        size=(size[0] * enlarge.factor, size[1] * enlarge.factor),
        image=STAND_IN,
        skip=min(request.skip, shown.skips),
        emphasis=request.emphasis,
    )
    try:
        return replace(settle(shown, asked), begin=SHOWN)
    except RequestError as error:
        raise RequestError(f"the model that draws on from what was drawn: {error}") from error
