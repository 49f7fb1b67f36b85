"""Strengths that lie beside the tensors: PEFT's ``adapter_config.json``, or what diffusers writes into the metadata.

Names of the settings are PEFT's (``LoraConfig``, ``OFTConfig``). No torch.
"""

from __future__ import annotations

import fnmatch
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safelight.errors import ConfigError, WeightsError
from safelight.weights.folder import read_json
from safelight.weights.header import Header

METADATA = "lora_adapter_metadata"
CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Settings:
    """What is known beside the tensors.

    Attributes:
        rows: part -> PEFT's settings; the part is empty where one file holds one part.
    """

    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def of(self, part: str) -> Mapping[str, Any]:
        """The settings of a part; empty where there are none."""
        return self.rows.get(part, self.rows.get("", {}))

    def strength(self, part: str, layer: str, rank: int) -> float | None:
        """What a change of a layer is multiplied by; None where nothing says it."""
        said = self.of(part)
        # LoHa's and LoKr's settings call it alpha.
        alpha = _patterned(said.get("alpha_pattern"), layer, said.get("lora_alpha", said.get("alpha")))
        if alpha is None:
            return None
        return float(alpha) / (math.sqrt(rank) if said.get("use_rslora") else rank)


def read_settings(path: Path, header: Header) -> Settings:
    """The settings of a file.

    Raises:
        ConfigError: they are there, and damaged.
    """
    if METADATA in header.metadata:
        return Settings(_flat(path, header.metadata[METADATA]))
    beside = path.parent / CONFIG
    if path.stem in ("adapter_model", "pytorch_lora_weights") and beside.is_file():
        return Settings({"": _checked(beside, read_json(beside))})
    return Settings()


def _flat(path: Path, text: str) -> dict[str, dict[str, Any]]:
    """diffusers' one table of ``unet.r``, ``text_encoder.lora_alpha`` and so on, part by part."""
    try:
        raw = json.loads(text)
        if not isinstance(raw, dict):
            raise ValueError("not a table")
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: its {METADATA} is damaged ({error}); download it again") from None
    rows: dict[str, dict[str, Any]] = {}
    for key, value in raw.items():
        part, _, name = key.partition(".")
        rows.setdefault(part if name else "", {})[name or part] = value
    return {part: _checked(path, row) for part, row in rows.items()}


def _checked(path: Path, raw: dict[str, Any]) -> dict[str, Any]:
    for name in ("lora_alpha", "alpha", "r"):
        value = raw.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ConfigError(f"{path}: {name} = {str(value)[:40]} is not a number")
    for name in ("alpha_pattern", "rank_pattern"):
        if not isinstance(raw.get(name) or {}, dict):
            raise ConfigError(f"{path}: {name} is not a table")
    if 0 in (raw.get("lora_alpha"), raw.get("alpha")):
        raise WeightsError(f"{path}: its lora_alpha is 0, so it changes nothing; it was not written rightly")
    return raw


def _patterned(patterns: Any, layer: str, usual: Any) -> Any:
    """The first of PEFT's patterns that is the layer's name, or the end of it after a dot."""
    for pattern, value in (patterns or {}).items():
        if layer == pattern or layer.endswith(f".{pattern}") or fnmatch.fnmatchcase(layer, pattern):
            return value
    return usual
