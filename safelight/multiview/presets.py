"""Published models of several views, by name: what each is told and shown, and what was verified.

The facts stand in ``presets.toml``, which also says what every field means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import torch

from safelight.errors import ConfigError, RequestError, UnknownNameError
from safelight.multiview.encode import ENCODERS
from safelight.multiview.layouts import LAYOUTS
from safelight.multiview.network import Conditions
from safelight.multiview.rig import rigs
from safelight.multiview.table import rows, sound, within

FILE: Final = Path(__file__).with_name("presets.toml")
RULES: Final = ("prompt", "zeros", "keep", "drop", "grey")
HIDES: Final = ("zeros", "prompt")
"""Those of `RULES` by which an input is another where guidance leads away."""
INPUTS: Final = {
    "text": "context",
    "picture": "context",
    "camera": "cameras",
    "hidden": "hidden",
    "reference": "reference",
}
"""Input of a preset -> field of `Conditions`; all that is shown is ``shown``."""
OWN: Final = ("token", "ramp")
"""Ways to be told a picture for which a model has a `tell` of its own."""
FREE: Final = ("layout", "size", "camera")
"""What a folder may say of its own model where it differs from its preset."""
PREDICTIONS: Final = ("epsilon", "v_prediction", "sample")


@dataclass(frozen=True)
class Preset:
    """One model of several views; every field is explained in ``presets.toml``."""

    name: str
    title: str
    source: str
    files: tuple[str, ...]
    code: str
    weights: str
    commercial: bool
    heads: int
    heads_fixed: bool
    rig: str
    elevation: float
    figure: bool
    size: int
    camera: str
    camera_width: int
    layout: str
    second: Mapping[str, str]
    domains: tuple[str, ...]
    guesses: int
    slot: bool
    bank: str
    picture: str
    tile: tuple[int, ...]
    tokens: int
    token_heads: int
    hidden: int
    shown: tuple[str, ...]
    unconditional: Mapping[str, str]
    latent: Mapping[str, float]
    contrast: float
    betas: Mapping[str, Any]
    prediction: str
    background: float
    guidance: float
    steps: int
    sampler: str
    spacing: str
    suffix: str
    verified: str
    unverified: str

    @property
    def maps(self) -> int:
        """Channels of the camera's map that stands beside the latents; 0 where the network is told cameras or none."""
        return self.camera_width if self.camera and ENCODERS[self.camera].maps else 0

    @property
    def told(self) -> int:
        """Numbers that the network is told beside the time; 0 for none."""
        return 2 * self.hidden if self.picture == "time" else self.camera_width - self.maps

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the network is told, and is shown beside the latents."""
        told = {
            "text": self.picture not in ("token", "projection"),
            "picture": bool(self.picture),
            "camera": bool(self.camera),
            "hidden": self.tokens > 0,
            "reference": self.slot or bool(self.bank),
        }
        return (*(name for name, reads in told.items() if reads), *self.shown)

    @property
    def prompted(self) -> bool:
        """Whether a prompt is read: a text that is not the model's own."""
        return self.unconditional.get("text") == "prompt"

    @property
    def pictured(self) -> bool:
        """Whether a picture is read."""
        return not {"picture", "hidden", "reference"}.isdisjoint(self.inputs)

    @property
    def free(self) -> bool:
        """Whether views may be taken from anywhere; else from where the rig's are."""
        return self.figure or (bool(self.camera) and ENCODERS[self.camera].needs in ("", "reference"))

    def led_away(self, told: Conditions, negative: torch.Tensor | None = None) -> Conditions:
        """What guidance leads away from, by the rules of ``unconditional``.

        Args:
            told: what it leads towards.
            negative: [B, M, X], the negative prompt's text; None for a model whose rules name none.

        Raises:
            RequestError: see `without`.
        """
        return self.without(told, negative, [name for name, rule in self.unconditional.items() if rule in HIDES])

    def without(self, told: Conditions, negative: torch.Tensor | None, names: Sequence[str]) -> Conditions:
        """The same where some of it is hidden: a text becomes the negative one, all else zeros.

        Args:
            told: all. negative: see `led_away`. names: of `inputs`, but a camera whose map stands beside the latents.

        Raises:
            RequestError: the two texts are of different shapes, one is missing, or the model has a way of its own to
                say this.
        """
        if self.picture in OWN or self.bank:
            raise RequestError(f"{self.title}: what is led away from comes with what is led towards, from its `tell`")
        if negative is None and "text" in names:
            raise RequestError(f"{self.title} is led away from a text; give that of a negative prompt, or an empty one")
        if negative is not None and negative.shape != told.context.shape:
            shapes = f"{list(told.context.shape)} and {list(negative.shape)}"
            raise RequestError(f"the prompt and what is led away from are of shapes {shapes}; encode them alike")
        made: dict[str, Any] = dict(vars(told))
        for name in names:
            for key in self._fields(name):
                value = made[key]
                if name == "text":
                    made[key] = negative
                elif value is not None:
                    made[key] = self._hidden(name, value) if name in self.shown else torch.zeros_like(value)
        return Conditions(**made)

    def _fields(self, name: str) -> tuple[str, ...]:
        """Where `Conditions` hold an input."""
        if name in self.shown:
            return ("shown", "beside_reference")
        return ("embedding",) if (name, self.picture) == ("picture", "time") else (INPUTS[name],)

    def _hidden(self, name: str, beside: torch.Tensor) -> torch.Tensor:
        """What stands beside the latents [B, C, ...], with zeros for one kind of it; maps of cameras stand first."""
        width = (beside.shape[1] - self.maps) // len(self.shown)
        begin = self.maps + width * self.shown.index(name)
        made = beside.clone()
        made[:, begin : begin + width] = 0
        return made


