"""A file in every way of naming that is read, written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch

from safelight.adapters.lora.file import targets as targets_of
from safelight.adapters.lora.targets import Targets
from tests.adapters.made import Tensors, model

Q = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
OUT = "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0"
CONV, NORM = "up_blocks.1.resnets.0.conv1", "up_blocks.1.resnets.0.norm1"
PROJ = "text_model.encoder.layers.1.self_attn.q_proj"
FC = "text_model.encoder.layers.1.mlp.fc1"
LDM_Q, LDM_CONV = "middle_block.1.transformer_blocks.0.attn1.to_q", "output_blocks.2.0.in_layers.2"
KOHYA, PEFT = (".lora_down.weight", ".lora_up.weight"), (".lora_A.weight", ".lora_B.weight")
OPEN, BEFORE = (".lora_A.default.weight", ".lora_B.default.weight"), (".lora.down.weight", ".lora.up.weight")
OLD = ("_lora.down.weight", "_lora.up.weight")
LINEAR = (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight")


@cache
def layers(kind: str = "sdxl") -> Targets:
    return targets_of(model(kind))


def shape(full: str) -> tuple[int, ...]:
    """Of a layer's weight; those of text encoders begin with the encoder."""
    part, name = ("unet", full) if not full.startswith("text_") else full.split(".", 1)
    return layers().layers[part][name].weight


def pair(stem: str, full: str, endings: tuple[str, str] = KOHYA) -> Tensors:
    """A plain LoRA of a layer, with kohya's alpha where the names are kohya's."""
    weight, (down, up) = shape(full), endings
    ones = (1,) * (len(weight) - 2)
    file = {stem + down: torch.full((2, *weight[1:]), 0.1), stem + up: torch.full((weight[0], 2, *ones), 0.1)}
    return file | ({stem + ".alpha": torch.tensor(1.0)} if endings in (KOHYA, BEFORE, LINEAR) else {})


def first(name: str) -> str:
    return f"text_encoder.{name}"


def second(name: str) -> str:
    return f"text_encoder_2.{name}"


def joined(*files: Tensors) -> Tensors:
    return {name: tensor for file in files for name, tensor in file.items()}


