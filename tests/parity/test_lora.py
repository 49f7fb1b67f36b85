"""LoRA and its kin beside PEFT, and kohya's names beside diffusers' own converter, on tiny random networks.

PEFT reads and writes its own folders here; ours reads what it wrote.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from safelight.adapters.lora.attach import attach
from safelight.adapters.lora.export import export
from safelight.adapters.lora.file import Lora, load, made, targets
from safelight.families.family import Model
from tests.adapters.made import kohya, lora, matrices, model, networks
from tests.parity.networks import SD1, SDXL, difference, predict, predict_reference, unet_inputs, unets

peft = pytest.importorskip("peft", reason="peft is a reference (pip install peft); nothing here holds without it")
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
ALL = [*ATTENTION, "proj_in", "proj_out", "conv1", "conv_shortcut", "ff.net.0.proj", "ff.net.2", "time_emb_proj"]
CONFIGS: dict[str, Any] = {
    "LoRA": lambda: peft.LoraConfig(r=3, lora_alpha=5, target_modules=ALL, init_lora_weights=False),
    "LoRA of several ranks": lambda: peft.LoraConfig(
        r=3,
        lora_alpha=5,
        rank_pattern={"to_q": 5},
        alpha_pattern={"to_k": 2},
        target_modules=ALL,
        init_lora_weights=False,
    ),
    "rank-stabilised LoRA": lambda: peft.LoraConfig(
        r=4, lora_alpha=3, use_rslora=True, target_modules=ATTENTION, init_lora_weights=False
    ),
    "LoRA with biases": lambda: peft.LoraConfig(
        r=2, lora_alpha=3, lora_bias=True, target_modules=["proj_in", "ff.net.2", "conv1"], init_lora_weights=False
    ),
    "DoRA": lambda: peft.LoraConfig(r=3, lora_alpha=5, use_dora=True, target_modules=ALL, init_lora_weights=False),
    "LoHa": lambda: peft.LoHaConfig(r=3, alpha=5, target_modules=ALL, init_weights=False),
    "LoHa with Tucker": lambda: peft.LoHaConfig(
        r=2, alpha=5, target_modules=["conv1"], use_effective_conv2d=True, init_weights=False
    ),
    "LoKr": lambda: peft.LoKrConfig(r=2, alpha=5, target_modules=ALL, init_weights=False),
    "LoKr of products": lambda: peft.LoKrConfig(
        r=2,
        alpha=5,
        decompose_both=True,
        use_effective_conv2d=True,
        target_modules=["to_q", "conv1"],
        init_weights=False,
    ),
    "OFT": lambda: peft.OFTConfig(
        r=0, oft_block_size=8, target_modules=["to_q", "ff.net.0.proj"], use_cayley_neumann=False, init_weights=False
    ),
    "OFT by a series": lambda: peft.OFTConfig(
        r=0, oft_block_size=8, target_modules=["to_q"], use_cayley_neumann=True, init_weights=False
    ),
    "OFT of one block": lambda: peft.OFTConfig(
        r=0, oft_block_size=8, target_modules=["to_q"], block_share=True, use_cayley_neumann=False, init_weights=False
    ),
    "IA3": lambda: peft.IA3Config(
        target_modules=["to_k", "to_v", "ff.net.2"], feedforward_modules=["ff.net.2"], init_ia3_weights=False
    ),
}


def around(unet: nn.Module) -> Model:
    """As much of a model as adapters look at."""
    return SimpleNamespace(  # type: ignore[return-value]
        network=unet, encoders=(), family="sd", folder=Path("tiny"), modules=(unet,)
    )


CASES = [*((kind, "sd1") for kind in CONFIGS), ("LoRA", "sdxl"), ("DoRA", "sdxl")]


@pytest.mark.parametrize(("kind", "network"), CASES)
def test_what_peft_wrote_draws_as_peft_draws(kind: str, network: str, tmp_path: Path) -> None:
    config = {"sd1": SD1, "sdxl": SDXL}[network]
    ours, theirs = unets(config)
    asked = unet_inputs(config)
    plain = predict(ours, asked)
    torch.manual_seed(0)
    changed = peft.get_peft_model(theirs, CONFIGS[kind]()).double().eval()
    generator = torch.Generator().manual_seed(1)
    for name, p in changed.named_parameters():  # all of them: what starts at 0 or 1 hides mistakes
        if p.requires_grad:
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            p.data = p.data * (1 + 0.1 * noise) if "magnitude" in name or "ia3" in name else 0.1 * noise
    wanted = predict_reference(changed, asked).detach()
    changed.save_pretrained(tmp_path)
    it = load(tmp_path / "adapter_model.safetensors")
    attach(around(ours), it)
    assert it.fit(around(ours)).dialects == ("peft",)
    found = predict(ours, asked)
    assert difference(plain, wanted) > 1e-4, "the adapter does something"
    assert difference(found, wanted) <= 1e-9


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_kohyas_names_are_those_that_diffusers_converts(kind: str) -> None:
    from diffusers.loaders import lora_conversion_utils as utils

    base = model(kind)
    file = kohya(base, matrices(lora), *networks(base))
    if kind == "sdxl":
        file = {name.replace("lora_te_", "lora_te1_"): tensor for name, tensor in file.items()}
    file = {name: t.float() for name, t in file.items() if "position_emb" not in name and "token_emb" not in name}
    # What diffusers' converter has names for: attention and its projections, residual blocks, samplers.
    known = ("_blocks_", "mid_block", "text_model")
    file = {name: t for name, t in file.items() if any(word in name for word in known)}
    it = made(file, "it")
    written = export(it, targets(base), "kohya")
    if kind == "sdxl":
        config = SimpleNamespace(**vars(base.network.config))
        written = utils._maybe_map_sgm_blocks_to_diffusers(dict(written), config)
    theirs, alphas = utils._convert_non_diffusers_lora_to_diffusers(dict(written))
    assert len(alphas) == len(it.contents.pieces)
    there = made(dict(theirs), "there")  # in the names of diffusers' attention processors, among others
    wanted, found = ({row.layer.full: each.roles(row) for row in each.fit(base).rows} for each in (it, there))
    assert found.keys() == wanted.keys()
    for layer, roles in found.items():
        assert torch.equal(roles["up"].flatten(), wanted[layer]["up"].flatten()), layer
        assert torch.equal(roles["down"].flatten(), wanted[layer]["down"].flatten()), layer


def test_diffusers_loads_what_we_write_whole(tmp_path: Path) -> None:
    """The two networks with the same adapter, written by us, read by each."""
    ours, theirs = unets(SD1)
    base = around(ours)
    it: Lora = made({n: t.float() for n, t in kohya(base, matrices(lora)).items()}, "it")
    written = {name.removeprefix("unet."): t for name, t in export(it, targets(base), "diffusers").items()}
    config = {"r": 2, "lora_alpha": 2}
    targets_ = sorted({name.split(".lora_")[0] for name in written})
    theirs.add_adapter(peft.LoraConfig(**config, target_modules=targets_, init_lora_weights=False))
    missing = peft.set_peft_model_state_dict(theirs, written)
    assert not missing.unexpected_keys
    assert not [name for name in missing.missing_keys if "lora" in name]
    attach(base, it)
    asked = unet_inputs(SD1)
    assert difference(predict(ours, asked), predict_reference(theirs.double(), asked)) <= 1e-6
