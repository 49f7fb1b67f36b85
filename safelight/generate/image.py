"""The tasks that draw one picture in latents: from text, from an image, and into the hole of an image.

Axes: [1, Z, h, w] latents, [1, 3, H, W] colours in [-1, 1], [1, 1, H, W] masks, 1 where it is repainted.
Source: Rombach et al. 2022, section 3; Meng et al. 2021 (SDEdit: a later start); Lugmayr et al. 2022 (RePaint, eq. 8).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn import functional as F

from safelight.adapters.use import Aid, Aids, Place
from safelight.core.constrain import Keep
from safelight.core.guides.together import names as together
from safelight.core.kinds import Variation
from safelight.core.noise import draw, key, until
from safelight.core.sample import Changing, Job
from safelight.core.sources import source
from safelight.encoders.emphasis import MOST, script
from safelight.encoders.shares import shares
from safelight.errors import PromptError, RequestError
from safelight.families.family import Model, Prompt, Words
from safelight.generate.answer import evaluator as evaluator
from safelight.generate.answer import with_aids
from safelight.generate.compose import numbers, questions
from safelight.generate.facts import plain
from safelight.generate.picture import to_depth, to_mask, to_tensor
from safelight.generate.request import Request
from safelight.generate.settle import INVERTED, Settled
from safelight.vae.tiny import AutoencoderTiny


@dataclass(frozen=True)
class Scene:
    """What pictures of one request share: encoded texts and pictures.

    Attributes:
        conds: a condition per branch of the guidance, or one for each step of it.
        cut: ends of prompts that did not fit.
        lengths: of the conditions, in chunks: the model's, and the weaker model's.
        known: latents of the image, mask: [1, 1, h, w] of the latents; None without.
        state: where the run begins, for one that goes on from another, or from the image itself (an inversion); None
            for those that begin with noise.
    """

    conds: dict[str, Any]
    cut: tuple[str, ...]
    known: Tensor | None = None
    mask: Tensor | None = None
    state: Tensor | None = None
    lengths: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Over:
    """What is drawn over: latents and mask as in `Scene`, and what the network is shown: a hidden picture, or
    the latents of the small one that it enlarges.
    """

    known: Tensor | None = None
    mask: Tensor | None = None
    shown: tuple[Tensor, Tensor] | None = None
    small: Tensor | None = None
    depth: Tensor | None = None


@torch.no_grad()
def read(model: Model, settled: Settled, weak: Model | None = None) -> Scene:
    """Encode the prompts, one by one, and the image and mask where there are any.

    Args:
        weak: reads the prompt for itself, where a rule asks it.
    """
    names = {name for level in settled.levels[:-1] for name in settled.rule.branches(level)}
    run = len(settled.levels) - 1
    said = [texts(settled, share.text)[-run:] for share in shares(settled.request.prompt, settled.request.emphasis)]
    prompts = [*zip(*said)]
    negatives = texts(settled, settled.request.negative)[-run:] if "uncond" in names else [""] * run
    mine = {text: model.encode(_prompt(model, settled, text)) for text in dict.fromkeys(chain(*said))}
    theirs: dict[str, Words] = {}
    if "uncond" in names:
        theirs = {text: model.encode(_prompt(model, settled, text, negative=True)) for text in dict.fromkeys(negatives)}
    weaker: dict[str, Words] = {}
    if weak is not None and "weak" in names:
        weaker = {text: weak.encode(_prompt(weak, settled, text)) for text in mine}
    lengths = common([*mine.values(), *theirs.values()]), common([*weaker.values()])
    over = _over(model, settled)
    aids, cut = _aids(model, settled)
    made: dict[tuple[tuple[str, ...], str], dict[str, Any]] = {}
    for pair in dict.fromkeys(zip(prompts, negatives)):
        conds = {name: _stretched(mine[text], lengths[0]) for name, text in zip(together(len(said)), pair[0])}
        if theirs:
            conds["uncond"] = _stretched(theirs[pair[1]], lengths[0])
        if model.tell is not None:
            conds = {name: model.tell(cond, numbers(settled.guidance)[0]) for name, cond in conds.items()}
        if weaker:
            conds["weak"] = _stretched(weaker[pair[0][0]], lengths[1])
        if over.shown is not None and model.conceal is not None:
            conds = {name: model.conceal(cond, *over.shown) for name, cond in conds.items()}
        if over.small is not None:
            conds = {name: _enlarging(model, settled, cond, over.small) for name, cond in conds.items()}
        if over.depth is not None and model.deepen is not None:
            conds = {name: model.deepen(cond, over.depth) for name, cond in conds.items()}
        asked = {**conds, **questions(model, settled.request, conds, conds.get("weak"))}
        made[pair] = {name: with_aids(each, aids[_side(name, "uncond" in asked)]) for name, each in asked.items()}
    first = next(iter(made.values()))
    conds = first
    if len(made) > 1:
        steps = [made[pair] for pair in zip(prompts, negatives)]
        conds = {name: Changing(tuple(settled.levels), tuple(step[name] for step in steps)) for name in first}
    cut = [*(end for words in (*mine.values(), *theirs.values()) for end in words.cut), *cut]
    state = over.known if settled.inverts else None
    return Scene(conds, tuple(cut), over.known, over.mask, state, lengths)


def _aids(model: Model, settled: Settled) -> tuple[dict[str, tuple[Aid, ...]], list[str]]:
    """What the adapters of the request do, by the side of the guidance; nothing for another model's answers.

    And the ends of their texts that did not fit.
    """
    cut: list[str] = []

    def latents(picture: Image) -> Tensor:
        return encode(model, to_tensor(picture, settled.size))

    def words(text: str) -> Words:
        said = set(script(text, settled.request.emphasis, settled.request.steps or len(settled.levels) - 1))
        if len(said) > 1:
            raise PromptError("the prompt of an adapter holds for all steps; leave out what changes with the step")
        found = model.encode(_prompt(model, settled, said.pop()))
        cut.extend(found.cut)
        return found

    place = Place(model, settled.size, tuple(settled.levels), settled.request.seed, latents, words)
    ready = [use.ready(place) for use in settled.request.adapters]
    sides = {side: tuple(aid for each in ready if (aid := getattr(each, side)) is not None) for side in Aids._fields}
    return {**sides, "": ()}, cut


def _side(branch: str, guided: bool) -> str:
    """Whose adapters a branch has: the prompt's, those of what is led away from, or none (another network's)."""
    if branch == "weak":
        return ""
    return "uncond" if branch == "uncond" or (branch == "degraded" and guided) else "cond"


def texts(settled: Settled, text: str) -> list[str]:
    """What a prompt says at each step of the whole schedule but those that another model does."""
    steps = max(settled.request.steps or 0, len(settled.levels) - 1 + settled.rest)
    said = script(text, settled.request.emphasis, steps)
    return said[: len(said) - settled.rest]


def common(words: Sequence[Words]) -> int:
    """The chunks to which all of these can be stretched, so that they share calls; see ``Cond.stretch``.

    Raises:
        PromptError: too many.
    """
    chunks = math.lcm(*(each.chunks for each in words))
    if chunks > MOST:
        counts = ", ".join(map(str, sorted({each.chunks for each in words})))
        raise PromptError(
            f"prompts of {counts} chunks have a common length of {chunks}, above {MOST}; shorten one or make them equal"
        )
    return chunks


def _stretched(words: Words, chunks: int) -> Any:
    return words.cond if words.chunks == chunks else words.cond.stretch(chunks // words.chunks)


def _prompt(model: Model, settled: Settled, text: str, *, negative: bool = False) -> Prompt:
    request = settled.request
    facts = {name: numbers for name, numbers in plain(request.facts).items() if name in model.facts}
    told = request.image if settled.task == "vary" else None
    return Prompt(text, settled.size, request.skip, negative, request.emphasis, facts, model.learned, told)


def _over(model: Model, settled: Settled) -> Over:
    """The image and mask of the request; a later pass without a hole begins from what the one before it left."""
    request = settled.request
    depth = None
    if request.depth is not None and model.deepen is not None:
        _, height, width = model.latent.shape(*settled.size)
        depth = to_depth(request.depth, (width, height)).to(next(model.network.parameters()).device)
    inside = settled.begin in ("", INVERTED)
    if request.image is None or settled.task == "vary" or (request.mask is None and not inside):
        return Over(depth=depth)
    if model.enlarge is not None:
        width, height = (edge // model.enlarge.factor for edge in settled.size)
        small = to_tensor(request.image, (width, height))
        return Over(small=small if model.enlarge.show is None else encode(model, small))
    picture = to_tensor(request.image, settled.size)
    known = encode(model, picture)
    if request.mask is None:
        return Over(known, depth=depth)
    mask, small = to_mask(request.mask, settled.size), hole(settled, known)
    if model.conceal is None:
        return Over(known, small, depth=depth)
    return Over(known, shown=(small, encode(model, picture * (mask < 0.5))))


def hole(settled: Settled, latents: Tensor) -> Tensor:
    """The mask of the request over latents: [1, 1, h, w], 1 where they are repainted."""
    assert settled.request.mask is not None
    return F.interpolate(to_mask(settled.request.mask, settled.size), size=latents.shape[-2:]).to(latents.device)


def _enlarging(model: Model, settled: Settled, cond: Any, small: Tensor) -> Any:
    assert model.enlarge is not None
    if model.enlarge.show is not None:
        return model.enlarge.show(cond, small)
    assert model.enlarge.blur is not None
    return model.enlarge.blur(cond, small, draw(key(settled.request.seed, 0, "small"), small.shape[1:]))


@torch.no_grad()
def encode(model: Model, picture: Tensor) -> Tensor:
    """[1, 3, H, W] -> the most probable latents as the network sees them, float32."""
    weight = next(model.vae.parameters())
    return model.latent.scaled(model.vae.encode(picture.to(weight.device, weight.dtype)).mode().float())


@torch.no_grad()
def decode(model: Model, latents: Tensor) -> Tensor:
    """Latents as the network sees them -> [1, 3, H, W], float32.

    Raises:
        RequestError: they are no picture's yet, since another model draws on from them.
    """
    if model.after is not None:
        raise RequestError("what this network draws is no picture yet; wait for the model that draws on from it")
    weight = next(model.vae.parameters())
    return model.vae.decode(model.latent.unscaled(latents).to(weight.dtype)).float()


@torch.no_grad()
def glance(tiny: AutoencoderTiny, latents: Tensor) -> Tensor:
    """The same through a tiny autoencoder."""
    weight = next(tiny.parameters())
    return tiny.decode(latents.to(weight.device, weight.dtype)).float()


def job(model: Model, settled: Settled, scene: Scene) -> Job:
    """The run that draws this picture's latents."""
    request, levels = settled.request, settled.levels
    shape = model.latent.shape(*settled.size)
    device = next(model.network.parameters()).device
    noise, steps = source(
        settled.noise,
        request.seed,
        shape,
        ensd=request.ensd,
        variation=Variation(*request.variation) if request.variation else None,
        device=device,
    )
    if scene.state is not None:
        x = scene.state
        if scene.mask is not None and scene.known is not None:  # where the mask keeps, the state stays what it is
            noise = (x - levels[0].alpha * scene.known) / levels[0].sigma
    elif scene.known is None:
        x = model.defaults.start(noise, levels)
    else:
        x = levels[0].alpha * scene.known + levels[0].sigma * noise
        if request.mask is not None and request.strength == 1.0:  # nothing of the hole is left where the run begins
            x = model.defaults.start(noise, levels)
    if model.defaults.quiet:
        steps = until(steps, levels[-1])
    return Job(
        sampler=settled.sampler,
        levels=levels,
        x=x,
        noise=steps,
        guidance=settled.rule,
        conds=scene.conds,
        constraint=None if scene.mask is None or scene.known is None else Keep(scene.known, scene.mask, noise),
        width=settled.rows,
        kind=scene.lengths,
    )


def finish(request: Request, colours: Tensor) -> Tensor:
    """Put the kept pixels of the image, fitted to the size of a picture, back into it, exactly."""
    if request.image is None or request.mask is None:
        return colours
    height, width = colours.shape[-2:]
    mask = to_mask(request.mask, (width, height))
    return torch.where(mask.bool(), colours.cpu(), to_tensor(request.image, (width, height)))
