"""Find models in the cache of the Hugging Face hub, read as it lies on the disk; fetch them only when asked.

Layout: ``models--ORG--NAME/refs/REVISION`` holds the name of a folder in ``snapshots``, whose files are links into
``blobs``. Source: the hub's documentation, "Understand caching".
"""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import NamedTuple

from safelight.errors import FileError, RequestError, WeightsError

NAME = re.compile(
    r"(?P<org>[A-Za-z0-9][\w.-]{0,95})/(?P<name>[A-Za-z0-9][\w.-]{0,95})"
    r"(?:@(?P<revision>[\w][\w./-]{0,127}))?(?::(?P<folder>[\w][\w./-]{0,127}))?"
)
MOST_CAUSES = 8
COMMIT = re.compile(r"[0-9a-f]{40}")
PATTERNS = ("*.json", "*.txt", "*.model", "*.safetensors")
"""What is fetched: pickles and code are left where they are."""
REASONS = {
    "GatedRepoError": "asks for its terms to be accepted; do so on its page there, and set HF_TOKEN",
    "RevisionNotFoundError": "has no revision of that name; leave out what follows the '@', or name another",
    "RepositoryNotFoundError": "has no such model for you; check its name, and set HF_TOKEN if it is private",
    "OfflineModeIsEnabled": "is not asked, for the environment says so (TRANSFORMERS_OFFLINE); unset it",
    "ConnectError": "cannot be reached; check the network, and HF_ENDPOINT if it is set",
    "LocalEntryNotFoundError": "cannot be reached; check the network, and HF_ENDPOINT if it is set",
}
"""What the library's errors mean to a person, by the names of their classes; of several the first."""


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
        raise FileError(_told(wanted, hub, error)) from None
    folder = Path(place) / wanted.folder
    if not folder.is_dir():
        raise FileError(f"{wanted}: the model has no folder of that name with files of weights; check what follows ':'")
    return folder


def _told(wanted: HubName, hub: Path, error: Exception) -> str:
    """What an error of the library means, in one line with what to do."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and len(chain) < MOST_CAUSES:
        chain.append(cause)
    if any(isinstance(each, OSError) and each.errno == errno.ENOSPC for each in chain):
        return f"{wanted}: no space is left for it in {hub}; make room, or name another place in HF_HUB_CACHE"
    kinds = {kind.__name__ for each in chain for kind in type(each).__mro__}
    for name, reason in REASONS.items():
        if name in kinds:
            return f"{wanted}: the hub {reason}"
    said = (str(error).splitlines() or [type(error).__name__])[0]
    return f"{wanted}: the hub does not give it ({said[:200]}); what came so far is kept, so try again"
