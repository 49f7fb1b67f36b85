"""The table of rules that a request can add to its guidance: their names, their options, what those may be.

A rule with ``scale`` is added beside classifier-free guidance; ``apg`` and ``cfg-zero`` stand in its place;
``threshold`` works on what comes of all. What they compute stands in ``core/guides/``. Nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from safelight.errors import RequestError, UnknownNameError

Option = float | str
MID = "mid"
"""The layers that papers perturb, whatever the network calls them."""
NOISE = {"low": 0.0, "high": math.inf}
FROM_NOISE = {"low": (0.0, 1e9), "high": (1e-9, math.inf)}
STRENGTH = (-100.0, 100.0)


@dataclass(frozen=True)
class Row:
    """What is known of a rule.

    Attributes:
        what: in a few words. options: name -> default. ranges: of the options that are numbers, both ends included.
        branch: what it asks beside the others, or nothing.
        place: ``in place of``, ``beside`` or ``after`` classifier-free guidance.
        neutral: the scale at which the rule would do nothing.
    """

    what: str
    options: Mapping[str, Option]
    ranges: Mapping[str, tuple[float, float]]
    branch: str = ""
    place: str = "beside"
    neutral: float = 0.0


RULES: dict[str, Row] = {
    "apg": Row(
        "adaptive projected guidance: high scales without burnt colours",
        {"eta": 0.0, "threshold": 15.0, "momentum": -0.5},
        {"eta": (0.0, 1.0), "threshold": (1e-6, math.inf), "momentum": (-0.99, 0.99)},
        place="in place of",
    ),
    "autoguidance": Row(
        "away from a weaker model of the same latents",
        {"scale": 2.0, **NOISE},
        {"scale": STRENGTH, **FROM_NOISE},
        branch="weak",
        neutral=1.0,
    ),
    "cfg-zero": Row(
        "CFG-Zero*: a fitted uncond, and first steps that stand still",
        {"steps": 1.0},
        {"steps": (0.0, 1000.0)},
        place="in place of",
    ),
    "pag": Row(
        "perturbed attention: away from a picture whose tokens read themselves alone",
        {"scale": 3.0, "layers": MID, **NOISE},
        {"scale": STRENGTH, **FROM_NOISE},
        branch="perturbed",
    ),
    "sag": Row(
        "self-attention: away from a picture that is blurred where the network looks",
        {"scale": 0.75, **NOISE},
        {"scale": STRENGTH, **FROM_NOISE},
        branch="degraded",
    ),
    "seg": Row(
        "smoothed energy: away from a picture whose attention is blurred",
        {"scale": 3.0, "blur": math.inf, "layers": MID, **NOISE},
        {"scale": STRENGTH, "blur": (0.2, math.inf), **FROM_NOISE},
        branch="smoothed",
    ),
    "slg": Row(
        "skip-layer: away from a picture drawn without some blocks",
        {"scale": 2.8, "layers": MID, **NOISE},
        {"scale": STRENGTH, **FROM_NOISE},
        branch="skipped",
    ),
    "threshold": Row(
        "dynamic thresholding: predictions beyond the data's range are scaled back",
        {"percentile": 0.995, "limit": 1.0},
        {"percentile": (0.01, 1.0), "limit": (1e-6, 1e6)},
        place="after",
    ),
}


@dataclass(frozen=True)
class Rule:
    """A rule that a request adds to its guidance.

    Args:
        name: of RULES.
        options: changes of the rule's options; afterwards all of them.

    Raises:
        UnknownNameError: no such rule or option.
        RequestError: a value that cannot be, or at which the rule does nothing.
    """

    name: str
    options: Mapping[str, Option] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in RULES:
            raise UnknownNameError("rule of guidance", self.name, RULES)
        row = RULES[self.name]
        whole = dict(row.options)
        for name, value in self.options.items():
            if name not in row.options:
                raise UnknownNameError(f"option of {self.name}", name, row.options)
            whole[name] = str(value) if isinstance(row.options[name], str) else self._number(name, value)
        if whole.get("scale") == row.neutral and "scale" in whole:
            raise RequestError(f"{self.name} at scale {row.neutral:g} does nothing; change the scale or leave it out")
        if "low" in whole and not self._is_interval(whole):
            raise RequestError(f"low of {self.name} is not below its high, so it would do nothing")
        object.__setattr__(self, "options", whole)

    def _number(self, name: str, value: Option) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        low, high = RULES[self.name].ranges[name]
        if not low <= number <= high:
            raise RequestError(f"option {name} of {self.name} must lie between {low:g} and {high:g}, not {value!r}")
        return number

    @staticmethod
    def _is_interval(options: Mapping[str, Any]) -> bool:
        return bool(options["low"] < options["high"])

    def number(self, name: str) -> float:
        """An option that is a number."""
        return float(self.options[name])

    @property
    def row(self) -> Row:
        """What is known of the rule."""
        return RULES[self.name]

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that were asked for."""
        return tuple(name.strip() for name in str(self.options["layers"]).split("+"))

    def told(self) -> dict[str, Any]:
        """The rule for a recipe: an infinite number is the text "inf", since JSON has no such number."""
        options = {n: str(v) if isinstance(v, float) and math.isinf(v) else v for n, v in self.options.items()}
        return {"name": self.name, "options": options}


def read(text: str) -> Rule:
    """A rule as the command writes it: ``pag``, or ``pag:scale=2,layers=mid_block+up_blocks.1``.

    Raises:
        RequestError: not of this form; and all that `Rule` raises.
    """
    name, colon, rest = text.partition(":")
    options: dict[str, Option] = {}
    for part in rest.split(",") if colon else ():
        option, equals, value = part.partition("=")
        if not (equals and option.strip() and value.strip()):
            raise RequestError(f"a rule is NAME or NAME:OPTION=VALUE,..., such as pag:scale=2, not {text!r}")
        options[option.strip()] = value.strip()
    return Rule(name.strip().lower(), options)


def checked(rules: tuple[Rule, ...]) -> None:
    """Raises: RequestError where two rules of one request want the same place."""
    for name in {rule.name for rule in rules}:
        if sum(rule.name == name for rule in rules) > 1:
            raise RequestError(f"the rule {name} is given twice; give it once")
    instead = [rule.name for rule in rules if rule.row.place == "in place of"]
    if len(instead) > 1:
        raise RequestError(f"{' and '.join(instead)} both stand in place of plain guidance; give one")