def kin() -> Iterator[tuple[str, Tensors]]:
    """Files of the other forms under kohya's names."""
    q, conv, norm = (f"lora_unet_{name.replace('.', '_')}" for name in (Q, CONV, NORM))
    (o, i), (co, ci, *k), ones = shape(Q), shape(CONV), torch.ones
    yield "LoHa", joined(*({f"{q}.hada_w{n}_a": ones(o, 2), f"{q}.hada_w{n}_b": ones(2, i)} for n in "12"))
    cores = ({f"{conv}.hada_w{n}_a": ones(2, co), f"{conv}.hada_w{n}_b": ones(2, ci)} for n in "12")
    yield "LoHa with Tucker", joined(*cores, {f"{conv}.hada_t{n}": ones(2, 2, *k) for n in "12"})
    yield "LoKr", {f"{q}.lokr_w1": ones(2, 2), f"{q}.lokr_w2": ones(o // 2, i // 2)}
    one = {f"{q}.lokr_w1_a": ones(2, 1), f"{q}.lokr_w1_b": ones(1, 2)}
    yield "LoKr of products", one | {f"{q}.lokr_w2_a": ones(o // 2, 1), f"{q}.lokr_w2_b": ones(1, i // 2)}
    two = {f"{conv}.lokr_w1": ones(2, 2), f"{conv}.lokr_w2_a": ones(1, co // 2), f"{conv}.lokr_w2_b": ones(1, ci // 2)}
    yield "LoKr with Tucker", two | {f"{conv}.lokr_t2": ones(1, 1, *k)}
    yield "OFT", {f"{q}.oft_blocks": ones(o // 4, 4, 4), f"{q}.rescale": ones(o, 1)}
    yield "old OFT", {f"{q}.oft_diag": ones(o // 4, 4, 4)}
    yield "IA3", {f"{q}.weight": ones(o), f"{q}.on_input": torch.tensor(0)}
    yield "whole weights", {f"{conv}.diff": ones(co, ci, *k), f"{conv}.diff_b": ones(co)}
    yield "norms", {f"{norm}.w_norm": ones(shape(NORM)[0]), f"{norm}.b_norm": ones(shape(NORM)[0])}
    yield "DoRA", {**pair(q, Q), f"{q}.dora_scale": ones(o, 1)}
    mid = {f"{conv}.lora_down.weight": ones(2, ci, 1, 1), f"{conv}.lora_mid.weight": ones(2, 2, *k)}
    yield "LoCon with Tucker", {**mid, f"{conv}.lora_up.weight": ones(co, 2, 1, 1)}


def peft() -> Iterator[tuple[str, Tensors]]:
    """PEFT's files, and what its networks hold before it writes them."""
    q, out, ones = f"base_model.model.{Q}", f"base_model.model.{OUT}", torch.ones(32)
    yield "PEFT", pair(q, Q, PEFT)
    yield "PEFT with the network's name", pair(f"base_model.model.unet.{Q}", Q, PEFT)
    yield "PEFT unwritten", pair(q, Q, OPEN)
    for ending in ("", ".weight"):
        yield f"PEFT, DoRA{ending}", {**pair(q, Q, PEFT), f"{q}.lora_magnitude_vector{ending}": ones}
        yield f"PEFT unwritten, DoRA{ending}", {**pair(q, Q, OPEN), f"{q}.lora_magnitude_vector.default{ending}": ones}
    yield "PEFT, biases", {**pair(out, OUT, PEFT), f"{out}.lora_B.bias": ones}
    yield "PEFT unwritten, biases", {**pair(out, OUT, OPEN), f"{out}.lora_B.default.bias": ones}
    yield "PEFT, OFT", {f"{q}.oft_R.weight": torch.ones(8, 6)}
    yield "PEFT unwritten, OFT", {f"{q}.oft_R.default.weight": torch.ones(8, 6)}
    yield "PEFT, IA3", {f"{q}.ia3_l": torch.ones(32, 1)}
    yield "PEFT unwritten, IA3", {f"{q}.ia3_l.default": torch.ones(32, 1)}


@cache
def examples() -> dict[str, Tensors]:
    """What is named so -> a file."""
    q, ldm_q, ldm_conv, te = (name.replace(".", "_") for name in (Q, LDM_Q, LDM_CONV, FC))
    comfy, turns = "text_encoders.clip_{}.transformer." + FC, torch.ones(8, 4, 4)
    old_q, old_out, old_proj = "attn1.processor.to_q", "attn2.processor.to_out", PROJ.replace("q_proj", "to_q")
    files = {
        "kohya": [(f"lora_unet_{q}", Q), (f"lora_te1_{te}", first(FC)), (f"lora_te2_{te}", second(FC))],
        "kohya, one encoder": [(f"lora_te_{te}", first(FC))],
        "kohya, single file": [(f"lora_unet_{ldm_q}", Q), (f"lora_unet_{ldm_conv}", CONV)],
        "SimpleTuner": [(f"lycoris_{q}", Q)],
        "OneTrainer": [(f"lora_unet.{Q}", Q), (f"lora_te1.{FC}", first(FC)), (f"lora_te2.{FC}", second(FC))],
        "OneTrainer, one encoder": [(f"lora_te.{FC}", first(FC))],
        "OneTrainer, OMI": [(f"unet.{LDM_Q}", Q), (f"clip_l.{FC}", first(FC)), (f"clip_g.{FC}", second(FC))],
        "ComfyUI": [(f"diffusion_model.{LDM_Q}", Q), (comfy.format("l"), first(FC)), (comfy.format("g"), second(FC))],
        "ComfyUI, diffusers' names": [(f"diffusion_model.{Q}", Q)],
        "single file's names, bare": [(LDM_Q, Q)],
    }
    made = {name: joined(*(pair(stem, full) for stem, full in rows)) for name, rows in files.items()}
    made |= {f"LyCORIS, {name}": file for name, file in kin()} | dict(peft())
    made |= {
        "kohya, OFT": {f"oft_unet_{q}.oft_blocks": turns},
        "kohya, OFT, single file": {f"oft_unet_{ldm_q}.oft_blocks": turns},
        "diffusers": joined(
            *(pair(f"unet.{Q}" if each is Q else each, each, PEFT) for each in (Q, first(FC), second(FC)))
        ),
        "diffusers, before PEFT": joined(pair(f"unet.{Q}", Q, BEFORE), pair(first(FC), first(FC), LINEAR)),
        "diffusers, bare": pair(Q, Q, PEFT),
        "diffusers, processors": joined(
            pair("unet." + Q.replace("attn1.to_q", old_q), Q, OLD),
            pair("unet." + OUT.replace("attn2.to_out.0", old_out), OUT, OLD),
            pair(first(old_proj), first(PROJ), OLD),
            pair(second(old_proj), second(PROJ), OLD),
        ),
        "diffusers, processors, bare": pair(Q.replace("attn1.to_q", old_q), Q, OLD),
    }
    return made
