"""What may be done to a list of levels, or to the path below it: shift, stretch, begin later, stop earlier.

All but ``moved`` take and give a list, noisiest first. Letters as in ``core/path.py``. Sources: shift of a flow, Esser
et al. 2403.03206 eq. 23, which is a move of lam by -log(shift) on any path; dynamic shift, Black Forest Labs' FLUX.1;
stretching to a terminal level, Lightricks' LTX-Video; strength, Meng et al. 2108.01073 as diffusers counts it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from safelight.core.path import VP, Flow, Level, Path
from safelight.errors import RequestError


def shift(path: Path, levels: Sequence[Level], factor: float) -> list[Level]:
    """Every level moved by -log(factor) in lam; pure noise and the clean end stay.

    Args:
        factor: > 0; above 1 there are more steps at high noise. exp(mu) for models that state a mu.

    Raises:
        RequestError: a factor that is not above 0.
    """
    if not 0.0 < factor < math.inf:
        raise RequestError(f"a shift is a number above 0, not {factor}")
    by = math.log(factor)
    return [level if math.isinf(level.lam) else path.at(level.lam - by) for level in levels]


def shifted_to(path: Path, levels: Sequence[Level], total: float) -> list[Level]:
    """``shift`` so that the path's own shift and this one make ``total``; levels are not shifted twice."""
    own = path.shift if isinstance(path, Flow) else 1.0
    return list(levels) if total == own else shift(path, levels, total / own)


def dynamic_mu(
    tokens: int, least: float = 0.5, most: float = 1.15, fewest_tokens: int = 256, most_tokens: int = 4096
) -> float:
    """FLUX's mu, linear in the number of image tokens; the shift is exp(mu).

    Args:
        tokens: 1 and up; a picture of 1024 x 1024 has 4096.
        least, most: mu at ``fewest_tokens`` and ``most_tokens``; goes on beyond both.

    Raises:
        RequestError: no tokens.
    """
    if tokens < 1:
        raise RequestError(f"a picture has one token or more, not {tokens}")
    return least + (most - least) * (tokens - fewest_tokens) / (most_tokens - fewest_tokens)


def stretch_terminal(path: Path, levels: Sequence[Level], terminal: float) -> list[Level]:
    """The levels of a flow stretched away from pure noise until the last one that is asked lies at ``terminal``.

    Args:
        terminal: sigma between 0 and 1. A schedule of one step from pure noise stays as it is.

    Raises:
        RequestError: the path is no flow, or terminal is outside 0..1.
    """
    if not isinstance(path, Flow):
        raise RequestError("terminal stretches the sigma of flow models, and this network's path is no flow; leave it")
    if not 0.0 < terminal < 1.0:
        raise RequestError(f"terminal is a sigma between 0 and 1, not {terminal}")
    asked, end = levels[:-1], levels[-1]
    signal = asked[-1].alpha
    if signal == 0.0:
        return list(levels)
    return [*(path.at_clock(1.0 - level.alpha * (1.0 - terminal) / signal) for level in asked), end]


def keep_noise(levels: Sequence[Level], last: Level) -> list[Level]:
    """The levels with another end, such as one that keeps some noise.

    Raises:
        RequestError: it is not below the level before it.
    """
    if not levels[-2].lam + 1e-9 < last.lam:
        raise RequestError(
            f"a last level with sigma {last.sigma:.6g} and alpha {last.alpha:.6g} lies not below the level before it "
            f"(sigma {levels[-2].sigma:.6g}); end lower, or set spare=1"
        )
    return [*levels[:-1], last]


def start_at(levels: Sequence[Level], first: Level) -> list[Level]:
    """The part of a schedule below a level, begun exactly there.

    Raises:
        RequestError: it lies outside the schedule.
    """
    if not levels[0].lam <= first.lam < levels[-1].lam:
        raise RequestError(
            f"a first level with sigma {first.sigma:.6g} and alpha {first.alpha:.6g} lies outside the schedule, which "
            f"goes from sigma {levels[0].sigma:.6g} to {levels[-1].sigma:.6g}"
        )
    return [first, *(level for level in levels if level.lam > first.lam)]


def start(levels: Sequence[Level], strength: float) -> list[Level]:
    """The part of a schedule that image-to-image runs: its last int(n strength) steps, as in diffusers.

    Args:
        levels: n + 1 of them.
        strength: 0 leaves the picture as it is, 1 forgets it.

    Raises:
        RequestError: strength is outside 0..1, or no step is left to run.
    """
    n = len(levels) - 1
    if not 0.0 <= strength <= 1.0:
        raise RequestError(f"strength lies between 0 and 1, not {strength}")
    kept = min(int(n * strength), n)
    if kept < 1:
        raise RequestError(f"strength {strength} of {n} steps leaves no step to run; raise the strength or the steps")
    return list(levels[n - kept :])


def moved(path: Path, factor: float, *, growing: bool = False) -> Path:
    """The path with its whole training table moved by -log(factor) in lam: for a network that was trained on it.

    Labels stay with their rows. That is how Stable Cascade, simple diffusion and SD3 shift.

    Args:
        factor: > 0; above 1 every label means more noise. The signal-to-noise ratio is divided by its square.
        growing: from nothing at the cleanest row, evenly with the row, to all of it at the noisiest. That is what
            MV-Adapter calls interpolated; it divides the ratio by 8, which is a factor of sqrt(8).

    Raises:
        RequestError: a factor that is not above 0, a path that has no table, or one that cannot be moved so.
    """
    if not 0.0 < factor < math.inf:
        raise RequestError(f"a shift is a number above 0, not {factor}")
    if isinstance(path, Flow) and not growing:
        return replace(path, shift=path.shift * factor)
    if isinstance(path, VP):
        # alpha^2 = s / (s + (1 - s) by^2), finite where s is 0
        last = path.steps - 1
        parts = ((square, factor ** (k / last) if growing else factor) for k, square in enumerate(path.alphas_cumprod))
        table = tuple(square / (square + (1.0 - square) * by * by) for square, by in parts)
        return VP(table, f"{path.name}, shifted by {factor:g}{' in growing parts' * growing}")
    if isinstance(path, Flow):
        raise RequestError("only a path with a table of its own is shifted in growing parts; a flow's is a formula")
    raise RequestError("a path labelled by sigma has no table to shift; give other ends instead")
