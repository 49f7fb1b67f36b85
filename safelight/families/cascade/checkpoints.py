"""Read a network of a released Stable Cascade folder: its files hold exactly the names of `CascadeUNet`."""

from __future__ import annotations

from pathlib import Path

from safelight.families.cascade.model import CascadeConfig, CascadeUNet
from safelight.weights.load import load_part


def load_unet(folder: Path, variant: str = "", *, pickles: bool = False) -> CascadeUNet:
    """The prior's or the decoder's network of a part's folder, in evaluation mode.

    Args:
        variant, pickles: see `safelight.weights.folder.weight_files`.

    Raises:
        WeightsError, ConfigError: see `safelight.weights.load.load_part`.
    """
    return load_part(folder, lambda raw: CascadeUNet(CascadeConfig.from_dict(raw)), variant=variant, pickles=pickles)
