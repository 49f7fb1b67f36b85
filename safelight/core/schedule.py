"""Schedules: which levels to visit. A schedule is a plain list of n + 1 levels, noisiest first; print, slice, edit it.

This module is the table: every row of every way of laying a grid, found by any name that any program gives it. The
grids stand in ``core/schedules``: over rows of the training table (``positions``), over sigma (``clocks``), published
as numbers or written down by a user (``tables``); what is done to a list afterwards in ``transforms``.
"""

from __future__ import annotations

from safelight.core.schedules import clocks, positions, tables
from safelight.core.schedules.clocks import exponential, karras
from safelight.core.schedules.positions import (
    leading_positions,
    linspace_positions,
    simple,
    trailing,
    trailing_positions,
    visit,
)
from safelight.core.schedules.row import Schedule
from safelight.core.schedules.transforms import start
from safelight.errors import UnknownNameError

__all__ = [
    "SCHEDULES",
    "Schedule",
    "exponential",
    "find",
    "karras",
    "leading_positions",
    "linspace_positions",
    "simple",
    "start",
    "trailing",
    "trailing_positions",
    "visit",
]

_FAMILIES = (clocks, positions, tables)
_ROWS = tuple(sorted((row for family in _FAMILIES for row in family.ROWS), key=lambda row: row.name))

SCHEDULES: dict[str, Schedule] = {row.name: row for row in _ROWS}


def _plain(name: str) -> str:
    """Letters, digits and the equals sign of flags only, so that spaces, case and underscores do not matter."""
    return "".join(c for c in name.lower() if c.isalnum() or c == "=").removesuffix("=true")


_NAMES: dict[str, str] = {_plain(alias): row.name for row in _ROWS for alias in (row.name, *row.names.all)}


def known(name: str) -> str | None:
    """The row of SCHEDULES that a name of any program stands for, or None."""
    return _NAMES.get(_plain(name))


def find(name: str) -> str:
    """The row of SCHEDULES that a name of A1111, ComfyUI, diffusers or stable-diffusion.cpp stands for.

    Raises:
        UnknownNameError: no such schedule; lists the nearest.
    """
    row = known(name)
    if row is None:
        raise UnknownNameError("schedule", name, {alias for each in _ROWS for alias in (each.name, *each.names.all)})
    return row
