"""Teach a LoRA: changes of low rank beside layers that stay as they are; exported under kohya's names or diffusers'.

Axes: down [R, I] or [R, I, K, K], up [O, R] or [O, R, 1, 1]. Source: Hu et al. 2021 (2106.09685, section 4.1: down
random, up zero). Names of files: kohya-ss/sd-scripts; PEFT as diffusers writes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from safelight.adapters.lora.attach import Beside
from safelight.adapters.lora.dialects import BEGINNINGS, LDM, OURS, Beginning
from safelight.adapters.lora.file import load, parts, targets
from safelight.adapters.lora.targets import Layer
from safelight.adapters.lora.wear import WearableLora
from safelight.adapters.use import Use
from safelight.core.noise import key
from safelight.families.family import Model
from safelight.generate.pipe import Pipe
from safelight.generate.wardrobe import applied
from safelight.nn import surgery
from safelight.nn.surgery import Change, Record
from safelight.nn.transformer import SpatialTransformer
from safelight.train.own.lesson import Lesson
from safelight.train.own.plan import LoraPlan
from safelight.weights.save import save

NAME = "training"
"""What the adapter is called while it learns."""
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
ATTENTION = (".to_q", ".to_k", ".to_v", ".to_out.0", ".q_proj", ".k_proj", ".v_proj", ".out_proj")
BLOCKS = ("down_blocks.", "mid_block.", "up_blocks.", "text_model.encoder.layers.")
"""What the names of layers in blocks begin with; those around them are no program's custom to change."""
ROLES = ("down", "up")


class Place(NamedTuple):
    """A layer that is changed: its part of the model, its name there, and the change."""

    part: str
    name: str
    change: Beside


class Tuning:
    """The task: what the changed model says of noisy pictures should be what it would say if it knew them.

    The model is changed as long as the task lives; see `set_aside`.

    Args:
        seed: of the first numbers.
    """

    suffix = ".safetensors"

    def __init__(self, plan: LoraPlan, lesson: Lesson, seed: int) -> None:
        self.plan, self.lesson, self.model = plan, lesson, lesson.model
        self.places = list(placed(self.model, plan, seed))
        self.module = nn.Module()
        for place in self.places:
            for role in ROLES:
                learned = nn.Parameter(getattr(place.change, role))
                setattr(place.change, role, learned)
                self.module.register_parameter(tag(place.part, place.name, role), learned)
        self.take_up()

    def loss(self, step: int, part: slice) -> Tensor:
        """The weighted error of the prediction."""
        batch = self.lesson.draw(step, part)
        return self.lesson.error(self.model.predict(batch.x, batch.t, batch.told), batch)

    def take_up(self) -> None:
        """Change the model's layers."""
        for part, module in parts(self.model).items():
            changes: dict[str, Change] = {place.name: place.change for place in self.places if place.part == part}
            surgery.attach(module, Record(NAME, "lora"), changes)

    def set_aside(self) -> None:
        """Give the model's layers back as they were."""
        for module in parts(self.model).values():
            surgery.detach(module, NAME)

    def export(self, tensors: Mapping[str, Tensor], path: Path, told: Mapping[str, str]) -> None:
        """Write the file that other programs read.

        Args:
            tensors: the numbers by the names of ``module``, such as their averages.
            told: what the file says of itself.

        Raises:
            FileError: it cannot be written.
        """
        write = kohya if self.plan.format == "kohya" else diffusers
        self.set_aside()  # names are those of the plain layers
        try:
            made = write(self.model, self.places, tensors, self.plan)
        finally:
            self.take_up()
        dtype = DTYPES[self.plan.dtype]
        save({name: tensor.to(dtype) for name, tensor in made.items()}, path, told)

    @contextmanager
    def used(self, pipe: Pipe, path: Path, count: int) -> Iterator[Sequence[tuple[Use, ...]]]:
        """The exported file lies over the pipe meanwhile; requests ask for nothing."""
        self.set_aside()
        try:
            with applied(pipe, WearableLora(load(path))):
                yield [()] * count
        finally:
            self.take_up()


def placed(model: Model, plan: LoraPlan, seed: int) -> Iterator[Place]:
    """A fresh change for every layer that the plan means."""
    for part, module in parts(model).items():
        if part != "unet" and not plan.text:
            continue
        inside = transformers(module)
        for name, layer in module.named_modules():
            if isinstance(layer, nn.Linear | nn.Conv2d) and name.startswith(BLOCKS) and meant(name, plan, inside):
                yield Place(part, name, fresh(layer, plan, key(seed, part, name)))


