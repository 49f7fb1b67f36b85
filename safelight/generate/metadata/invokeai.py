"""What InvokeAI writes: one object under ``invokeai_metadata``, with names of its own for samplers."""

from __future__ import annotations

from typing import Any

from safelight.generate.metadata.a1111 import number
from safelight.generate.metadata.settings import INVOKEAI, Settings, real, table, whole, words

KARRAS = "_k"
"""The end of a sampler's name that means the schedule of Karras."""
TAKEN = (
    *("positive_prompt", "negative_prompt", "steps", "scheduler", "cfg_scale", "cfg_rescale_multiplier", "seed"),
    *("width", "height", "model", "loras", "strength", "init_image", "clip_skip", "rand_device", "app_version"),
)
LINKED = ("controlnets", "ipAdapters", "t2iAdapters", "refiner_model", "hrf_enabled", "vae", "regions", "ref_images")
"""What joins other models or pictures; it is named, and not followed."""


def read(text: str) -> Settings:
    """What such an object says.

    Raises:
        ImageError: it is damaged.
    """
    found = table(text, "text of InvokeAI")
    scheduler = words(found.get("scheduler"))
    karras = scheduler is not None and scheduler.endswith(KARRAS)
    width, height, skip = whole(found.get("width")), whole(found.get("height")), whole(found.get("clip_skip"))
    model = found.get("model")
    if isinstance(model, dict):
        model = model.get("name") or model.get("model_name")
    over = str(found.get("init_image") or "") if "img2img" in str(found.get("generation_mode")) else None
    rest = {name: value for name, value in found.items() if name not in TAKEN and value not in (None, [], {}, "")}
    return Settings(
        program=INVOKEAI,
        version=words(found.get("app_version")) or "",
        prompt=words(found.get("positive_prompt")) or "",
        negative=words(found.get("negative_prompt")) or "",
        steps=whole(found.get("steps")),
        sampler=scheduler.removesuffix(KARRAS) if scheduler else None,
        schedule="karras" if karras else None,
        guidance=real(found.get("cfg_scale")),
        rescale=real(found.get("cfg_rescale_multiplier")) or None,
        seed=whole(found.get("seed")),
        size=(width, height) if width and height else None,
        model=words(model),
        image=over,
        strength=real(found.get("strength")) if over is not None else None,
        clip_skip=None if skip is None else skip + 1,  # layers left out, there
        rng=words(found.get("rand_device")),
        loras=tuple(_loras(found.get("loras"))),
        other={name: number(value) for name, value in rest.items() if isinstance(value, str | int | float)},
        unread=tuple(name for name in rest if name in LINKED and rest[name] is not False),
    )


def _loras(found: Any) -> list[tuple[str, float]]:
    loras = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    named = []
    for each in loras:
        model = each.get("model") or each.get("lora") or {}
        name = (model.get("name") or model.get("model_name")) if isinstance(model, dict) else model
        named.append((str(name), real(each.get("weight")) or 0.0))
    return named
