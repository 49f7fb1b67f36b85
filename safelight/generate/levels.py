"""Which levels a request visits: those of a schedule by name, of a list, or what the model's files ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from safelight.core import names, schedule
from safelight.core.names import Pair
from safelight.core.path import Level
from safelight.core.samplers.row import Option, Options
from safelight.core.schedules import tables
from safelight.core.schedules.row import TRANSFORMS, checked, transformed
from safelight.errors import RequestError
from safelight.families.family import Model
from safelight.generate.request import Request

MODEL = "model"
"""The schedule of those who name none."""
# A list that stands already cannot be laid with one more.
_FIXED: Options = {name: value for name, value in TRANSFORMS.items() if name != "spare"}


@dataclass(frozen=True)
class Visit:
    """What is visited, and by which sampler.

    Attributes:
        pair: rows of the tables, and what their names change.
        schedule: name of a row, ``model``, or a list written out.
        options: every option of the schedule.
        steps: of the whole schedule, though ``first`` may leave some out. levels: those visited, noisiest first.
    """

    pair: Pair
    schedule: str
    options: Mapping[str, Option]
    steps: int
    levels: list[Level]


def visit(model: Model, request: Request, steps: int) -> Visit:
    """The levels before strength shortens them.

    Args:
        steps: those of the model where the request says nothing.

    Raises:
        UnknownNameError: no such sampler, schedule or option. RequestError: options that cannot be or do nothing, or
            levels that the model's path does not have.
    """
    text = request.schedule if request.schedule is None or isinstance(request.schedule, str) else MODEL
    own = not isinstance(text, str) or text.strip().lower() == MODEL
    listed = _listed(request)
    pair = names.understood(request.sampler or model.defaults.sampler, None if own or listed else text)
    if listed and pair.schedule:
        raise RequestError(f"the sampler's name says schedule {pair.schedule!r}, and the levels are listed; give one")
    if request.image is None and request.schedule_options.get("first"):
        raise RequestError("schedule option first says where a picture to start from begins; give an image")
    if request.strength is not None and request.schedule_options.get("first"):
        raise RequestError("strength and schedule option first both say where to begin; give one")
    if pair.schedule and not listed:
        row = schedule.SCHEDULES[pair.schedule]
        options = {**row.whole, **pair.laid, **checked(row.name, row.whole, request.schedule_options)}
        return Visit(pair, row.name, options, steps, row(model.path, steps, options))
    name = "list" if listed else MODEL
    options = {**_FIXED, **checked(name, _FIXED, request.schedule_options)}
    if listed:
        levels = tables.custom(model.path, listed)
        if request.steps not in (None, len(levels) - 1):
            raise RequestError(f"the list of levels has {len(levels) - 1} steps, not {request.steps}; leave steps out")
    else:
        levels = model.defaults.levels(steps)
    whole = len(levels) - 1
    if options != _FIXED:
        levels = transformed(model.path, levels, options)
    return Visit(pair, listed or MODEL, options, whole, levels)


def _listed(request: Request) -> str:
    """The list of levels that a request holds, written out; empty where it names a schedule."""
    if request.schedule is None:
        return ""
    if not isinstance(request.schedule, str):
        return tables.written(request.schedule)
    return request.schedule if tables.is_list(request.schedule) else ""
