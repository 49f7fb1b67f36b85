"""Begin from a model that knows less: that is shown less beside its latents, told nothing of cameras, or looks around
at fewer sizes.

What it does not have does nothing yet: with the same layout, the first answer is the one it would have given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from safelight.errors import CheckpointError
from safelight.multiview.network import ViewNetwork
from safelight.train.figurines.finished import AVERAGE, load_vae
from safelight.train.views.plan import Plan
from safelight.weights.folder import weight_files
from safelight.weights.load import read
from safelight.weights.save import make_folder, save

UNET = "unet."
"""What the names of the U-Net begin with in the network of views."""
TOLD = f"{UNET}class_embedding."
"""What the names begin with of what reads cameras that are told as numbers."""


def unpack(model: Path, run: Path, plan: Plan, network: Path) -> Path:
    """Put the parts of a published model of views into a run: its autoencoder, finished, and its U-Net, to begin with.

    Args:
        network: the file for the U-Net's weights.

    Returns:
        ``network``.

    Raises:
        CheckpointError: the run has an autoencoder already, or the model is of another shape than the plan.
        WeightsError: the folder is no model. FileError: the run cannot be written to.
    """
    if (run / "vae").exists():
        raise CheckpointError(f"{run / 'vae'}: exists; start from a published model in a new folder")
    vae = read(weight_files(model / "vae"))
    for file, tensors in ((network, read(weight_files(model / "unet"))), (run / "vae" / AVERAGE, vae)):
        make_folder(file.parent)
        full = {name: tensor.to(torch.float32) for name, tensor in tensors.items()}
        save(full, file, metadata={"from": model.name})
    load_vae(run, plan)
    return network


def begun(known: Mapping[str, Tensor], module: ViewNetwork, source: object) -> dict[str, Tensor]:
    """The weights of ``module`` with which it answers as another network does, whose weights are ``known``.

    Args:
        known: of a network of views, or of its U-Net alone, in any number format. source: where they are from.

    Raises:
        CheckpointError: the other network has what this one lacks, or is wider.
    """
    theirs = {UNET + name.removeprefix(UNET): tensor for name, tensor in known.items()}
    mine = dict(module.named_parameters())
    looking = {_attention(name) for name in theirs}
    new = {name: _attention(name) for name in mine if _attention(name) not in looking}
    lacking = [name for name in mine if name not in theirs and name not in new and not name.startswith(TOLD)]
    odd = [name for name in theirs if name not in mine or not _fits(theirs[name], mine[name])]
    if lacking or odd:
        raise CheckpointError(f"{source}: is no part of the network that the plan describes ({(lacking + odd)[0]})")
    found = {}
    for name, own in mine.items():
        found[name] = own.detach().cpu().clone()
        if name in theirs:
            place = tuple(slice(length) for length in theirs[name].shape)
            found[name].zero_()[place] = theirs[name].to(found[name])
        elif name.startswith((f"{TOLD}linear_2", f"{new.get(name)}.proj_out")):
            found[name].zero_()
    return found


def _attention(name: str) -> str:
    """The block of attention that a weight is of; "" for other weights."""
    found = re.match(r".*\.attentions\.\d+(?=\.)", name)
    return found[0] if found else ""


def _fits(theirs: Tensor, mine: Tensor) -> bool:
    """Whether one is a part of the other: both of one rank, wider at most in what is read."""
    return theirs.dim() == mine.dim() and all(
        a == b or (axis == 1 and a < b) for axis, (a, b) in enumerate(zip(theirs.shape, mine.shape))
    )
