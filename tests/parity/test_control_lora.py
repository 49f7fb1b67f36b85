"""A Control-LoRA on a U-Net says what the reference's ControlNet says that holds its weights merged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.utils.state_dict_utils import convert_sai_sd_control_lora_state_dict_to_peft
from torch import Tensor, nn

from safelight.adapters.controlnet.checkpoints import load_controlnet, open_control
from safelight.adapters.controlnet.low_rank import MARKER, _names, stand_on
from safelight.adapters.controlnet.use import ControlUse, Hint
from safelight.errors import RequestError, WeightsError
from safelight.families.sd.model import UNet
from safelight.generate.request import Request
from safelight.nn import surgery
from safelight.weights.save import save
from tests.generate.scenes import PROMPT, picture, pipe
from tests.parity.networks import BARS, SD1, SDXL, random, randomise, unet_inputs, unets
from tests.parity.test_controlnet import apart, say, say_reference

RANK = 4
CONFIGS = {"sd1": SD1, "sdxl": SDXL}


def file_of(net: nn.Module, unet: UNet) -> dict[str, Tensor]:
    """A Control-LoRA in the released names, random all over; changes ``net`` into what it means.

    Normalisations, biases, the hint and the zero convolutions are whole, matrices and kernels at a low rank.
    """
    plan = _names(net)
    held, found = dict(net.named_parameters()), {MARKER: torch.zeros(0)}
    base = dict(unet.named_parameters())
    with torch.no_grad():
        for index, (theirs, ours) in enumerate(sorted(plan.items())):
            p = held[ours]
            if ours not in base or p.ndim == 1:
                found[theirs] = p.detach().clone()
                continue
            p.copy_(base[ours])
            if index % 7 == 0:
                continue  # a layer that is the U-Net's own
            stem = theirs.removesuffix(".weight")
            down = random(RANK, *p.shape[1:], seed=index, dtype=torch.float64) * 0.1
            up = random(len(p), RANK, *(1, 1) * (p.ndim == 4), seed=1000 + index, dtype=torch.float64) * 0.1
            found |= {f"{stem}.down": down, f"{stem}.up": up}
            p += (up.flatten(1) @ down.flatten(1)).reshape(p.shape)
    return found


def nets(kind: str) -> tuple[UNet, nn.Module, dict[str, Tensor]]:
    """A U-Net, the reference's merged control network, and the file, in float64."""
    unet, reference = unets(CONFIGS[kind])
    net = diffusers.ControlNetModel.from_unet(reference)
    randomise(net, 5)
    return unet, net.double().eval(), file_of(net.double(), unet)


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_it_says_is_what_the_merged_network_says(kind: str) -> None:
    unet, theirs, file = nets(kind)
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    ours = stand_on(unet, file, Path("net"), "net")
    asked, shown = unet_inputs(CONFIGS[kind]), random(2, 3, 128, 128, seed=7).sigmoid()
    with torch.no_grad():
        assert apart(say(ours, asked, shown), say_reference(theirs, asked, shown)) <= BARS[torch.float64]
    assert all(torch.equal(tensor, before[name]) for name, tensor in unet.state_dict().items())


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_reference_reads_the_same_names(kind: str) -> None:
    """Its converter turns the file's names into those of the layers that we change, or hold."""
    _, theirs, file = nets(kind)
    names = _names(theirs)
    there = convert_sai_sd_control_lora_state_dict_to_peft({name: t for name, t in file.items() if name != MARKER})
    words = {".up": ".lora_B.weight", ".down": ".lora_A.weight"}
    wanted = set()
    for name in file:
        stem, dot, role = name.rpartition(".")
        if dot + role in words:
            wanted.add(names[f"{stem}.weight"].removesuffix(".weight") + words[dot + role])
        elif name != MARKER:
            wanted.add(names[name])
    assert {name for name, tensor in there.items() if tensor is not None} == wanted


