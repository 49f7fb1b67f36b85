"""Read a text encoder's released folder, under any of the names that its library has written."""

from __future__ import annotations

from pathlib import Path

from safelight.encoders.clip import ClipText, ClipTextConfig
from safelight.weights.load import load_part


def load_clip_text(folder: Path, variant: str = "", *, pickles: bool = False) -> ClipText:
    """The text encoder of a part's folder, in evaluation mode.

    Args:
        variant, pickles: see `safelight.weights.folder.weight_files`.

    Raises:
        WeightsError, ConfigError: see `safelight.weights.load.load_part`.
    """
    return load_part(
        folder, lambda raw: ClipText(ClipTextConfig.from_dict(raw)), rename=released, variant=variant, pickles=pickles
    )


def released(name: str) -> str | None:
    """A name in a file -> ours: the newest lack ``text_model.``; the oldest list the positions, which say nothing."""
    if name.endswith("embeddings.position_ids"):
        return None
    return name if name.startswith(("text_model.", "text_projection.")) else f"text_model.{name}"
