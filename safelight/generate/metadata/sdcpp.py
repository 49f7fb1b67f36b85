"""What stable-diffusion.cpp writes: A1111's form with its own names of samplers, and since 2026 an object after it.

The object, after ``SDCPP:`` at the end of the last line, has the schema ``sdcpp.image.params/v1`` and says all that the
line says with more digits; it is preferred.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from safelight.errors import ImageError
from safelight.generate.metadata import a1111
from safelight.generate.metadata.settings import SD_CPP, Settings, real, table, whole, words

MARK = ", SDCPP: {"


def read(text: str) -> Settings:
    """What a text of stable-diffusion.cpp says.

    Raises:
        ImageError: its object is damaged, or it is too long.
    """
    above, newline, last = text.rpartition("\n")
    line, mark, rest = last.partition(MARK)
    flat = a1111.read(above + newline + line)
    if mark:
        return _whole(table("{" + rest, "object of stable-diffusion.cpp"), flat)
    sampler, _, schedule = (flat.sampler or "").partition(" ")
    return replace(flat, program=SD_CPP, sampler=sampler or None, schedule=schedule or None, **_unset(flat))


def _unset(flat: Settings) -> dict[str, Any]:
    skip = flat.clip_skip if flat.clip_skip and flat.clip_skip > 0 else None
    return {"clip_skip": skip}  # 0 and -1 stand for the model's own


def _whole(found: dict[str, Any], flat: Settings) -> Settings:
    sampling, prompt, models, hires = (_part(found, name) for name in ("sampling", "prompt", "models", "hires"))
    guidance = _part(sampling, "guidance")
    loras = found.get("loras")
    named = [each for each in loras if isinstance(each, dict)] if isinstance(loras, list) else []
    width, height, skip = whole(found.get("width")), whole(found.get("height")), whole(found.get("clip_skip"))
    second = {"scale": real(hires.get("scale")), "steps": whole(hires.get("steps")), "upscaler": hires.get("upscaler")}
    drawn = hires.get("enabled") is True
    strength = real(hires.get("denoising_strength")) if drawn else None
    return replace(
        flat,
        program=SD_CPP,
        version=words(_part(found, "generator").get("version")) or flat.version,
        prompt=words(prompt.get("positive")) or "",
        negative=words(prompt.get("negative")) or "",
        steps=whole(sampling.get("sample_steps")),
        sampler=words(sampling.get("sample_method")),
        schedule=words(sampling.get("scheduler")),
        guidance=real(guidance.get("txt_cfg")),
        seed=whole(found.get("seed")),
        size=(width, height) if width and height else None,
        model=words(models.get("model")) or words(models.get("diffusion_model")) or flat.model,
        rng=words(found.get("rng")) or flat.rng,
        strength=strength,
        clip_skip=skip if skip and skip > 0 else None,
        loras=tuple((str(each.get("name")), real(each.get("multiplier")) or 0.0) for each in named),
        hires={name: value for name, value in second.items() if value} if drawn else {},
    )


def _part(found: dict[str, Any], name: str) -> dict[str, Any]:
    part = found.get(name, {})
    if not isinstance(part, dict):
        raise ImageError(f"the object of stable-diffusion.cpp is damaged ({name} is no table)")
    return part
