"""Go on from a published model: its text encoder and autoencoder as finished parts of a new run, its U-Net to train."""

from __future__ import annotations

from pathlib import Path

import torch

from safelight.errors import CheckpointError
from safelight.train.figurines.export import put
from safelight.train.figurines.finished import AVERAGE, TEXT, load_text, load_tokenizer, load_vae
from safelight.train.figurines.plan import Plan
from safelight.weights.folder import read_index, weight_files
from safelight.weights.load import read
from safelight.weights.save import make_folder, save


def unpack(model: Path, run: Path, plan: Plan) -> Path:
    """Put the tokenizer, the text encoder and the autoencoder of a published folder into a run.

    The portraits are still to be rendered, and the latents to be made; both follow from the plan.

    Returns:
        the file of the U-Net's weights, for ``stages.learn_unet(start=...)``.

    Raises:
        CheckpointError: the run has such parts already, or the model is of another shape than the plan.
        WeightsError, ConfigError: the folder is not a whole model. FileError: the run cannot be written to.
    """
    read_index(model)
    for part in ("text", "vae", "decoder"):
        if (run / part).exists():
            raise CheckpointError(f"{run / part}: exists; start from a published model in a new folder")
    for file in sorted((model / "tokenizer").glob("*")):
        put(run / "tokenizer" / file.name, file.read_bytes())
    for part, source, prefix in (("text", "text_encoder", TEXT), ("vae", "vae", "")):
        tensors = read(weight_files(model / source))
        make_folder(run / part)
        full = {prefix + name: tensor.to(torch.float32) for name, tensor in tensors.items()}
        save(full, run / part / AVERAGE, metadata={"from": model.name})
    load_text(run, plan, load_tokenizer(run))
    load_vae(run, plan)
    (network,) = weight_files(model / "unet")
    return network
