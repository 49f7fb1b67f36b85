"""Read the U-Net of a released Stable Diffusion folder (1, 2, XL): its files hold exactly the names of `UNet`."""

from __future__ import annotations

from pathlib import Path

from safelight.families.sd.model import UNet, UNetConfig
from safelight.weights.load import load_part


def load_unet(folder: Path, variant: str = "", *, pickles: bool = False) -> UNet:
    """The U-Net of a part's folder, in evaluation mode.

    Args:
        variant, pickles: see `safelight.weights.folder.weight_files`.

    Raises:
        WeightsError, ConfigError: see `safelight.weights.load.load_part`.
    """
    return load_part(folder, lambda raw: UNet(UNetConfig.from_dict(raw)), variant=variant, pickles=pickles)
