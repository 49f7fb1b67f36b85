"""Find models in the cache of the Hugging Face hub, read as it lies on the disk; fetch them only when asked.

Layout: ``models--ORG--NAME/refs/REVISION`` holds the name of a folder in ``snapshots``, whose files are links into
``blobs``. Source: the hub's documentation, "Understand caching".
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from safelight.errors import FileError, RequestError, WeightsError

NAME = re.compile(
    r"(?P<org>[A-Za-z0-9][\w.-]{0,95})/(?P<name>[A-Za-z0-9][\w.-]{0,95})"
    r"(?:@(?P<revision>[\w][\w./-]{0,127}))?(?::(?P<folder>[\w][\w./-]{0,127}))?"
)
COMMIT = re.compile(r"[0-9a-f]{40}")
PATTERNS = ("*.json", "*.txt", "*.model", "*.safetensors")
"""What is fetched: pickles and code are left where they are."""


class HubName(NamedTuple):
    """A model of the hub: ``org/name[@revision][:folder]``."""

    org: str
    name: str
    revision: str = "main"
    folder: str = ""

    def __str__(self) -> str:
        revision = "" if self.revision == "main" else f"@{self.revision}"
        return f"{self.org}/{self.name}{revision}{f':{self.folder}' if self.folder else ''}"


def hub_name(text: str) -> HubName | None:
    """The model of the hub that a text names, or None where it is no such name.

    Raises:
        RequestError: it is one, but a part of it leads elsewhere (``..``).
    """
    found = NAME.fullmatch(text)
    if found is None:
        return None
    if ".." in re.split(r"[/@:]", text) or ".." in text:
        raise RequestError(f"{text[:80]}: a name of the hub has no '..'")
    return HubName(found["org"], found["name"], found["revision"] or "main", found["folder"] or "")


def cached(hub: Path, wanted: HubName) -> Path | None:
    """The folder of a model in the hub's cache, or None where it is not there.

    Raises:
        WeightsError: the cache names a folder that leads elsewhere.
    """
    place = hub / f"models--{wanted.org}--{wanted.name}"
    commit = wanted.revision
    if not COMMIT.fullmatch(commit):
        ref = place / "refs" / wanted.revision
        if not ref.is_file() or ref.stat().st_size > 100:
            return None
        commit = ref.read_text(encoding="ascii", errors="replace").strip()
    if not COMMIT.fullmatch(commit):
        raise WeightsError(f"{place / 'refs' / wanted.revision}: names no commit; remove it and download again")
    folder = place / "snapshots" / commit / wanted.folder
    return folder if folder.is_dir() else None


def fetch(hub: Path, wanted: HubName, *, offline: bool) -> Path:
    """Download what is missing of a model, with the hub's own progress, and return its folder in the cache.

    Args:
        offline: whether the user said that nothing may be fetched.

    Raises:
        RequestError: nothing may be fetched, or ``huggingface_hub`` is not installed.
        FileError: the hub does not give it; says what the hub said.
    """
    if offline:
        raise RequestError(f"{wanted}: HF_HUB_OFFLINE is set, so nothing is downloaded; unset it, or name a folder")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise RequestError("downloading needs huggingface_hub; pip install 'safelight[hub]'") from None
    inside = [f"{wanted.folder}/{pattern}" for pattern in PATTERNS] if wanted.folder else list(PATTERNS)
    try:
        place = snapshot_download(
            f"{wanted.org}/{wanted.name}", revision=wanted.revision, cache_dir=hub, allow_patterns=inside
        )
    except Exception as error:  # the library raises anything between its own errors and those of its network library
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FileError(f"{wanted}: the hub does not give it ({reason[:200]})") from None
    return Path(place) / wanted.folder
