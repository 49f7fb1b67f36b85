"""The trial of a model that draws figurines: draw held-out prompts, read the pictures back, and state the findings.

Everything is a finding with its bar where something was promised; the pictures that belong to it lie beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from PIL import Image

from safelight.errors import RequestError
from safelight.evaluate.evidence import Finding
from safelight.evaluate.figurines.curves import Point
from safelight.evaluate.figurines.neighbours import Neighbour
from safelight.evaluate.figurines.pictures import Settings, Tell, compare, draw, read_all
from safelight.evaluate.figurines.prompts import Prompt, held_out
from safelight.figurines.scores import Scores, chance
from safelight.figurines.sheet import sheet
from safelight.generate.pipe import Pipe

MOST_PROMPTS = 10_000
COLOURS = ("skin", "hair_color", "hat_color", "clothes_color", "background")


@dataclass(frozen=True)
class Bars:
    """What is promised of a model, shares from 0 to 1.

    Attributes:
        colours: of every colour. overall: of all stated attributes. least: of any attribute, chance subtracted.
    """

    colours: float
    overall: float
    least: float


BARS = {"cpu": Bars(0.97, 0.85, 0.60), "accelerator": Bars(0.97, 0.95, 0.85)}
"""By what the model was trained on."""


@dataclass(frozen=True)
class Trial:
    """What was drawn and what was seen in it, prompt by prompt.

    Attributes:
        prompts: what was asked for. pictures: uint8 [128, 128, 3] each. seen: a value for every attribute, each.
    """

    prompts: Sequence[Prompt]
    pictures: Sequence[np.ndarray]
    seen: Sequence[Mapping[str, str]]

    @property
    def scores(self) -> Scores:
        """How much of what was stated was seen."""
        return compare(self.seen, [prompt.stated for prompt in self.prompts])


def trial(pipe: Pipe, count: int, settings: Settings, tell: Tell) -> Trial:
    """Draw ``count`` held-out prompts and read the pictures.

    Raises:
        RequestError: count is not between 1 and 10,000, or the model does not draw figurines' portraits.
    """
    if not 1 <= count <= MOST_PROMPTS:
        raise RequestError(f"the prompts must number between 1 and {MOST_PROMPTS}, not {count}")
    size = (pipe.model.defaults.width, pipe.model.defaults.height)
    if size != (128, 128):
        raise RequestError(f"{pipe.name} draws {size[0]}x{size[1]} pixels; the checker reads portraits of 128x128")
    prompts = held_out(count)
    pictures = draw(pipe, [prompt.text for prompt in prompts], settings, tell)
    return Trial(prompts, pictures, read_all(pictures, settings.workers, tell))


def verdicts(name: str, scores: Scores, bars: Bars) -> list[Finding]:
    """The findings of a trial: every attribute, all of them, and figures wholly right."""
    found = []
    for attribute in scores.attributes:
        stated = scores.stated(attribute)
        words = f"{name}: {attribute.replace('_', ' ')}"
        bar = f">= {bars.colours:g}" if attribute in COLOURS else None
        found.append(Finding(f"{words}, right where stated", scores.share(attribute), f"share of {stated}", bar))
        found.append(Finding(f"{words}, chance subtracted", scores.above_chance(attribute), f"share of {stated}"))
    weakest = min(scores.attributes, key=scores.above_chance)
    least = Finding(
        f"{name}: the weakest attribute, chance subtracted",
        scores.above_chance(weakest),
        f"share ({weakest.replace('_', ' ')})",
        f">= {bars.least:g}",
    )
    everything = Finding(f"{name}: all stated attributes", scores.overall, _of_all(scores), f">= {bars.overall:g}")
    return [*found, least, everything, wholly(f"{name}: figures wholly right", scores)]


def wholly(claim: str, scores: Scores, bar: str | None = None) -> Finding:
    """The share of figures without a mistake."""
    return Finding(claim, scores.wholly_right, f"share of {scores.figures}", bar)


def of_ceilings(name: str, found: Mapping[str, Scores]) -> list[Finding]:
    """True renders must be read rightly, or the checker's verdicts mean little."""
    bars = {"true renders": ">= 0.995", "true renders through the autoencoder": ">= 0.99"}
    return [
        Finding(f"{name}: {what}, all stated attributes", scores.overall, _of_all(scores), bars[what])
        for what, scores in found.items()
    ]


def of_floors(name: str, found: Mapping[str, Scores]) -> list[Finding]:
    """Who knows nothing of the prompt must not score; every value counts the same (see `Scores.balanced`)."""
    findings = []
    for what, scores in found.items():
        gaps = {attribute: abs(scores.balanced(attribute) - chance(attribute)) for attribute in scores.attributes}
        far = max(gaps, key=lambda attribute: gaps[attribute])
        claim = f"{name}: floor of {what}, distance from chance of the farthest attribute"
        findings.append(Finding(claim, gaps[far], f"share ({far.replace('_', ' ')})", "<= 0.05"))
        findings.append(wholly(f"{name}: floor of {what}, figures wholly right", scores, "<= 0"))
    return findings


def of_curves(name: str, points: Iterable[Point]) -> list[Finding]:
    """Reported, not promised."""
    findings = []
    for point in points:
        words = f"{name}: with {point.knob} {point.value:g}"
        findings.append(Finding(f"{words}, all stated attributes", point.scores.overall, _of_all(point.scores)))
        findings.append(wholly(f"{words}, figures wholly right", point.scores))
    return findings


def of_neighbours(name: str, drawn: Sequence[Neighbour], true: Sequence[Neighbour], count: int) -> list[Finding]:
    """How far samples lie from the training set, and how far people lie who were never in it, drawn truly."""
    unit = f"colour difference, median of {len(drawn)}"
    near = min(one.distance for one in drawn)
    return [
        Finding(f"{name}: samples to the nearest of {count} training pictures", _middle(drawn), unit),
        Finding(f"{name}: the sample that is nearest to one of {count} training pictures", near, "colour difference"),
        Finding(f"{name}: true pictures of the same prompts to the nearest of {count}", _middle(true), unit),
    ]


def contact_sheet(found: Trial, count: int = 24, longest: int = 110) -> Image.Image:
    """The first ``count`` pictures whose prompt fits beneath, then others where they are too few."""
    order = sorted(range(len(found.prompts)), key=lambda i: len(found.prompts[i].text) > longest)[:count]
    return sheet([found.pictures[i] for i in order], [found.prompts[i].text for i in order], lines=7)


def _of_all(scores: Scores) -> str:
    return f"share of {sum(scores.total.values())}"


def _middle(found: Sequence[Neighbour]) -> float:
    return median(one.distance for one in found)
