"""The table of samplers: every row of every family, found by any name that any program gives it."""

from __future__ import annotations

from safelight.core import schedule
from safelight.core.samplers import (
    adams,
    adaptive,
    ancestral,
    bashforth,
    consistency,
    corrected,
    dpm_solver,
    er_sde,
    karras,
    plusplus,
    restart,
    runge_kutta,
)
from safelight.core.samplers.row import Sampler
from safelight.errors import UnknownNameError

_FAMILIES = (
    adams,
    adaptive,
    ancestral,
    bashforth,
    consistency,
    corrected,
    dpm_solver,
    er_sde,
    karras,
    plusplus,
    restart,
    runge_kutta,
)
_ROWS = tuple(sorted((row for family in _FAMILIES for row in family.ROWS), key=lambda row: row.name))

SAMPLERS: dict[str, Sampler] = {row.name: row for row in _ROWS}


def _plain(name: str) -> str:
    """Letters and digits only, so that spaces, case and underscores do not matter; "++" counts as "pp"."""
    return "".join(c for c in name.lower().replace("++", "pp") if c.isalnum())


_NAMES: dict[str, str] = {_plain(alias): row.name for row in _ROWS for alias in (row.name, *row.aliases)}


def find(name: str) -> Sampler:
    """The row that a name stands for, in any of the spellings known.

    Raises:
        UnknownNameError: no such sampler; lists the nearest.
    """
    row = _NAMES.get(_plain(name))
    if row is None:
        raise UnknownNameError("sampler", name, {spelled for each in _ROWS for spelled in (each.name, *each.aliases)})
    return SAMPLERS[row]


def split(name: str) -> tuple[Sampler, str | None]:
    """A1111's old sampler names in two: "DPM++ 2M SDE Karras" is the sampler "DPM++ 2M SDE" on the schedule "karras".

    Returns:
        The row, and a name of SCHEDULES or None where the name says nothing of a schedule.

    Raises:
        UnknownNameError: no such sampler.
    """
    if _plain(name) in _NAMES:
        return find(name), None
    words = name.replace("_", " ").split()
    for cut in range(1, len(words)):
        head, tail = " ".join(words[:cut]), schedule.known(" ".join(words[cut:]))
        if tail and _plain(head) in _NAMES:
            return find(head), tail
    return find(name), None
