"""Read an autoencoder's released folder, under the names of today or those of the oldest files."""

from __future__ import annotations

from pathlib import Path

from safelight.vae.kl import AutoencoderKL, KLConfig
from safelight.vae.tiny import AutoencoderTiny, TinyConfig
from safelight.weights.load import load_part

OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of the attention in the oldest released files, which are still the most downloaded ones."""


def load_kl(folder: Path, variant: str = "", *, pickles: bool = False) -> AutoencoderKL:
    """The autoencoder of a part's folder, in evaluation mode.

    Args:
        variant, pickles: see `safelight.weights.folder.weight_files`.

    Raises:
        WeightsError, ConfigError: see `safelight.weights.load.load_part`.
    """
    return load_part(
        folder, lambda raw: AutoencoderKL(KLConfig.from_dict(raw)), rename=today, variant=variant, pickles=pickles
    )


def load_tiny(folder: Path) -> AutoencoderTiny:
    """The tiny autoencoder of a released folder, in evaluation mode.

    Raises:
        WeightsError, ConfigError: see `safelight.weights.load.load_part`.
    """
    return load_part(folder, lambda raw: AutoencoderTiny(TinyConfig.from_dict(raw)))


def today(name: str) -> str:
    """A released name -> the one in use today, which is ours."""
    stem, _, leaf = name.rpartition(".")
    owner, _, last = stem.rpartition(".")
    return f"{owner}.{OLD_ATTENTION[last]}.{leaf}" if last in OLD_ATTENTION and ".attentions." in name else name
