"""Random adapters of every form for the layers of a tiny model, named by hand: no rule under test is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from safelight.families.family import Model
from safelight.families.sd.wiring import load as load_sd
from safelight.weights.folder import read_index
from safelight.weights.save import save
from tests.models import tiny

Tensors = dict[str, Tensor]
PREFIXES = {"unet": "lora_unet_", "text_encoder": "lora_te_", "text_encoder_2": "lora_te2_"}


def model(kind: str = "sd1", dtype: torch.dtype = torch.float32) -> Model:
    """A tiny model of its own: nobody else has its tensors."""
    loaded = load_sd(read_index(tiny(kind)))
    for module in loaded.modules:
        module.to(dtype)
        for name, parameter in module.named_parameters():
            owner, _, leaf = name.rpartition(".")
            module.get_submodule(owner)._parameters[leaf] = nn.Parameter(parameter.detach().clone(), False)
    return loaded


def networks(model: Model) -> dict[str, nn.Module]:
    names = ("text_encoder", "text_encoder_2")
    return {"unet": model.network, **dict(zip(names, model.encoders))}


def weights(model: Model, *parts: str) -> dict[tuple[str, str], Tensor]:
    """(part, layer) -> its weight, for every layer that has one."""
    found = {}
    for part, module in networks(model).items():
        if part in (parts or ("unet",)):
            for name, parameter in module.named_parameters():
                if name.endswith(".weight"):
                    found[part, name.removesuffix(".weight")] = parameter.detach()
    return found


class Dice:
    """Random tensors that follow from a seed."""

    def __init__(self, seed: int = 0, spread: float = 0.1) -> None:
        self.generator, self.spread = torch.Generator().manual_seed(seed), spread

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64) * self.spread


def lora(dice: Dice, weight: Tensor, rank: int = 2) -> Tensors:
    ones = [1] * (weight.dim() - 2)
    return {
        "lora_down.weight": dice(rank, *weight.shape[1:]),
        "lora_up.weight": dice(weight.shape[0], rank, *ones),
        "alpha": torch.tensor(1.5),
    }


def dense_lora(t: Tensors, weight: Tensor) -> Tensor:
    up, down = t["lora_up.weight"].flatten(1), t["lora_down.weight"].flatten(1)
    return float(t["alpha"]) / down.shape[0] * (up @ down).view(weight.shape)


def kohya(model: Model, make: Callable[[Dice, Tensor], Tensors | None], *parts: str, seed: int = 0) -> Tensors:
    """A file of kohya's names in which ``make`` made a change for every layer for which it does."""
    dice, file = Dice(seed), {}
    for (part, layer), weight in weights(model, *parts).items():
        for ending, tensor in (make(dice, weight) or {}).items():
            file[f"{PREFIXES[part]}{layer.replace('.', '_')}.{ending}"] = tensor
    return file


def matrices(make: Callable[[Dice, Tensor], Tensors]) -> Callable[[Dice, Tensor], Tensors | None]:
    """The same for matrices and kernels only."""
    return lambda dice, weight: make(dice, weight) if weight.dim() in (2, 4) else None


def write(tensors: Mapping[str, Tensor], place: Path, metadata: Mapping[str, str] | None = None) -> Path:
    save({name: tensor.float() if tensor.dtype == torch.float64 else tensor for name, tensor in tensors.items()},
         place, metadata)  # fmt: skip
    return place


@cache
def asked(kind: str, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """What a tiny U-Net is asked."""
    dice = Dice(7, 1.0)
    told = {"x": dice(2, 4, 8, 8), "context": dice(2, 7, 32 if kind == "sdxl" else 16)}
    if kind == "sdxl":
        told |= {"pooled": dice(2, 12), "times": torch.tensor([[32.0, 32, 0, 0, 32, 32]] * 2)}
    return {name: tensor.to(dtype) for name, tensor in told.items()} | {"t": torch.tensor([3.25, 801.0])}


@torch.no_grad()
def drawn(model: Model, kind: str = "sd1") -> Tensor:
    """What the U-Net of a tiny model answers."""
    from safelight.families.sd.model import Added

    told = asked(kind, model.network.conv_in.weight.dtype)
    added = Added(pooled=told["pooled"], times=told["times"]) if "pooled" in told else None
    return model.network(told["x"], told["t"], told["context"], added=added)


def bits(model: Model) -> dict[str, Tensor]:
    """Every number of a model, copied."""
    return {f"{i} {k}": v.clone() for i, module in enumerate(model.modules) for k, v in module.state_dict().items()}


def same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
