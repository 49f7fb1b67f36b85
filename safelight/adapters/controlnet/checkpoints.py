"""Read a control network: a released folder, or one file in its names or in those of the original training code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from safelight.adapters.controlnet.low_rank import MARKER, stand_on
from safelight.adapters.controlnet.model import ControlNet, ControlNetConfig
from safelight.adapters.controlnet.union import ControlNetUnion, UnionConfig
from safelight.adapters.fitting import check_fit, unet_of
from safelight.adapters.loaded import Loaded, beside
from safelight.errors import WeightsError
from safelight.families.family import Model
from safelight.families.sd.single import understand
from safelight.weights.container import read_any
from safelight.weights.folder import read_json, weight_files
from safelight.weights.load import made_of, read
from safelight.weights.moves import to_ours

PART = "controlnet"
UNION = "task_embedding"
"""A tensor that only networks for several kinds of hints have."""


def load_controlnet(path: Path, *, variant: str = "", pickles: bool = False) -> ControlNet:
    """A control network, in evaluation mode, its tensors mapped, in the dtype of the file, on the CPU.

    Args:
        path: the folder of a released network, or one file: ``diffusion_pytorch_model.safetensors`` without its
            folder, or a file of the original code (names that begin with ``control_model.``, or without).
        variant, pickles: see `safelight.weights.folder.weight_files`; ``variant`` is of folders only.

    Raises:
        WeightsError: a file is missing, unreadable or of another kind, or its names or shapes do not fit.
        ConfigError: ``config.json`` describes another network.
    """
    if path.is_dir():
        raw = read_json(path / "config.json")
        return filled(path, raw, read(weight_files(path, variant, pickles=pickles), pickles=pickles))
    if MARKER in read_any(path, pickles=pickles).entries:
        raise WeightsError(f"{path}: is a Control-LoRA, which stands on a model's own weights; open it with that model")
    told = understand(path, pickles=pickles)
    component = told.found.component(PART)
    if component is None:
        holds = ", ".join(part.part for part in told.found.components) or "nothing that is known here"
        raise WeightsError(f"{path}: is no ControlNet; it holds {holds} ({told.variant.title})")
    tensors = read(path, pickles=pickles)
    if component.plan.moves:
        tensors = to_ours(tensors, component.plan.moves, component.prefix)
    return filled(path, told.configs[PART], tensors)


def open_control(path: Path, model: Model, *, variant: str = "", pickles: bool = False) -> Loaded[ControlNet]:
    """A control network, ready to be used with ``model``: where that computes, in its number format.

    Args:
        path: see `load_controlnet`; or a Control-LoRA, which then stands on the weights of ``model``.
        variant, pickles: see `load_controlnet`.

    Raises:
        RequestError: it was made for another model.
        WeightsError, ConfigError: see `load_controlnet`; also a number in it that is none.
    """
    what = f"ControlNet {path.stem}"
    unet = unet_of(what, model)
    if path.is_file() and MARKER in read_any(path, pickles=pickles).entries:
        network = stand_on(unet, read(path, pickles=pickles), path, path.stem)
    else:
        network = load_controlnet(path, variant=variant, pickles=pickles)
    weight = unet.conv_in.weight
    check_fit(what, network.config, weight.device, model)
    return beside(network, path, weight, variant=variant, pickles=pickles)


def filled(path: Path, raw: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ControlNet:
    """The network that ``raw`` describes, holding ``tensors``, in evaluation mode.

    Raises:
        WeightsError, ConfigError: they do not fit; the message begins with ``path``.
    """
    if UNION in tensors:
        said = {**shape_of_union(tensors), **raw}
        return made_of(path, said, lambda told: ControlNetUnion(UnionConfig.from_dict(told)), tensors)
    return made_of(path, raw, lambda told: ControlNet(ControlNetConfig.from_dict(told)), tensors)


def shape_of_union(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a union network's configuration says of its transformer, as far as shapes tell."""
    kinds, width = tensors[UNION].shape if tensors[UNION].ndim == 2 else (0, 0)
    layers = {name.split(".")[1] for name in tensors if name.startswith("transformer_layes.")}
    projection = tensors.get("spatial_ch_projs.weight")
    return {
        "num_control_type": kinds,
        "num_trans_channel": width,
        "num_trans_layer": len(layers),
        "num_proj_channel": len(projection) if projection is not None else width,
    }
