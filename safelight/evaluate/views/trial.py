"""The trial of views: everything measured of one way to draw them, over many people.

Axis legend: N people, V views, H W pixels; views are uint8 [N, V, H, W, 3] as drawn, for cameras [V].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from safelight.core.camera import Camera
from safelight.errors import RequestError
from safelight.evaluate.figurines.pictures import Tell
from safelight.evaluate.views import attributes, epipolar, identity, likeness, warp
from safelight.evaluate.views import marks as cheeks
from safelight.evaluate.views.truth import SPLIT, Truth, truth, truths
from safelight.evaluate.views.volume import Fit, fit
from safelight.figurines.matte import matte
from safelight.figurines.scores import Scores
from safelight.multiview.bundle import Bundle


@dataclass(frozen=True, eq=False)
class Exam:
    """People with all that is needed to judge views of them, computed once.

    Attributes:
        truths: N, of the same cameras.
        places: for each, both cheeks in every view (`marks.places`).
        landmarks: for each, the points that are looked for (`epipolar.landmarks`).
        stated: for each, what every view shows; None where the checker is not asked.
        known: what the checker has read of these cameras, so that no picture is read twice.
    """

    truths: Sequence[Truth]
    places: Sequence[list[tuple[cheeks.Place | None, cheeks.Place | None]]]
    landmarks: Sequence[list[epipolar.Landmarks]]
    stated: Sequence[attributes.Seen] | None
    known: attributes.Known = field(default_factory=dict)

    @property
    def cameras(self) -> Camera:
        """The cameras [V] of everybody."""
        return self.truths[0].cameras


@dataclass(frozen=True)
class Measured:
    """One way to draw views, in numbers: means over people and views.

    Attributes:
        people, views: of how many.
        psnr: dB, whole frame. inside: dB, within the true outline.
        ssim: -1 to 1 = equal. overlap: of outlines, 0 to 1 = equal.
        warp: colours of surface points between views (`warp.Agreement`), means over people.
        ratio: its error by chance: 0 = consistent, 1 = unrelated or grey.
        lines: landmarks by epipolar lines (`epipolar.Lines`), means over people.
        marks: counts of the cheek's mark.
        nearest: share of people whose views are nearest to their own true ones, in colours.
        scores: what the checker saw of what the views show; None where it was not asked.
        recognised: share of people who are the likeliest by what it saw; None likewise.
    """

    people: int
    views: int
    psnr: float
    inside: float
    ssim: float
    overlap: float
    warp: warp.Agreement
    ratio: float
    lines: epipolar.Lines
    marks: cheeks.Marks
    nearest: float
    scores: Scores | None = None
    recognised: float | None = None


def exam(count: int, views: Camera, tell: Tell, asked: bool = True, split: str = SPLIT) -> Exam:
    """Draw the truth of the first ``count`` people of a split.

    Args:
        asked: whether the checker will be; it doubles the time.

    Raises:
        RequestError: a count below 1, or cameras that cannot be: none, too many, in the head, or, where the checker is
            asked, others than a portrait's, moved around the figure.
    """
    if asked:
        attributes.places(views)
    drawn: list[Truth] = []
    for one in truths(count, views, split):
        drawn.append(one)
        tell("true people drawn", len(drawn), count)
    stated = attributes.stated([one.person for one in drawn], views) if asked else None
    return Exam(drawn, [cheeks.places(one) for one in drawn], [epipolar.landmarks(one) for one in drawn], stated)


def measure(drawn: np.ndarray, of: Exam, workers: int, tell: Tell) -> Measured:
    """Judge views.

    Args:
        drawn: uint8 [N, V, H, W, 3], of the exam's people in its order, for its cameras.
        workers: processes that read them, 1 and up; one core each.

    Raises:
        RequestError: views of another number, size or type.
    """
    wanted = (len(of.truths), *of.truths[0].pictures.shape)
    if drawn.dtype != np.uint8 or drawn.shape != wanted:
        raise RequestError(f"views of this trial are uint8 {list(wanted)}, not {drawn.dtype} {list(drawn.shape)}")
    each = list(zip(drawn, of.truths, strict=True))
    agreements = [warp.agreement(views, true) for views, true in each]
    found = [epipolar.lines(views, true, known) for (views, true), known in zip(each, of.landmarks, strict=True)]
    counted = cheeks.Marks()
    for (views, true), known in zip(each, of.places, strict=True):
        counted = counted.added(cheeks.marks(views, true, known))
    pictures, mattes = (np.stack([getattr(one, name) for one in of.truths]) for name in ("pictures", "mattes"))
    scores, recognised = None, None
    if of.stated is not None:
        seen = attributes.seen(drawn, of.cameras, workers, tell, of.known)
        scores = attributes.scores(seen, of.stated)
        recognised = identity.retrieved(-identity.alike(seen, of.stated))
    return Measured(
        people=drawn.shape[0],
        views=drawn.shape[1],
        psnr=_mean([likeness.psnr(views, one.pictures) for views, one in each]),
        inside=_mean([likeness.psnr(views, one.pictures, one.mattes) for views, one in each]),
        ssim=_mean([likeness.ssim(views, one.pictures) for views, one in each]),
        overlap=_mean([likeness.overlap(outlines(views), one.mattes) for views, one in each]),
        warp=warp.Agreement(
            error=_mean([one.error for one in agreements]),
            chance=_mean([one.chance for one in agreements]),
            astray=_mean([one.astray for one in agreements]),
            points=sum(one.points for one in agreements),
        ),
        ratio=_mean([one.ratio for one in agreements]),
        lines=epipolar.Lines(
            distance=_mean([one.distance for one in found]),
            near=_mean([one.near for one in found]),
            found=_mean([one.found for one in found]),
            points=sum(one.points for one in found),
        ),
        marks=counted,
        nearest=identity.retrieved(identity.distances(drawn, pictures, mattes)),
        scores=scores,
        recognised=recognised,
    )


def outlines(views: np.ndarray) -> np.ndarray:
    """Mattes bool [V, H, W] of views uint8 [V, H, W, 3], read from the pictures alone."""
    return np.stack([matte(view) for view in views])


def rebuilt(drawn: np.ndarray, true: Truth, held: Camera, how: Fit | None = None) -> tuple[float, float]:
    """Fit a volume to views uint8 [V, H, W, 3] and see it from cameras [K] that no view had: PSNR in dB against the
    truth there, whole frame and within the outline. Outlines and background are read from the views themselves."""
    volume = fit(Bundle(true.cameras, drawn, outlines(drawn).astype(np.float32)), how)
    wanted = truth(true.person, held)
    again = volume.draw(held)
    whole = likeness.psnr(again, wanted.pictures)
    return float(whole.mean()), float(likeness.psnr(again, wanted.pictures, wanted.mattes).mean())


Rebuilt = list[tuple[float, float]]
"""What `rebuilt` gives, a person each."""


def volumes(
    drawn: np.ndarray, people: Sequence[Truth], held: Camera, tell: Tell, how: Fit | None = None
) -> tuple[Rebuilt, Rebuilt]:
    """Do so for drawn views, uint8 [N, V, H, W, 3], and for the true ones of the same people."""
    mine: Rebuilt = []
    theirs: Rebuilt = []
    for views, true in zip(drawn, people, strict=True):
        for rows, pictures in ((mine, views), (theirs, true.pictures)):
            rows.append(rebuilt(pictures, true, held, how))
            tell("volumes fitted", len(mine) + len(theirs), 2 * len(people))
    return mine, theirs


def _mean(values: Sequence[float] | Sequence[np.ndarray]) -> float:
    return float(np.mean(values))
