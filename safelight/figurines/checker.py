"""Read a portrait back by drawing it: which value of every attribute explains the picture best.

Analysis by synthesis (Yuille & Kersten, 2006): nothing is learned and no place in the picture is fixed. The reader
starts from what the picture suggests, then goes through the attributes, draws the person with each value, and keeps the
best match, first on a coarse picture, then on the whole one; a soft picture is compared with soft drawings. The reader
never sees what a prompt stated and cannot favour it; where all values look the same (the ears under long hair) it picks
one by a hash of the picture.

Axis legend: H W pixels, last axis three linear mixtures of red, green and blue (``layers.OPPONENT``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from hashlib import blake2b
from itertools import product
from typing import Final, NamedTuple

import numpy as np

from safelight.errors import ImageError
from safelight.figurines.attributes import ATTRIBUTES
from safelight.figurines.layers import (
    OPPONENT,
    PARTS,
    Canvas,
    Grid,
    Window,
    averaged,
    compose,
    layer,
    layers,
    parts_of,
    softened,
    whole,
)
from safelight.figurines.render import PORTRAIT

__all__ = ["check", "read", "telling"]

_FRONT: Final = (PORTRAIT["azimuth"], PORTRAIT["elevation"])
_SMALL, _LARGE = 64, 128
#: misfit, in pixels of a small picture, from which on two values of an attribute can be told apart.
_TELLING: Final = 1.0
#: difference of colours beyond which a pixel is simply wrong; a few such pixels must not outvote a small feature.
_WRONG: Final = 0.5
#: differences of error that mean nothing.
_TIE: Final = 1e-4
#: how soft pictures may be, in passes of ``layers.softened``: standard deviations of 0 to 2 pixels.
_SOFT: Final = (0, 1, 2, 4, 8)

#: attributes that are judged together where one misleads the other, from what covers much to what covers little.
_TOGETHER: Final[tuple[tuple[str, ...], ...]] = (
    ("background",),
    ("skin",),
    ("head",),
    ("hair", "hair_color"),
    ("hat", "hat_color"),
    ("hair", "ears"),
    ("clothes", "clothes_color"),
    ("glasses",),
    ("eyes",),
    ("mouth",),
    ("nose",),
    ("mark_side", "mark_color"),
)


class _Look(NamedTuple):
    """A picture as it is compared: its opponent colours [H, W, 3], the grid to draw on, and how soft it is."""

    seen: np.ndarray
    grid: Grid
    soft: int = 0  # passes of a small blur that drawn pictures get before they are compared

    def errors(self, values: Mapping[str, str], options: Sequence[Mapping[str, str]]) -> np.ndarray:
        """Misfit of the person with each option's values instead, over the pixels that any option changes."""
        changed = {label for option in options for name in option for label in parts_of(name)}
        new = [{label: layer(label, {**values, **option}, self.grid) for label in changed} for option in options]
        backs = [option.get("background", values["background"]) for option in options]
        windows = [one.window for parts in new for one in parts.values() if one is not None]
        if len(set(backs)) > 1 or not changed:
            window = whole(self.grid)
        elif windows:
            window = reduce(Window.joined, windows).grown(self.soft, self.grid)
        else:
            return np.zeros(len(options))
        kept = [one for label, one in layers(values, self.grid).items() if label not in changed]
        bases = {back: Canvas.empty(back, self.grid, window) for back in backs}
        for canvas, one in product(bases.values(), kept):
            canvas.add(one)
        out = np.empty(len(options))
        for i, (back, parts) in enumerate(zip(backs, new, strict=True)):
            canvas = bases[back].copy()
            for part in filter(None, parts.values()):
                canvas.add(part)
            out[i] = _misfit(self.seen[window.slices], softened(canvas.picture(), self.soft))
        return out

    def improve(self, values: dict[str, str], names: Sequence[str]) -> list[dict[str, str]]:
        """Put the best values of some attributes in place; returns all choices that explain the picture as well."""
        options = _options(names)
        errors = self.errors(values, options)
        best = [option for option, error in zip(options, errors, strict=True) if error <= errors.min() + _TIE]
        if {name: values[name] for name in names} not in best:
            values.update(best[0])
        return best

    def sweeps(self, values: dict[str, str], order: Sequence[tuple[str, ...]], most: int) -> None:
        """Coordinate descent until a sweep changes nothing."""
        for _ in range(most):
            before = dict(values)
            for names in order:
                self.improve(values, names)
            if values == before:
                return

    def total(self, values: Mapping[str, str]) -> float:
        """Misfit of the whole picture."""
        return _misfit(self.seen, softened(compose(values, self.grid), self.soft))

    def focused(self, values: Mapping[str, str]) -> _Look:
        """The same, drawn as soft as this picture of about this person is."""
        return min((self._replace(soft=soft) for soft in _SOFT), key=lambda look: look.total(values))


def _misfit(seen: np.ndarray, drawn: np.ndarray) -> float:
    """Sum over pixels of the squared difference of colours, levelling off at 1 (Geman & McClure, 1987)."""
    difference = seen - drawn
    square = np.einsum("ijk,ijk->ij", difference, difference)
    return float((square / (square + np.float32(_WRONG**2))).sum())


def _options(names: Sequence[str]) -> list[dict[str, str]]:
    return [dict(zip(names, chosen, strict=True)) for chosen in product(*(ATTRIBUTES[name] for name in names))]


