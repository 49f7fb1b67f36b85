"""Merged is attached, in any order; unmerged, every bit is back."""

from __future__ import annotations

import pytest
import torch

from safelight.adapters.lora.attach import attach, attached, detach, merge, unmerge
from safelight.adapters.lora.file import Lora, made
from safelight.errors import RequestError, WeightsError
from safelight.families.family import Model
from tests.adapters.kin import KIN
from tests.adapters.made import bits, drawn, kohya, lora, matrices, model, same_bits
from tests.adapters.test_forms import some

FORMS = ("LoHa", "DoRA out", "BOFT", "IA3 in")


def files(base: Model) -> list[Lora]:
    plain = [made(kohya(base, matrices(lora), "unet", "text_encoder", seed=n), f"plain {n}") for n in range(2)]
    return [*plain, *(made(some(base, KIN[kin], seed=7)[0], kin) for kin in FORMS)]


@pytest.mark.parametrize(("dtype", "bar"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_merged_is_attached(dtype: torch.dtype, bar: float) -> None:
    one, other = model(dtype=dtype), model(dtype=dtype)
    for it in files(one):
        attach(one, it, 0.5)
        merge(other, it, 0.5)
    kinds = [type(layer) for layer in model().network.modules()]
    assert [type(layer) for layer in other.network.modules()] == kinds, "a merged layer is a plain one, and as fast"
    assert (drawn(one) - drawn(other)).abs().max() <= bar * drawn(one).abs().max()
    ids = torch.tensor([[1, 2, 3]])
    wanted, found = (each.encoders[0](ids).last for each in (one, other))
    assert (wanted - found).abs().max() <= bar * wanted.abs().max()


def test_unmerged_in_any_order_every_bit_is_back_and_the_tensors_are_those_that_were_there() -> None:
    changed = model()
    before, every = bits(changed), files(changed)
    places = {name: p.data_ptr() for name, p in changed.network.named_parameters()}
    for it in every:
        merge(changed, it, 0.7)
    assert not same_bits(bits(changed), before)
    assert [record.merged for record in attached(changed).values()] == [True] * len(every)
    for it in (every[2], every[0], *every[3:], every[1]):
        unmerge(changed, it.name)
    assert same_bits(bits(changed), before)
    assert {name: p.data_ptr() for name, p in changed.network.named_parameters()} == places
    assert not {"adapters", "merged"} & vars(changed.network).keys()


def test_the_order_of_merging_changes_no_bit() -> None:
    one, other, every = model(), model(), files(model())
    for it in every:
        merge(one, it, 0.5)
    for it in every[::-1]:
        merge(other, it, 0.5)
    assert same_bits(bits(one), bits(other))


def test_what_is_attached_stands_on_what_is_merged() -> None:
    one, other = model(dtype=torch.float64), model(dtype=torch.float64)
    it, that = (made(some(one, KIN[kin], seed=n)[0], kin) for n, kin in enumerate(("DoRA out", "LoHa")))
    merge(one, that)
    attach(one, it)
    attach(other, it)
    merge(other, that)
    assert torch.equal(drawn(one), drawn(other))
    unmerge(one, "LoHa")
    detach(other, "DoRA out")
    unmerge(other, "LoHa")
    assert torch.equal(drawn(other), drawn(model(dtype=torch.float64)))
    attach(other, it)
    assert torch.equal(drawn(one), drawn(other))


def test_merges_and_attachments_are_told_apart() -> None:
    changed = model()
    it = made(some(changed, KIN["LoHa"])[0], "it")
    merge(changed, it)
    with pytest.raises(RequestError, match="no adapter 'it' is attached; there are: none"):
        detach(changed, "it")
    with pytest.raises(RequestError, match="'it' is attached already"):
        attach(changed, it)
    attach(changed, it, name="on top")
    with pytest.raises(RequestError, match="no adapter 'on top' is merged; there are: it"):
        unmerge(changed, "on top")


def test_a_merge_that_fails_changes_nothing() -> None:
    changed = model()
    before = bits(changed)
    it = made(kohya(model("sdxl"), matrices(lora)), "it")
    with pytest.raises(WeightsError, match="do not"):
        merge(changed, it)
    assert same_bits(bits(changed), before)
    assert not attached(changed)
