"""Every form of change: the layer computes with the weight that dense arithmetic gives, alone and beside others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from safelight.adapters.lora.attach import attach, detach
from safelight.adapters.lora.file import Lora, load, made
from safelight.errors import WeightsError
from safelight.families.family import Model
from tests.adapters.kin import KIN, Kin
from tests.adapters.made import Dice, Tensors, bits, drawn, kohya, lora, matrices, model, same_bits, weights, write

LAYERS = (
    "conv_in",
    "time_embedding.linear_1",
    "down_blocks.0.resnets.0.conv1",
    "down_blocks.0.downsamplers.0.conv",
    "down_blocks.0.attentions.0.proj_in",
    "mid_block.attentions.0.transformer_blocks.0.attn1.to_q",
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_k",
    "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj",
    "up_blocks.1.resnets.0.conv_shortcut",
)


def stem(layer: str) -> str:
    return f"lora_unet_{layer.replace('.', '_')}"


def some(
    base: Model, kin: Kin, dtype: torch.dtype = torch.float64, seed: int = 0
) -> tuple[Tensors, dict[str, Tensors]]:
    """A file of a form, and its changes by layer; alpha is never rounded."""
    dice, file, by_layer = Dice(seed), {}, {}
    for (_, name), weight in weights(base).items():
        change = kin.make(dice, weight.double()) if name in LAYERS else None
        if change:
            change = {k: t if k == "alpha" or not t.is_floating_point() else t.to(dtype) for k, t in change.items()}
            by_layer[name] = change
            file |= {f"{stem(name)}.{ending}": tensor for ending, tensor in change.items()}
    assert by_layer
    return file, by_layer


def compare(layer: nn.Module, weight: Tensor, bar: float) -> None:
    """The layer's output beside that of a plain one with this weight."""
    dice = Dice(3, 1.0)
    x = dice(2, 5, weight.shape[1]) if weight.dim() == 2 else dice(2, weight.shape[1], 6, 6)
    x, bias = x.to(weight.dtype), layer._parameters["bias"]
    if weight.dim() == 2:
        wanted = nn.functional.linear(x, weight, bias)
    else:
        wanted = nn.functional.conv2d(x, weight, bias, layer.stride, layer.padding)
    assert (layer(x) - wanted).abs().max() <= bar * wanted.abs().max()


@pytest.mark.parametrize("kin", KIN)
@pytest.mark.parametrize(("dtype", "bar"), [(torch.float64, 1e-9), (torch.float32, 1e-6)])
def test_a_layer_has_the_weight_of_dense_arithmetic(kin: str, dtype: torch.dtype, bar: float) -> None:
    changed = model(dtype=dtype)
    file, by_layer = some(changed, KIN[kin], dtype)
    plain = {name: weight.clone() for (_, name), weight in weights(changed).items()}
    attach(changed, made(file, "it"), 0.6)
    for name, change in by_layer.items():
        wide = {k: t.double() if t.is_floating_point() else t for k, t in change.items()}
        weight = plain[name].double()
        if dtype == torch.float32 and "dora_scale" in wide:
            weight = plain[name]
            wide = {k: t.float() for k, t in wide.items()}
        there = weight + 0.6 * (KIN[kin].dense(wide, weight) - weight)
        compare(changed.network.get_submodule(name), there.to(dtype), bar)


@pytest.mark.parametrize("kin", KIN)
def test_taken_off_every_bit_is_back(kin: str) -> None:
    changed = model()
    before, picture = bits(changed), drawn(changed)
    attach(changed, made(some(changed, KIN[kin])[0], "it"))
    assert same_bits(bits(changed), before)
    assert not torch.allclose(drawn(changed), picture, rtol=1e-4)
    detach(changed, "it")
    assert same_bits(bits(changed), before)
    assert torch.equal(drawn(changed), picture)


