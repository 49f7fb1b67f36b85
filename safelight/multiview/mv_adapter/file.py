"""Load an MV-Adapter's released file for a U-Net: one file of the branches beside attention and the T2I-Adapter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safelight.adapters.loaded import beside
from safelight.errors import WeightsError
from safelight.families.sd.model import UNet
from safelight.multiview.mv_adapter.model import PLACE, MvAdapter, layers_of, trunk_for
from safelight.weights.container import read_any
from safelight.weights.keys import Shape
from safelight.weights.load import made_of, read

READS_VIEWS, READS_REFERENCE = f".attn1.{PLACE}.to_q_mv.weight", f".attn1.{PLACE}.to_q_ref.weight"


def load_mv_adapter(path: Path, unet: UNet, *, refers: bool | None = None, pickles: bool = False) -> MvAdapter:
    """An adapter, in evaluation mode and without gradients, on the device and in the number format of the U-Net.

    Args:
        unet: the frozen network that it is for.
        refers: whether it must read references; None takes either, as the file has it.
        pickles: whether a file of torch.save may be read; it is never run.

    Raises:
        WeightsError: the file is none, is for another U-Net, is of the other kind, or holds what is no number; a
            tensor that is missing, of another shape or belongs to nothing is named in a table.
    """
    shapes = read_any(path, pickles=pickles).shapes()
    if why := misfit(shapes, unet, refers):
        raise WeightsError(f"{path}: {why}")

    def build(_: Mapping[str, Any]) -> MvAdapter:
        has = any(name.endswith(READS_REFERENCE) for name in shapes)
        return MvAdapter(layers_of(unet), trunk_for(unet.config), refers=has)

    network = made_of(path, {}, build, read(path, pickles=pickles))
    return beside(network, path, unet.conv_in.weight, pickles=pickles).network


def misfit(shapes: Mapping[str, Shape], unet: UNet, refers: bool | None = None) -> str:
    """Why a file of these tensors cannot be an adapter of this U-Net; empty where it may be."""
    theirs = {name.removesuffix(READS_VIEWS): shape[0] for name, shape in shapes.items()
              if name.endswith(READS_VIEWS) and shape}  # fmt: skip
    ours = {name.removesuffix(".attn1"): width for name, width in layers_of(unet).items()}
    if not theirs:
        return f"is no MV-Adapter: nothing in it ends in {READS_VIEWS}; choose another file"
    if theirs != ours:
        return (
            f"is for a U-Net with {len(theirs)} layers of self-attention, and this one has {len(ours)}, or they are "
            "named or sized otherwise; Stable Diffusion 2.1 has 16, XL has 70: choose the file for this one"
        )
    has = any(name.endswith(READS_REFERENCE) for name in shapes)
    if refers is not None and has != refers:
        kind = "reads a reference picture (i2mv, ig2mv)" if has else "reads no reference picture (t2mv, tg2mv)"
        return f"{kind}; the preset is for one that {'does' if refers else 'does not'}"
    return ""