def _fit_color(look: _Look, values: dict[str, str], label: str, visible: np.ndarray) -> None:
    """The colour that a part has where it is visible [H, W] on the rough grid, pixel by pixel, without composing."""
    (name,) = PARTS[label].color
    errors = []
    for value in ATTRIBUTES[name]:
        one = layer(label, {**values, name: value}, look.grid)
        if one is None or not visible.any():
            return
        there = visible[one.window.slices]
        errors.append(_misfit(look.seen[one.window.slices][there][None], one.color[there][None]))
    values[name] = ATTRIBUTES[name][int(np.argmin(errors))]


def _starts(look: _Look, values: dict[str, str], count: int) -> list[dict[str, str]]:
    """Combinations of head, hair and hat that are likely on the rough grid, best first, with their colours fitted."""
    tried = []
    for option in _options(("head", "hair", "hat")):
        guess = {**values, **option}
        for label in ("hair", "hat"):
            parts = layers(guess, look.grid)
            if label not in parts:
                continue
            nearest = np.full((look.grid.size, look.grid.size), np.inf, np.float32)
            for one in parts.values():
                np.minimum(nearest[one.window.slices], one.depth, out=nearest[one.window.slices])
            mine = parts[label]
            visible = np.zeros(nearest.shape, bool)
            visible[mine.window.slices] = np.isfinite(mine.depth) & (mine.depth <= nearest[mine.window.slices])
            _fit_color(look, guess, label, visible)
        tried.append((look.total(guess), guess))
    tried.sort(key=lambda pair: pair[0])
    return [guess for error, guess in tried[:count] if error < 1.2 * tried[0][0]]


def read(picture: np.ndarray, azimuth: float = _FRONT[0], elevation: float = _FRONT[1]) -> dict[str, str]:
    """Describe the person in a portrait, or in a view of them from elsewhere.

    Args:
        picture: uint8 [128 k, 128 k, 3] for a whole number k, larger pictures are averaged down; or [64, 64, 3], of
            which small features are read with less certainty.
        azimuth, elevation: degrees, where `render.view_camera` stands. Reading many pictures, read those of one place
            together: what is drawn for the first is kept for the others.

    Returns:
        A value for every attribute. One that cannot be seen has a value, too: picked by a hash of the picture. Which
        of them can be seen from elsewhere than in front, `telling` says.

    Raises:
        ImageError: not an 8-bit picture of three channels, or of another size.
    """
    size = min(_LARGE, max(_SMALL, picture.shape[0] if picture.ndim else 0))
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ImageError(f"the checker reads uint8 pictures [H, W, 3], not {picture.dtype} {list(picture.shape)}")
    fits = size in (_SMALL, _LARGE) and picture.shape[0] % size == 0 and picture.shape[0] > 0
    if picture.shape[0] != picture.shape[1] or not fits:
        wanted = f"{_SMALL} or {_LARGE} pixels or a multiple of {_LARGE}"
        raise ImageError(f"the checker reads square pictures of {wanted}, not {picture.shape[:2]}")
    rough, coarse_grid, fine_grid = (
        Grid(pixels, samples, azimuth, elevation) for pixels, samples in ((_SMALL, 1), (_SMALL, 2), (size, 2))
    )
    fine = averaged((picture.astype(np.float32) / 255.0) @ OPPONENT.T, picture.shape[0] // size)
    coarse = averaged(fine, size // _SMALL)
    values = {name: choices[0] for name, choices in ATTRIBUTES.items()}
    for names in (("background",), ("clothes", "clothes_color"), ("skin",)):
        _Look(coarse, rough).improve(values, names)
    ends = []
    for guess in _starts(_Look(coarse, rough), values, 2):
        look = _Look(coarse, coarse_grid).focused(guess)
        look.sweeps(guess, _TOGETHER, 4)
        ends.append((look.total(guess), guess))
    best = min(ends, key=lambda end: end[0])[1]
    look = _Look(fine, fine_grid).focused(best)
    look.sweeps(best, [(name,) for name in ATTRIBUTES], 1)
    return _without_preference(look, best, picture)


def telling(values: Mapping[str, str], azimuth: float = _FRONT[0], elevation: float = _FRONT[1]) -> dict[str, str]:
    """The attributes of a person that a view shows: those of which every other value would look different from there
    (nobody's eyes are seen from behind).

    Args:
        values: attribute -> value, all of them. azimuth, elevation: degrees, as for `read`.
    """
    grid = Grid(_SMALL, 2, azimuth, elevation)
    look = _Look(compose(values, grid), grid)
    shown = {}
    for name, value in values.items():
        others = [{name: other} for other in ATTRIBUTES[name] if other != value]
        if look.errors(values, others).min() >= _TELLING:
            shown[name] = value
    return shown


def _without_preference(look: _Look, values: dict[str, str], picture: np.ndarray) -> dict[str, str]:
    """A last sweep; where values of an attribute explain the picture equally well, one by a hash of the picture."""
    final = dict(values)
    for name in ATTRIBUTES:
        equal = look.improve(values, (name,))
        digest = blake2b(picture.tobytes(), digest_size=8, person=name.encode()).digest()
        final[name] = equal[int.from_bytes(digest) % len(equal)][name]
    return final


def check(picture: np.ndarray, stated: Mapping[str, str]) -> dict[str, bool]:
    """Say of every stated attribute whether the picture shows it.

    Args:
        picture: uint8 [128 k, 128 k, 3], a portrait from the canonical camera, true or generated.
        stated: attribute -> value, as ``captions.parse`` finds them; the others do not count.

    Returns:
        Attribute -> right or wrong, in the order of ``stated``.
    """
    found = read(picture)
    return {name: found[name] == value for name, value in stated.items()}