def transformers(module: nn.Module) -> tuple[str, ...]:
    """What the names of layers in transformers begin with."""
    names = [name for name, layer in module.named_modules() if isinstance(layer, SpatialTransformer)]
    return tuple(f"{name}." for name in names) or ("text_model.encoder.layers.",)


def meant(name: str, plan: LoraPlan, inside: tuple[str, ...]) -> bool:
    """Whether a layer is one of the plan's targets."""
    if plan.targets == "attention":
        return name.endswith(ATTENTION)
    return plan.targets == "all" or name.startswith(inside)


def fresh(layer: nn.Linear | nn.Conv2d, plan: LoraPlan, seed: int) -> Beside:
    """A change that changes nothing yet: down as PyTorch begins a layer, up zero."""
    weight = layer.weight
    kernel = [1] * (weight.ndim - 2)
    down = torch.empty(plan.rank, *weight.shape[1:])
    bound = 1 / math.sqrt(down[0].numel())  # He's uniform with the slope sqrt(5), as nn.Linear has it
    down.uniform_(-bound, bound, generator=torch.Generator().manual_seed(seed))
    factors = {"down": down.to(weight), "up": weight.new_zeros(len(weight), plan.rank, *kernel)}
    scale = torch.tensor(plan.alpha / plan.rank, device=weight.device)
    return Beside(NAME, "", factors, scale, live=True)


def tag(part: str, name: str, role: str) -> str:
    """What a learned tensor is called in checkpoints; a module's parameters have no dots in their names."""
    return f"{part}:{name}:{role}".replace(".", "/")


def kohya(model: Model, places: list[Place], tensors: Mapping[str, Tensor], plan: LoraPlan) -> dict[str, Tensor]:
    """``lora_unet_..._to_q.lora_down.weight``, ``.lora_up.weight`` and ``.alpha`` for every layer."""
    known = targets(model)
    xl = "text_encoder_2" in known.parts
    made = {}
    for place in places:
        layer = known.layers[place.part][place.name]
        stem = known.spelled(layer, beginning(layer, xl=xl))
        assert stem is not None, "kohya has a word for every layer of a block"
        for role in ROLES:
            made[f"{stem}.lora_{role}.weight"] = tensors[tag(place.part, place.name, role)]
        made[f"{stem}.alpha"] = torch.tensor(plan.alpha)
    return made


def beginning(layer: Layer, *, xl: bool) -> Beginning:
    """How kohya begins the name of a layer: XL's U-Net by the names of single files, its encoders with numbers."""
    words = {"unet": "lora_unet_", "text_encoder": "lora_te1_" if xl else "lora_te_", "text_encoder_2": "lora_te2_"}
    naming = LDM if xl and layer.part == "unet" else OURS
    return next(each for each in BEGINNINGS if each.words == words[layer.part] and each.naming == naming)


def diffusers(model: Model, places: list[Place], tensors: Mapping[str, Tensor], plan: LoraPlan) -> dict[str, Tensor]:
    """``unet.<layer>.lora_A.weight`` and ``.lora_B.weight``; alpha by rank is counted into B, since not every version
    of diffusers reads it from elsewhere."""
    made = {}
    for place in places:
        stem = f"{place.part}.{place.name}"
        made[f"{stem}.lora_A.weight"] = tensors[tag(place.part, place.name, "down")]
        made[f"{stem}.lora_B.weight"] = tensors[tag(place.part, place.name, "up")] * (plan.alpha / plan.rank)
    return made


def told(model: Model, plan: LoraPlan, facts: Mapping[str, str]) -> dict[str, str]:
    """What a file of kohya's says of itself, in its words.

    Args:
        facts: further ones, by their names in the file.
    """
    xl = len(model.encoders) > 1
    wide = getattr(getattr(model.network, "config", None), "cross_attention_dim", 0)
    base = "sdxl_base_v1-0" if xl else "sd_v2" if wide == 1024 else "sd_v1"
    kind = {"sdxl_base_v1-0": "stable-diffusion-xl-v1-base", "sd_v2": "stable-diffusion-v2-512"}
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(plan.rank),
        "ss_network_alpha": f"{plan.alpha:g}",
        "ss_base_model_version": base,
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{kind.get(base, 'stable-diffusion-v1')}/lora",
        "modelspec.implementation": "diffusers",
        **facts,
    }
