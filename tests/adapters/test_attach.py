"""Attached and detached: the numbers are those of dense arithmetic, and taken off, every bit is as it was."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from torch import nn

from safelight.adapters.lora.attach import attach, attached, detach, factors
from safelight.adapters.lora.file import load
from safelight.errors import RequestError
from safelight.nn import surgery
from tests.adapters import made
from tests.adapters.made import Dice, bits, dense_lora, drawn, kohya, lora, matrices, model, same_bits, weights, write


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three plain LoRAs of all matrices and kernels of a tiny model, text encoder too."""
    folder, base = tmp_path_factory.mktemp("loras"), model()
    every = [kohya(base, matrices(lora), "unet", "text_encoder", seed=seed) for seed in range(3)]
    return [write(tensors, folder / f"{name}.safetensors") for name, tensors in zip("abc", every)]


@pytest.mark.parametrize(("dtype", "bar"), [(torch.float32, 1e-6), (torch.float64, 1e-9)])
def test_every_layer_computes_as_if_the_change_were_in_its_weight(
    files: list[Path], dtype: torch.dtype, bar: float
) -> None:
    base, changed = model(dtype=dtype), model(dtype=dtype)
    attach(changed, load(files[0]), 0.7)
    tensors, dice = load(files[0]).tensors, Dice(1, 1.0)
    for (part, name), weight in weights(base, "unet", "text_encoder").items():
        layer, plain = (made.networks(m)[part].get_submodule(name) for m in (changed, base))
        if weight.dim() not in (2, 4) or isinstance(layer, nn.Embedding):
            continue
        stem = made.PREFIXES[part] + name.replace(".", "_")
        mine = {key.removeprefix(f"{stem}."): t.double() for key, t in tensors.items() if key.startswith(f"{stem}.")}
        plain.weight.data = weight.double() + 0.7 * dense_lora(mine, weight)
        x = dice(2, 5, weight.shape[1]).to(dtype) if weight.dim() == 2 else dice(2, weight.shape[1], 6, 6).to(dtype)
        wanted, found = plain.double()(x.double()), layer(x).double()
        assert (found - wanted).abs().max() <= bar * wanted.abs().max(), name


def test_the_network_draws_as_if_the_changes_were_in_its_weights(files: list[Path]) -> None:
    base, changed = model(dtype=torch.float64), model(dtype=torch.float64)
    before = drawn(base)
    for file, scale in zip(files, (0.5, -1.0, 1.0)):
        attach(changed, load(file), scale)
        tensors = load(file).tensors
        for (_, name), weight in weights(base).items():
            stem = f"lora_unet_{name.replace('.', '_')}."
            mine = {key.removeprefix(stem): t.double() for key, t in tensors.items() if key.startswith(stem)}
            if mine:
                weight += scale * dense_lora(mine, weight)
    assert not torch.allclose(drawn(base), before, rtol=1e-3)
    assert (drawn(changed) - drawn(base)).abs().max() <= 1e-9 * drawn(base).abs().max()


def test_text_encoders_are_changed_too(files: list[Path]) -> None:
    changed, ids = model(), torch.tensor([[1, 2, 3, 4]])
    before = changed.encoders[0](ids).last
    attach(changed, load(files[0]))
    assert not torch.allclose(changed.encoders[0](ids).last, before, rtol=1e-3)
    detach(changed, "a")
    assert torch.equal(changed.encoders[0](ids).last, before)


def test_taken_off_in_any_order_every_bit_and_every_class_is_back(files: list[Path]) -> None:
    changed = model()
    kinds = {name: type(layer) for name, layer in changed.network.named_modules()}
    before, picture = bits(changed), drawn(changed)
    for file in files:
        attach(changed, load(file), 0.5)
    assert list(attached(changed)) == ["a", "b", "c"]
    assert same_bits(bits(changed), before), "the saved numbers of a changed network are those of the plain one"
    for name in "bac":
        detach(changed, name)
    assert not attached(changed)
    assert {name: type(layer) for name, layer in changed.network.named_modules()} == kinds
    assert same_bits(bits(changed), before)
    assert torch.equal(drawn(changed), picture)
    assert all("adapters" not in vars(layer) for layer in changed.network.modules())