def test_all_forms_on_one_layer_in_any_order_give_the_same_bits_and_the_sum() -> None:
    base = model(dtype=torch.float64)
    files = {kin: some(base, KIN[kin], seed=n) for n, kin in enumerate(KIN)}
    pictures, names = [], list(KIN)
    for order in (names, names[::-1], names[5:] + names[:5]):
        changed = model(dtype=torch.float64)
        for kin in order:
            attach(changed, made(files[kin][0], kin), 0.5)
        pictures.append(drawn(changed))
    assert torch.equal(pictures[0], pictures[1])
    assert torch.equal(pictures[0], pictures[2])
    for (_, name), weight in weights(base).items():
        plain = weight.clone()
        for kin, (_, by_layer) in files.items():
            if name in by_layer:
                weight += 0.5 * (KIN[kin].dense(by_layer[name], plain) - plain)
    assert (drawn(base) - pictures[0]).abs().max() <= 1e-9 * pictures[0].abs().max()


def test_norms_biases_and_whole_weights_are_added() -> None:
    base, changed, dice, file = model(dtype=torch.float64), model(dtype=torch.float64), Dice(), {}
    for name, parameter in base.network.named_parameters():
        layer, _, leaf = name.rpartition(".")
        normal = base.network.get_submodule(layer).weight.dim() == 1
        ending = {"weight": "w_norm" if normal else "diff", "bias": "b_norm" if normal else "diff_b"}[leaf]
        tensor = dice(*parameter.shape)
        file[f"{stem(layer)}.{ending}"] = tensor
        parameter.data += 0.5 * tensor
    plain = drawn(changed)
    attach(changed, made(file, "it"), 0.5)
    assert (drawn(changed) - drawn(base)).abs().max() <= 1e-12 * drawn(base).abs().max()
    detach(changed, "it")
    assert torch.equal(drawn(changed), plain)


def test_ranks_may_differ_and_a_missing_alpha_means_1() -> None:
    changed, dice = model(dtype=torch.float64), Dice()
    file, wanted = {}, {}
    for n, name in enumerate(LAYERS):
        weight = changed.network.get_submodule(name).weight.detach().clone()
        change = lora(dice, weight, rank=n + 1)
        del change["alpha"]
        file |= {f"{stem(name)}.{ending}": tensor for ending, tensor in change.items()}
        up, down = change["lora_up.weight"].flatten(1), change["lora_down.weight"].flatten(1)
        wanted[name] = weight + (up @ down).view(weight.shape)
    it = made(file, "it")
    plan = it.fit(changed)
    assert plan.ranks == (1, len(LAYERS))
    assert {row.layer.name for row in plan.without_alpha} == set(LAYERS)
    attach(changed, it)
    for name, weight in wanted.items():
        compare(changed.network.get_submodule(name), weight, 1e-9)


@pytest.mark.parametrize("shape", ["linear as a kernel", "kernel as a matrix"])
def test_a_1_by_1_convolution_and_a_matrix_are_one(shape: str) -> None:
    changed, dice = model(dtype=torch.float64), Dice()
    name = {"linear as a kernel": LAYERS[5], "kernel as a matrix": LAYERS[4]}[shape]
    weight = changed.network.get_submodule(name).weight.detach().clone()
    down, up = dice(2, weight.shape[1]), dice(weight.shape[0], 2)
    ones = (1, 1) if shape == "linear as a kernel" else ()
    file = {"lora_down.weight": down.reshape(*down.shape, *ones), "lora_up.weight": up.reshape(*up.shape, *ones)}
    attach(changed, made({f"{stem(name)}.{ending}": t for ending, t in file.items()}, "it"))
    compare(changed.network.get_submodule(name), weight + (up @ down).view(weight.shape), 1e-9)