def test_it_holds_no_copy_of_what_is_the_unets() -> None:
    unet, _, file = nets("sd1")
    net = stand_on(unet, file, Path("net"), "net")
    theirs = {id(p): p for p in unet.parameters()}
    own = sum(p.numel() for p in net.parameters() if id(p) not in theirs)
    matrices = sum(p.numel() for name, p in net.named_parameters() if p.ndim > 1 and id(p) in theirs)
    assert matrices > 0.9 * sum(
        p.numel() for name, p in net.named_parameters() if name in dict(unet.named_parameters())
    )
    assert own == sum(tensor.numel() for name, tensor in file.items() if not name.endswith((".up", ".down")))
    unet.float()
    assert net.down_blocks[0].resnets[0].conv1._parameters["weight"].dtype == torch.float32, "it moves with the U-Net"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file, name: file.pop(name + ".up"), "missing"),
        (lambda file, name: file.pop(name + ".down"), "missing"),
        (lambda file, name: file.update({name + ".up": file[name + ".up"][:-1]}), "shape"),
        (lambda file, name: file.update({name + ".down": file[name + ".down"][..., None]}), "shape"),
        (lambda file, name: file.update({name + "s.up": file.pop(name + ".up")}), "unexpected"),
        (lambda file, name: file.update(extra=torch.zeros(3)), "unexpected"),
        (lambda file, name: file.pop("zero_convs.2.0.weight"), "missing"),
        (lambda file, name: file.update({"zero_convs.2.0.bias": torch.zeros(3)}), "shape"),
    ],
    ids=["no up", "no down", "up cut", "down bent", "renamed", "added", "zero convolution dropped", "bias bent"],
)
def test_a_tensor_that_does_not_fit_is_refused_by_name(spoil: Any, said: str) -> None:
    unet, _, file = nets("sd1")
    spoil(file, next(name for name in file if name.endswith("in_layers.2.up")).removesuffix(".up"))
    with pytest.raises(WeightsError, match=rf"net: (.|\n)*\n +{said} "):
        stand_on(unet, file, Path("net"), "net")
    assert not surgery.records(unet)


def test_one_that_reads_no_hint_or_is_for_another_model_is_refused() -> None:
    unet, _, file = nets("sd1")
    with pytest.raises(WeightsError, match=r"no layers that read a hint"):
        stand_on(unet, {name: t for name, t in file.items() if "hint" not in name}, Path("net"), "net")
    other, _, _ = nets("sdxl")
    with pytest.raises(RequestError, match=r"made for a network that reads text of width 32, this model .* width 48"):
        stand_on(other, file, Path("net"), "net")


def test_it_draws_from_its_file_beside_its_model(tmp_path: Path) -> None:
    model = pipe().model
    assert isinstance(model.network, UNet)
    reference = diffusers.ControlNetModel.from_unet(
        diffusers.UNet2DConditionModel.from_pretrained(model.folder / "unet"),
        conditioning_embedding_out_channels=(8, 16, 16),
    )
    randomise(reference, 5)
    save({name: t.float() for name, t in file_of(reference, model.network).items()}, tmp_path / "low.safetensors")
    with pytest.raises(WeightsError, match="is a Control-LoRA, which stands on a model's own weights"):
        load_controlnet(tmp_path / "low.safetensors")
    control = open_control(tmp_path / "low.safetensors", model)
    use = ControlUse(control, (Hint(picture(seed=1)),))
    (plain,), (drawn,) = (pipe().draw(Request(PROMPT, steps=2, adapters=uses)) for uses in ((), (use,)))
    assert not torch.equal(plain.latents, drawn.latents) and drawn.latents.isfinite().all()
    reference.save_pretrained(tmp_path / "merged")
    merged = replace(use, control=open_control(tmp_path / "merged", model))
    (wanted,) = pipe().draw(Request(PROMPT, steps=2, adapters=(merged,)))
    assert (drawn.latents - wanted.latents).abs().max() < 1e-3 < (drawn.latents - plain.latents).abs().max()