def test_the_order_of_attaching_changes_no_bit(files: list[Path]) -> None:
    pictures = []
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        changed = model()
        for index in order:
            attach(changed, load(files[index]), 0.3 + index)
        pictures.append(drawn(changed))
    assert torch.equal(pictures[0], pictures[1])
    assert torch.equal(pictures[0], pictures[2])


def test_strength_0_changes_no_bit_and_any_other_does(files: list[Path]) -> None:
    changed = model()
    before = drawn(changed)
    attach(changed, load(files[0]), 0.0)
    assert torch.equal(drawn(changed), before)
    assert list(attached(changed)) == ["a"]
    detach(changed, "a")
    attach(changed, load(files[0]), 0.01)
    assert not torch.equal(drawn(changed), before)


def test_blocks_are_as_strong_as_they_are_told(files: list[Path]) -> None:
    blocks = {"up_blocks": 0.0, "up_blocks.1": 2.0, "text_encoder": 0.0}
    changed = model()
    record = attach(changed, load(files[0]), 0.5, blocks)
    assert (record.scale, record.blocks) == (0.5, blocks)
    assert surgery.changes_of(changed.network.up_blocks[0].resnets[0].conv1) == []
    scales = {
        name: float(surgery.changes_of(changed.network.get_submodule(name))[0].scale)
        for name in ("up_blocks.1.resnets.0.conv1", "conv_in")
    }
    assert scales == {"up_blocks.1.resnets.0.conv1": 0.75, "conv_in": 0.375}, "scale · block · alpha / rank"
    assert not any(surgery.changes_of(layer) for layer in changed.encoders[0].modules())
    with pytest.raises(RequestError, match=r"changes nothing in 'up_blocks\.7'; it does in conv_in"):
        attach(model(), load(files[0]), 0.5, {"up_blocks.7": 1.0})


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 1000.0])
def test_a_scale_that_is_none_is_refused(files: list[Path], scale: float) -> None:
    with pytest.raises(RequestError, match="scale of a is"):
        attach(model(), load(files[0]), scale)


def test_a_name_is_attached_once(files: list[Path]) -> None:
    changed = model()
    attach(changed, load(files[0]))
    before = drawn(changed)
    with pytest.raises(RequestError, match="'a' is attached already"):
        attach(changed, load(files[0]))
    assert torch.equal(drawn(changed), before)
    attach(changed, load(files[0]), name="again")
    with pytest.raises(RequestError, match="no adapter 'b' is attached; there are: a, again"):
        detach(changed, "b")


def test_gradients_reach_an_adapter_that_is_left_open(files: list[Path]) -> None:
    changed = model()
    attach(changed, load(files[0]), live=True)
    tensors = [t.requires_grad_() for roles in factors(changed, "a").values() for t in roles.values()]
    asked = made.asked("sd1")
    changed.network(asked["x"], asked["t"], asked["context"]).square().sum().backward()
    unet = factors(changed, "a")["mid_block.attentions.0.transformer_blocks.0.attn1.to_q"]
    assert {role for role, t in unet.items() if t.grad is not None and t.grad.abs().sum()} == {"down", "up"}
    assert len(tensors) > 100
    assert all(p.grad is None for p in changed.network.parameters())


@pytest.mark.slow
def test_a_compiled_network_sees_an_adapter_come_and_go(files: list[Path]) -> None:
    changed = model()
    compiled = torch.compile(changed.network, backend="eager")
    asked = made.asked("sd1")

    def seen() -> torch.Tensor:
        with torch.no_grad():
            return compiled(asked["x"], asked["t"], asked["context"])

    before = seen()
    attach(changed, load(files[0]))
    assert torch.allclose(seen(), drawn(changed), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(seen(), before, rtol=1e-3)
    detach(changed, "a")
    assert torch.equal(seen(), before)


def test_a_hundred_rounds_grow_nothing_and_drift_nowhere(files: list[Path]) -> None:
    changed, loras = model(), [load(file) for file in files]
    before, held = bits(changed), len(list(changed.network.modules()))
    begin = time.perf_counter()
    for round_ in range(100):
        attach(changed, loras[round_ % 3], 0.5)
        detach(changed, loras[round_ % 3].name)
    assert time.perf_counter() - begin < 20
    assert same_bits(bits(changed), before)
    assert len(list(changed.network.modules())) == held
    assert not [name for name in changed.network.conv_in.__dict__ if name in ("live", "adapters")]
