"""Read a control network: a released folder, or one file in its names or in those of the original training code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from safelight.adapters.controlnet.model import ControlNet, ControlNetConfig
from safelight.errors import ConfigError, WeightsError
from safelight.families.sd.single import understand
from safelight.weights.load import fill, load_part, read, unfilled
from safelight.weights.moves import to_ours

PART = "controlnet"


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
        return load_part(path, build, variant=variant, pickles=pickles)
    told = understand(path, pickles=pickles)
    component = told.found.component(PART)
    if component is None:
        holds = ", ".join(part.part for part in told.found.components) or "nothing that is known here"
        raise WeightsError(f"{path}: is no ControlNet; it holds {holds} ({told.variant.title})")
    tensors = read(path, pickles=pickles)
    if component.plan.moves:
        tensors = to_ours(tensors, component.plan.moves, component.prefix)
    return filled(path, told.configs[PART], tensors, build)


def build(raw: Mapping[str, Any]) -> ControlNet:
    """An unfilled network of a released ``config.json``; see `ControlNetConfig.from_dict`."""
    return ControlNet(ControlNetConfig.from_dict(raw))


def filled(
    path: Path, raw: Mapping[str, Any], tensors: Mapping[str, Tensor], make: Callable[[Mapping[str, Any]], Any]
) -> Any:
    """What ``make`` builds of a configuration, holding ``tensors``, in evaluation mode.

    Raises:
        WeightsError, ConfigError: they do not fit; the message begins with ``path``.
    """
    try:
        module = unfilled(raw, make)
        fill(module, tensors)
    except (ConfigError, WeightsError) as error:
        raise type(error)(f"{path}: {error}") from error
    return module.eval()
