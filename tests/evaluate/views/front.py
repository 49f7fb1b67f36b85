"""Where the trial's tests stand: four cameras in front of the face."""

from __future__ import annotations

FRONT = ((-50.0, 0.0), (-20.0, 15.0), (20.0, 0.0), (50.0, 15.0))


def quiet(what: str, done: int, total: int) -> None:
    """Nobody watches."""
