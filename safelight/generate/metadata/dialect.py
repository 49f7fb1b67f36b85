"""Which program wrote the texts of a picture, and what they say."""

from __future__ import annotations

from collections.abc import Mapping

from safelight.generate.metadata import a1111, comfyui, invokeai, sdcpp
from safelight.generate.metadata.carrier import PARAMETERS
from safelight.generate.metadata.settings import SD_CPP, Settings

INVOKE = "invokeai_metadata"


def read(texts: Mapping[str, str]) -> Settings | None:
    """What they say, of several the one that says most directly; None where no program is known by them.

    Raises:
        ImageError: a text is damaged.
    """
    if INVOKE in texts:
        return invokeai.read(texts[INVOKE])
    flat = None
    if PARAMETERS in texts:
        text = texts[PARAMETERS]
        flat = sdcpp.read(text) if SD_CPP in text.rpartition("\n")[2] else a1111.read(text)
    if comfyui.known(texts) and (flat is None or flat.steps is None):
        return comfyui.read(texts.get("prompt"), texts.get("workflow"))
    return flat