def broken(base: Model) -> dict[str, tuple[Tensors, str]]:
    """Files with one thing wrong, and what is said of it."""
    whole = kohya(base, matrices(lora))
    first, second = stem(LAYERS[5]), stem(LAYERS[0])
    down, up, alpha = (f"{first}.{ending}" for ending in ("lora_down.weight", "lora_up.weight", "alpha"))

    def but(**changes: Tensor | None) -> Tensors:
        names = {"down": down, "up": up, "alpha": alpha}
        made = dict(whole)
        for role, tensor in changes.items():
            if tensor is None:
                del made[names[role]]
            else:
                made[names[role]] = tensor
        return made

    swapped = {name.replace(f"{first}.", f"{first}x."): tensor for name, tensor in whole.items()}
    nan = whole[up].clone()
    nan[0, 0] = float("nan")
    return {
        "half a pair": (but(up=None), f"incomplete  {first}: alpha, down"),
        "one without alpha": (but(alpha=None), f"{first} has no alpha"),
        "another rank": (but(down=whole[down][:1]), "down has rank 1, not 2"),
        "another width": (but(down=whole[down][:, 1:]), "changes a weight of shape 32×31"),
        "another layer": (swapped, f"{first}x: is no layer of this model"),
        "no number": (but(up=nan), f"unsound     {up}"),
        "alpha 0": (but(alpha=torch.tensor(0.0)), f"strength    {alpha} is 0.0"),
        "two alphas": (but(alpha=torch.tensor([1.0, 2.0])), f"{alpha} is no number"),
        "infinite alpha": (but(alpha=torch.tensor(float("inf"))), f"unsound     {alpha}"),
        "a stranger": ({**whole, "epoch": torch.tensor(3)}, "unknown     epoch"),
        "a kernel of another size": (
            {**whole, f"{second}.lora_down.weight": whole[f"{second}.lora_down.weight"][..., :2]},
            "changes a weight of shape 16×4×3×2",
        ),
        "twice the same layer": (
            {**whole, **{name.replace(f"{second}.", "unet.conv_in."): t for name, t in whole.items()}},
            "is conv_in, which is changed twice",
        ),
        "a bias that is not there": ({f"{first}.diff_b": torch.ones(32)}, "a bias that the layer does not have"),
        "nothing": ({}, "is not a whole LoRA"),
        "a model": (dict(base.network.state_dict()), "is not a whole LoRA"),
        "LLLite": ({"lllite_unet_input_blocks_4_1.cond_emb": torch.ones(2)}, "seems to be a ControlNet-LLLite"),
        "a turn that is not square": ({f"{first}.oft_blocks": torch.ones(8, 4, 3)}, "cannot turn 32 channels"),
        "turns of other channels": ({f"{first}.oft_blocks": torch.ones(7, 4, 4)}, "cannot turn 32 channels"),
        "Hadamard halves of two ranks": (
            {
                **{f"{first}.hada_w{n}_a": torch.ones(32, int(n)) for n in "12"},
                **{f"{first}.hada_w{n}_b": torch.ones(int(n), 32) for n in "12"},
            },
            "at different ranks",
        ),
        "a product of another size": (
            {f"{first}.lokr_w1": torch.ones(4, 4), f"{first}.lokr_w2": torch.ones(4, 8)},
            "changes a weight of shape 16×32",
        ),
        "a gain of another length": (
            {f"{first}.weight": torch.ones(31), f"{first}.on_input": torch.tensor(0)},
            "is no row of a weight",
        ),
    }  # fmt: skip


BROKEN = tuple(broken(model()))


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_not_whole_is_refused_and_changes_nothing(what: str, tmp_path: Path) -> None:
    changed = model()
    before, kinds = bits(changed), [type(layer) for layer in changed.network.modules()]
    tensors, said = broken(changed)[what]
    file = write(tensors, tmp_path / "it.safetensors")
    with pytest.raises(WeightsError, match=re.escape(said)):
        attach(changed, load(file))
    assert same_bits(bits(changed), before)
    assert [type(layer) for layer in changed.network.modules()] == kinds


def test_what_is_wrong_is_said_with_the_model_that_it_is_for(tmp_path: Path) -> None:
    xl = model("sdxl")
    it: Lora = load(write(kohya(xl, matrices(lora)), tmp_path / "it.safetensors"))
    with pytest.raises(WeightsError, match="do not; nothing was changed") as caught:
        it.fit(model())
    assert re.search(r"unmatched +lora_unet_\S+: is no layer of this model", str(caught.value))
    assert re.search(r"matched +lora_unet_conv_in -> conv_in", str(caught.value))