def preset(name: str) -> Preset:
    """The preset of that name; UnknownNameError names the nearest."""
    if name not in presets():
        raise UnknownNameError("preset of views", name, presets())
    return presets()[name]


@cache
def presets() -> Mapping[str, Preset]:
    """All that came along, by name."""
    return read(FILE)


def read(path: Path) -> dict[str, Preset]:
    """The presets of a file such as ``presets.toml``.

    Raises:
        ConfigError: it is no such file: names the preset and what is wrong with it.
    """
    return {name: _row(where, name, row) for where, name, row in rows(path, "preset", Preset)}


def varied(known: Preset, changes: Mapping[str, Any], where: str) -> Preset:
    """A preset, of which a model changes some facts.

    Args:
        changes: values by names of `FREE`. where: who says so, for errors.

    Raises:
        ConfigError: another fact, or a value that it cannot have.
    """
    if strange := sorted(set(changes) - set(FREE)):
        raise ConfigError(f"{where}: {', '.join(strange)} cannot be changed; of a preset's facts {', '.join(FREE)} can")
    sound(where, changes, {key: CHECKS[key](value) for key, value in changes.items()})
    camera = changes.get("camera", known.camera)
    rules = {name: rule for name, rule in known.unconditional.items() if name != "camera"}
    rules |= {"camera": known.unconditional.get("camera", "keep")} if camera else {}
    width = ENCODERS[camera].channels if camera else 0
    return replace(known, **changes, camera_width=width, unconditional=rules)


def _row(where: str, name: str, row: dict[str, Any]) -> Preset:
    sound(where, row, {key: good(row[key]) for key, good in CHECKS.items()})
    told: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    made = Preset(name=name, **told)
    if set(made.unconditional) != set(made.inputs):
        inputs, rules = ", ".join(made.inputs), ", ".join(made.unconditional)
        raise ConfigError(f"{where}: unconditional has rules for {rules}; the network reads {inputs}")
    if ENCODERS[made.camera].channels != made.camera_width if made.camera else made.camera_width:
        raise ConfigError(f"{where}: a camera of {made.camera_width} numbers is not what {made.camera!r} makes")
    return made


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _within(low: float, high: float, *, whole: bool = False) -> Callable[[Any], bool]:
    return partial(within, low=low, high=high, whole=whole)


def _rules(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return all(rule in RULES and (rule != "prompt" or name == "text") for name, rule in value.items())


def _second(value: Any) -> bool:
    if not isinstance(value, dict) or not all(map(_text, value.values())):
        return False
    return not value or (set(value) == {"name", "layout"} and value["name"] != "" and value["layout"] in LAYOUTS)


def _latent(value: Any) -> bool:
    number = _within(-1e3, 1e3)
    return isinstance(value, dict) and set(value) == {"scale", "shift"} and all(map(number, value.values()))


def _betas(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"schedule", "start", "end"}:
        return False
    number = _within(0.0, 1.0)
    return value["schedule"] in ("linear", "scaled_linear") and number(value["start"]) and number(value["end"])


_edge = _within(1, 64, whole=True)
CHECKS: Final[dict[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("title", "source", "code", "weights", "sampler", "suffix", "verified", "unverified"), _text),
    **dict.fromkeys(("commercial", "figure", "heads_fixed", "slot"), _flag),
    **dict.fromkeys(("files", "shown"), _list),
    "domains": lambda value: _list(value) and len(value) > 0,
    "second": _second,
    "bank": lambda value: value in ("", "noised"),
    "picture": lambda value: value in ("", "projection", "time", *OWN),
    "spacing": lambda value: value in ("leading", "trailing"),
    "tile": lambda value: value == [] or (isinstance(value, list) and len(value) == 2 and all(map(_edge, value))),
    "contrast": _within(1e-3, 1e3),
    **dict.fromkeys(("tokens", "token_heads", "hidden", "camera_width", "guesses"), _within(0, 8192, whole=True)),
    **dict.fromkeys(("heads", "size", "steps"), _within(1, 8192, whole=True)),
    "rig": lambda value: value == "" or value in rigs(),
    "elevation": _within(-90, 90),
    "camera": lambda value: value == "" or value in ENCODERS,
    "layout": lambda value: value in LAYOUTS,
    "unconditional": _rules,
    "latent": _latent,
    "betas": _betas,
    "prediction": lambda value: value in PREDICTIONS,
    "background": _within(0, 1),
    "guidance": _within(0, 100),
}
