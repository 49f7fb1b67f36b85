"""Model folders of other programs, listed by what lies in them; named in ``config.toml``, never searched for.

    [models]
    folders = ["~/ComfyUI/models", "~/stable-diffusion-webui/models"]

Source: the folders that ComfyUI and A1111's web UI make when they are installed.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from safelight.errors import ConfigError
from safelight.weights.container import SUFFIXES

KINDS = {
    "checkpoint": ("checkpoints", "Stable-diffusion"),
    "diffusion model": ("diffusion_models", "unet"),
    "text encoder": ("text_encoders", "clip"),
    "vae": ("vae", "VAE"),
    "lora": ("loras", "Lora", "LyCORIS"),
    "controlnet": ("controlnet", "ControlNet"),
    "embedding": ("embeddings",),
    "ip-adapter": ("ipadapter",),
    "upscaler": ("upscale_models", "ESRGAN", "RealESRGAN"),
}
MOST = 10_000
LARGEST = 2**20


class Shelved(NamedTuple):
    """A file of weights in a folder of another program; ``name`` is its path below that folder, without suffix."""

    name: str
    kind: str
    path: Path


def model_folders(config: Path) -> list[Path]:
    """The folders that ``config.toml`` names; none where there is no such file.

    Raises:
        ConfigError: the file is no TOML, or says something else.
    """
    if not config.is_file():
        return []
    try:
        if config.stat().st_size > LARGEST:
            raise ConfigError(f"{config}: larger than {LARGEST} bytes; that is no configuration")
        raw = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{config}: cannot be read ({error})") from None
    models = raw.pop("models", {})
    folders = models.pop("folders", []) if isinstance(models, dict) else None
    if raw or models or not isinstance(folders, list) or any(not isinstance(each, str) for each in folders):
        raise ConfigError(f'{config}: holds [models] with folders = ["..."], and nothing else')
    return [Path(each).expanduser() for each in folders]


def shelved(folder: Path) -> Iterator[Shelved]:
    """Every file of weights in the known rooms of a folder, sorted; links that lead out of it are passed over."""
    root = folder.resolve()
    rooms = {room: kind for kind, names in KINDS.items() for room in names}
    seen = 0
    for room in sorted(rooms.keys() & {place.name for place in folder.iterdir()} if folder.is_dir() else ()):
        for place, folders, files in os.walk(folder / room):
            folders.sort()
            for name in sorted(files):
                path = Path(place, name)
                seen += 1
                if seen > MOST:
                    return
                if path.suffix.lower() in SUFFIXES and path.resolve().is_relative_to(root):
                    below = path.relative_to(folder / room).with_suffix("")
                    yield Shelved(below.as_posix(), rooms[room], path)
