"""From what a request says of guidance to one rule and the questions of its branches, or a refusal with the reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from safelight.core.guidance import CFG, Guidance, Rescaled, Unguided
from safelight.core.guides.apg import APG
from safelight.core.guides.interval import Interval, within
from safelight.core.guides.push import Push
from safelight.core.guides.scale import ByStep, Scale
from safelight.core.guides.threshold import Threshold
from safelight.core.guides.together import Together
from safelight.core.guides.zero_star import ZeroStar, still_until
from safelight.core.path import Level
from safelight.encoders.shares import shares
from safelight.errors import RequestError, UnknownNameError
from safelight.families.family import Model, Ported
from safelight.generate.answer import Asked
from safelight.generate.guiding import MID, Rule
from safelight.generate.request import Request
from safelight.nn.perturb import Perturbation

PERTURBED = {"pag": "identity", "seg": "smooth", "slg": "skip"}
ONE_ROW = ("autoguidance", "sag")
"""Rules whose branches are not answered by the same work as the others: alone in a call, no row of it is wasted."""


def numbers(guidance: float | Sequence[float]) -> tuple[float, ...]:
    """The scales that are meant, one or one for each step."""
    return (guidance,) if isinstance(guidance, int | float) else tuple(guidance)


def compose(model: Model, request: Request, levels: list[Level], *, both: bool, weak: Model | None) -> Guidance:
    """The guidance that a request means; its scale must be filled in.

    Args:
        both: the sampler needs "uncond" at every level. weak: the weaker model, where one was loaded.

    Raises:
        RequestError: something would do nothing, or this model or sampler cannot do it.
        UnknownNameError: no such layer.
    """
    assert request.guidance is not None
    rules = {rule.name: rule for rule in request.rules}
    weights = composed(model, request)
    idle(model, request, levels, both=both)
    guided = model.tell is None and set(numbers(request.guidance)) != {1.0}
    whole = _main(model, request, levels, both=both, guided=guided)
    if request.interval is not None:
        whole = Interval(whole, *request.interval)
    beside = [rule for rule in request.rules if rule.row.place == "beside"]
    for rule in beside:
        _fits(model, rule, weak)
        scale = rule.number("scale") - rule.row.neutral
        base = "uncond" if rule.name == "sag" and guided else "cond"
        whole = Push(whole, rule.row.branch, scale, base, rule.number("low"), rule.number("high"))
    if request.rescale and request.rules:
        whole = Rescaled(whole, request.rescale, model.prediction)
    if (last := rules.get("threshold")) is not None:
        whole = Threshold(whole, last.number("percentile"), last.number("limit"))
    return whole if len(weights) == 1 else Together(whole, weights)


def composed(model: Model, request: Request) -> tuple[float, ...]:
    """The weights of the prompts in one; one weight of 1 for one prompt.

    Raises:
        RequestError: several, and what is asked for beside them is known for one prompt only.
    """
    weights = tuple(share.weight for share in shares(request.prompt, request.emphasis))
    if len(weights) > 1:
        if model.tell is not None:
            raise RequestError("guidance was distilled into this network, which asks no negative prompt; leave AND out")
        for rule in request.rules:
            if rule.row.place == "beside":
                raise RequestError(f"the rule {rule.name} goes beside one prompt; leave it or AND out")
    return weights


def _main(model: Model, request: Request, levels: list[Level], *, both: bool, guided: bool) -> Guidance:
    """Classifier-free guidance, or what stands in its place."""
    if not guided and not both:
        return Unguided()
    assert request.guidance is not None
    scales = numbers(request.guidance)
    scale: Scale = scales[0]
    if len(scales) > 1:
        scale = ByStep(tuple(levels), scales[len(scales) - len(levels) + 1 :])
    for rule in request.rules:
        if rule.name == "apg":
            return APG(scale, rule.number("eta"), rule.number("threshold"), rule.number("momentum"), both)
        if rule.name == "cfg-zero":
            still = still_until(tuple(levels[:-1]), int(rule.number("steps")))
            return ZeroStar(scale, model.prediction, still, both=both)
    return CFG(scale, 0.0 if request.rules else request.rescale, model.prediction, both=both)


def idle(model: Model, request: Request, levels: list[Level], *, both: bool) -> None:
    """Refuse what would do nothing.

    Raises:
        RequestError: a rule, an interval or a scale that cannot change the picture.
    """
    assert request.guidance is not None
    instead = [rule.name for rule in request.rules if rule.row.place == "in place of"]
    beside = [rule for rule in request.rules if rule.row.place == "beside"]
    scales = numbers(request.guidance)
    heard = both or sum(composed(model, request)) != 1.0
    asked = {
        "a negative prompt": bool(request.negative) and not (heard and model.tell is None),
        "rescale": bool(request.rescale) and not beside,
        "an interval of guidance": request.interval is not None,
        "the rule " + "".join(instead): bool(instead),
    }
    if model.tell is not None:
        asked["a scale for each step"] = len(scales) > 1
        for what in (what for what, is_asked in asked.items() if is_asked):
            raise RequestError(f"{what} does nothing here: guidance was distilled into this network; leave it out")
        if both:
            raise RequestError("guidance was distilled into this network; take a sampler without CFG++")
    if both and request.interval is not None:  # its scale 1 guides, and much, so nothing stands for "off"
        raise RequestError("CFG++ guides at every step; leave the interval out, or take a sampler without CFG++")
    if set(scales) == {1.0}:
        for what in (what for what, is_asked in asked.items() if is_asked):
            raise RequestError(f"{what} does nothing at guidance 1; raise the guidance or leave it out")
    if len(scales) > 1 and len(scales) != request.steps:
        raise RequestError(f"{len(scales)} scales of guidance for {request.steps} steps; give one scale, or one a step")
    spans = [("an interval of guidance", request.interval)] if request.interval else []
    spans += [(f"the rule {rule.name}", (rule.number("low"), rule.number("high"))) for rule in beside]
    for what, (low, high) in spans:
        if not any(within(level, low, high) for level in levels[:-1]):
            ends = [math.inf if not level.alpha else level.sigma / level.alpha for level in (levels[0], levels[-2])]
            raise RequestError(
                f"{what} from noise {low:g} to {high:g} meets no level; they lie from {ends[1]:.3g} to {ends[0]:.3g}"
            )
    for rule in request.rules:
        if rule.name == "cfg-zero":
            still = rule.number("steps")
            if still != int(still) or still >= len(levels) - 1:
                run = len(levels) - 1
                raise RequestError(f"steps of cfg-zero is a whole number below the {run} steps that are run")


def _fits(model: Model, rule: Rule, weak: Model | None) -> None:
    """Refuse a rule that the model cannot do.

    Raises:
        RequestError: no ports, or no weaker model that fits. UnknownNameError: no such layer.
    """
    if rule.name in PERTURBED or rule.name == "sag":
        if model.ported is None:
            raise RequestError(f"the network of this model offers no port for {rule.name}; leave the rule out")
        if rule.name in PERTURBED:
            layers(model.ported, rule)
        return
    if weak is None:
        raise RequestError("autoguidance leads away from a weaker model; give one (weak=..., --weak-model)")
    for what, mine, other in (
        ("latents", replaced(model), replaced(weak)),
        ("noise path", model.path, weak.path),
        ("inputs", shows(model), shows(weak)),
    ):
        if mine != other:
            raise RequestError(f"the weaker model has other {what} than this one; give one that was trained alike")


def shows(model: Model) -> tuple[bool, ...]:
    """What a network is shown or told beside noisy latents and text."""
    return tuple(each is None for each in (model.conceal, model.tell, model.deepen, model.enlarge))


def replaced(model: Model) -> tuple[int, int, float, float]:
    """What must be equal for two networks to speak of the same latents."""
    latent = model.latent
    return latent.channels, latent.stride, latent.scale, latent.shift


def layers(ported: Ported, rule: Rule) -> frozenset[str]:
    """The layers that a rule perturbs: those whose dotted names are, or begin with, what was asked for.

    Raises:
        UnknownNameError: no layer is called that; lists the nearest.
    """
    known = ported.blocks if rule.name == "slg" else ported.attentions
    found: set[str] = set()
    for asked in rule.layers:
        name = ported.usual if asked == MID else asked
        mine = {each for each in known if each == name or each.startswith(f"{name}.")}
        if not mine:
            beginnings = {each.split(".transformer_blocks")[0] for each in known}
            raise UnknownNameError(f"layer for {rule.name}", asked, {MID, *beginnings, *known})
        found |= mine
    return frozenset(found)


def questions(model: Model, request: Request, conds: dict[str, Any], weak_cond: Any) -> dict[str, Any]:
    """What each branch beside "cond" and "uncond" is asked.

    Args:
        conds: those two, as the network is told them. weak_cond: the prompt as the weaker model is told it.
    """
    asked: dict[str, Any] = {}
    for rule in request.rules:
        if rule.name in PERTURBED:
            assert model.ported is not None
            blur = rule.number("blur") if rule.name == "seg" else math.inf
            worse = Perturbation(PERTURBED[rule.name], layers(model.ported, rule), blur)
            asked[rule.row.branch] = Asked(conds["cond"], worse)
        elif rule.name == "sag":
            assert model.ported is not None
            middle = next(name for name in model.ported.attentions if name.startswith(f"{model.ported.usual}."))
            asked[rule.row.branch] = Asked(conds.get("uncond", conds["cond"]), watch=middle)
        elif rule.name == "autoguidance":
            asked[rule.row.branch] = Asked(weak_cond, weak=True)
    return asked
