"""Where files live on this machine, and whether the hub may be asked, by the environment's leave; no torch.

    SAFELIGHT_CACHE     where safelight keeps what it can make again
    HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME   where the hub and the desktop keep theirs, with their usual meaning
    HF_HUB_OFFLINE      nothing is fetched from the hub, whatever is asked
    XDG_CONFIG_HOME     where safelight/config.toml is looked for
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Folders:
    """Where files live. Nothing is made by asking.

    Args:
        package: the program itself.
        assets: the models that came with it.
        cache: what safelight can make again, such as rendered data sets.
        hub: the Hugging Face hub's cache, shared with every other program that uses the hub.
        config: the user's settings, a file that need not be there.
    """

    package: Path
    assets: Path
    cache: Path
    hub: Path
    config: Path


def folders(environment: Mapping[str, str] = os.environ) -> Folders:
    """The folders of this installation, by the environment's leave."""
    package = Path(__file__).resolve().parents[1]
    caches = Path(environment.get("XDG_CACHE_HOME") or _home() / ".cache")
    hub_home = Path(environment.get("HF_HOME") or caches / "huggingface")
    return Folders(
        package=package,
        assets=package / "assets",
        cache=Path(environment.get("SAFELIGHT_CACHE") or caches / "safelight"),
        hub=Path(environment.get("HF_HUB_CACHE") or hub_home / "hub"),
        config=Path(environment.get("XDG_CONFIG_HOME") or _home() / ".config") / "safelight" / "config.toml",
    )


def offline(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the user said that nothing may be fetched from the hub."""
    return environment.get("HF_HUB_OFFLINE", "").strip().lower() in ("1", "on", "yes", "true")


def _home() -> Path:
    """The user's folder; that of temporary files for a user without one, as in containers with a free user number."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(tempfile.gettempdir())
