"""Laws of MV-Adapter at a frozen U-Net, on tiny random weights in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from safelight.errors import RequestError, UnknownNameError
from safelight.families.sd.model import Added
from safelight.multiview.layouts import Views
from safelight.multiview.mv_adapter.across import ACROSS, across
from safelight.multiview.mv_adapter.model import MvAdapter, layers_of, trunk_for
from safelight.multiview.mv_adapter.network import MvConditions, MvNetwork
from safelight.multiview.mv_adapter.use import MvUse, Reference, Strength, joined, look
from safelight.nn.attention import Attention
from safelight.nn.ports import Ports
from tests.parity.mv_adapters import BASES, Case, case
from tests.parity.networks import difference

Asked = dict[str, Any]
EXACT = 1e-12
"""Sums of float64 in another order."""


def emptied(here: Case) -> MvAdapter:
    """The adapter with zeros in the projections that come last."""
    made = MvAdapter(layers_of(here.ours), trunk_for(here.ours.config), refers=here.refers).double().eval()
    made.load_state_dict({name: value * (".to_out_" not in name) for name, value in here.weights.items()})
    return made


def seen(here: Case, asked: Asked) -> Reference:
    told = {name: asked[name][:: asked["count"]] for name in ("pooled", "times") if asked[name] is not None}
    added = Added(**told) if told else None
    return look(here.adapter, here.ours, asked["latents"], asked["context"][:: asked["count"]], added)


def use(here: Case, asked: Asked, **said: Any) -> MvUse:
    plain = MvUse(here.adapter, Views(asked["count"], here.h, here.w), across=ACROSS[here.reading])
    with torch.no_grad():
        said = {"said": here.adapter(asked["maps"]), **said}
    return replace(plain, **said)


@pytest.mark.parametrize("base", BASES)
def test_an_adapter_that_adds_zeros_changes_no_bit(base: str) -> None:
    here = case(base, "i2mv")
    asked = here.asked()
    zeros = use(here, asked, adapter=emptied(here), said=(), reference=seen(here, asked))
    assert torch.equal(here.called(asked, zeros), here.called(asked, None))
    with torch.no_grad():
        said = here.adapter(asked["maps"])
        told = None if base == "sd21" else Added(pooled=asked["pooled"], times=asked["times"])
        levels = len(here.ours.down_blocks)
        ports = Ports(block_residuals=said[:levels], mid_residual=said[levels] if said[levels:] else None)
        alone = here.ours(asked["x"], asked["t"], asked["context"], added=told, ports=ports)
    assert torch.equal(here.called(asked, replace(zeros, said=said)), alone), "what is left is a T2I-Adapter"
    assert difference(alone, here.called(asked, None)) > 1e-3


def test_one_view_is_the_base_and_its_own_rows() -> None:
    here = case("sd21", "t2mv")
    asked = here.asked(count=1)

    def by_rows(name: str, layer: Attention, x: Tensor) -> Tensor:
        h, w = Views(1, here.h, here.w).at(x.shape[1]).h, Views(1, here.h, here.w).at(x.shape[1]).w
        beside = here.adapter.beside(name)
        lines = (
            part(x).unflatten(1, (h, w)).flatten(0, 1) for part in (beside.to_q_mv, beside.to_k_mv, beside.to_v_mv)
        )
        parts = [line.unflatten(-1, (layer.heads, -1)).transpose(1, 2) for line in lines]
        read = layer.read(*parts).transpose(1, 2).flatten(2).unflatten(0, (-1, h)).flatten(1, 2)
        return layer(x) + beside.to_out_mv[0](read)

    with torch.no_grad():
        wanted = here.ours(asked["x"], asked["t"], asked["context"], ports=Ports(override=by_rows))
    assert difference(here.called(asked, use(here, asked, said=())), wanted) <= EXACT
    assert torch.equal(
        here.called(asked, use(here, asked, said=(), strength=Strength(views=0.0))), here.called(asked, None)
    )


@pytest.mark.parametrize("kind", ["t2mv", "i2mv"])
def test_permuting_views_with_their_maps_permutes_what_is_drawn(kind: str) -> None:
    here = case("sdxl", kind)
    asked = here.asked()
    order = torch.tensor([2, 0, 1, 4, 5, 3])
    turned = {**asked, "x": asked["x"][order], "maps": asked["maps"][order]}
    drawn = here.drawn(asked)
    assert difference(here.drawn(turned), drawn[order]) <= EXACT
    assert difference(here.drawn({**asked, "x": asked["x"][order]}), drawn[order]) > 1e-3, "its maps go with a view"


def test_faces_have_places_that_may_not_be_changed() -> None:
    here = case("sd21", "tg2mv")
    asked = here.asked()
    order = torch.tensor([1, 0, 2, 3, 4, 5, 7, 6, 8, 9, 10, 11])
    turned = {**asked, "x": asked["x"][order], "maps": asked["maps"][order]}
    assert difference(here.drawn(turned), here.drawn(asked)[order]) > 1e-3
    with pytest.raises(RequestError, match="six views, front, right, back, left, above and below, not 3"):
        here.drawn(here.asked(count=3))


def test_sets_of_views_do_not_see_each_other() -> None:
    here = case("sd21", "i2mv")
    asked = here.asked()
    first = {name: value[: len(value) // 2] if torch.is_tensor(value) else value for name, value in asked.items()}
    assert difference(here.drawn(asked)[:3], here.drawn(first)) <= EXACT


def test_a_strength_of_zero_leaves_a_branch_out_to_the_bit_and_each_does_something() -> None:
    here = case("sd21", "i2mv")
    asked = here.asked()
    shown = seen(here, asked)
    whole = here.called(asked, use(here, asked, reference=shown))
    without: dict[str, tuple[Strength, MvUse]] = {
        "reference": (Strength(reference=0.0), use(here, asked)),
        "maps": (Strength(maps=0.0), use(here, asked, reference=shown, said=())),
        "views": (Strength(views=0.0), use(here, asked, reference=shown, across=lambda _l, _v, q, _k, _y: q * 0.0)),
    }
    drawn = {}
    for name, (strength, other) in without.items():
        drawn[name] = here.called(asked, use(here, asked, reference=shown, strength=strength))
        assert difference(drawn[name], whole) > 1e-3, name
        if name != "views":
            assert torch.equal(drawn[name], here.called(asked, other)), name
    bias = here.called(asked, without["views"][1])
    assert difference(bias, drawn["views"]) > 1e-6, "nothing read is still a bias; a strength of 0 is nothing at all"


def test_a_reference_is_seen_once_and_what_is_kept_is_what_would_be_seen_again_to_the_bit() -> None:
    here = case("sdxl", "i2mv")
    asked, passes = here.asked(), []
    handle = here.ours.conv_in.register_forward_hook(lambda *_: passes.append(1))
    kept = seen(here, asked)
    later = [
        {**asked, "t": torch.full_like(asked["t"], t), "x": asked["x"] * s} for t, s in ((999.0, 1.0), (300.0, 0.7))
    ]
    cached = [here.called(each, use(here, each, reference=kept)) for each in later]
    assert len(passes) == 3, "one for the reference, one for each step"
    fresh = [here.called(each, use(here, each, reference=seen(here, each))) for each in later]
    handle.remove()
    assert all(torch.equal(a, b) for a, b in zip(cached, fresh, strict=True))
    assert all(pair.shape[0] == 2 for pairs in kept.pairs.values() for pair in pairs), "not repeated for the views"


def test_no_reference_is_the_bias_of_its_output_and_one_call_of_both_is_two_calls() -> None:
    here = case("sd21", "i2mv")
    asked = here.asked(1)
    shown = seen(here, asked)
    wanted, unwanted = (here.called(asked, use(here, asked, reference=each)) for each in (shown, shown.nothing()))
    both = {name: torch.cat([value, value]) if torch.is_tensor(value) else value for name, value in asked.items()}
    drawn = here.called(both, use(here, both, reference=joined([shown.nothing(), shown])))
    assert difference(drawn, torch.cat([unwanted, wanted])) <= EXACT

    def biased(name: str, layer: Attention, x: Tensor) -> Tensor:
        return layer(x) + here.adapter.beside(name).to_out_ref[0].bias

    no_branch = use(here, asked, strength=Strength(views=0.0))
    with torch.no_grad():
        ports = replace(no_branch.ports(), override=biased)
        by_hand = here.ours(asked["x"], asked["t"], asked["context"], ports=ports)
    free = use(here, asked, reference=shown.nothing(), strength=Strength(views=0.0))
    assert difference(here.called(asked, free), by_hand) <= EXACT
    assert difference(here.called(asked, free), here.called(asked, no_branch)) > 1e-3


def test_what_other_adapters_put_into_the_ports_stays() -> None:
    here = case("sdxl", "t2mv")
    asked, names = here.asked(), []

    def inner(name: str, layer: Attention, x: Tensor) -> Tensor:
        names.append(name)
        return layer(x) * 0.5

    residuals = tuple(torch.full_like(each, 0.25) for each in use(here, asked).said)
    before = Ports(override=inner, block_residuals=residuals[:3], mid_residual=residuals[3])
    told = Added(pooled=asked["pooled"], times=asked["times"])
    with torch.no_grad():
        mine = use(here, asked)
        drawn = here.ours(asked["x"], asked["t"], asked["context"], added=told, ports=mine.ports(before))
        said = [each + 0.25 for each in mine.said]
        weights = {name: p * 0.5 if ".attn1.to_out" in name else p for name, p in here.ours.state_dict().items()}
        halved = type(here.ours)(here.ours.config).double()
        halved.load_state_dict(weights)
        wanted = halved(asked["x"], asked["t"], asked["context"], added=told, ports=replace(mine, said=said).ports())
    assert sorted(names) == sorted(layers_of(here.ours))
    assert difference(drawn, wanted) <= EXACT


BAD: dict[str, tuple[Callable[[Case, Asked], Any], str]] = {
    "three channels": (lambda here, asked: here.adapter(asked["maps"][:, :3]), "have 6 channels"),
    "half a cell": (lambda here, asked: here.adapter(asked["maps"][..., :-4]), "multiples of 8 pixels"),
    "no rows": (lambda here, asked: here.adapter(asked["maps"][0]), "maps of shape"),
    "one reference for two sets": (
        lambda here, asked: here.called(asked, use(here, asked, reference=seen(here, here.asked(1)))),
        "6 pictures are not 3 views of each of 1 references",
    ),
    "another U-Net's layer": (lambda here, asked: here.adapter.beside("down_blocks.7.attn1"), "another U-Net"),
    "a reading that is not known": (lambda here, asked: across("row"), "nearest known: rows"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_does_not_fit_is_refused(what: str) -> None:
    act, told = BAD[what]
    with pytest.raises((RequestError, UnknownNameError), match=told):
        act(case("sd21", "i2mv"), case("sd21", "i2mv").asked())


def test_an_adapter_for_text_is_shown_no_picture() -> None:
    with pytest.raises(RequestError, match="reads no reference picture"):
        seen(case("sd21", "t2mv"), case("sd21", "t2mv").asked())


# The network over sets of views


def network_of(here: Case, **said: Any) -> MvNetwork:
    return MvNetwork(here.ours, here.adapter, ACROSS[here.reading], **said)


def state(asked: Asked) -> Asked:
    """The same as sets of views: [B, Z, V, h, w] and so on."""
    count = asked["count"]
    sets: Asked = {
        name: asked[name][::count] for name in ("t", "context", "pooled", "times") if asked[name] is not None
    }
    sets["x"] = asked["x"].unflatten(0, (-1, count)).transpose(1, 2)
    return {**sets, "maps": asked["maps"].unflatten(0, (-1, count)), "latents": asked["latents"]}


def told_of(here: Case, network: MvNetwork, sets: Asked) -> MvConditions:
    added = Added(pooled=sets["pooled"], times=sets["times"]) if "pooled" in sets else None
    return network.told(sets["context"], sets["maps"], sets["latents"] if here.refers else None, added)


@pytest.mark.parametrize(("base", "kind"), [("sd21", "i2mv"), ("sdxl", "ig2mv")])
def test_the_network_over_sets_is_the_use_at_the_unet_to_the_bit(base: str, kind: str) -> None:
    here = case(base, kind)
    asked, strength = here.asked(), Strength(0.7, 1.2, 0.5)
    network, sets = network_of(here, strength=strength), state(asked)
    with torch.no_grad():
        drawn = network(sets["x"], sets["t"], told_of(here, network, sets))
    assert torch.equal(drawn.transpose(1, 2).flatten(0, 1), here.drawn(asked, strength))


def test_one_doubled_call_is_two_and_leads_away_from_no_reference_and_other_words() -> None:
    here = case("sdxl", "i2mv")
    network, sets = network_of(here), state(here.asked(1))
    wanted = told_of(here, network, sets)
    other, pooled = (torch.randn_like(sets[name]) for name in ("context", "pooled"))
    unwanted = wanted.led_away(other, pooled)
    assert unwanted.said is wanted.said and unwanted.times is wanted.times, "maps and sizes stay"
    assert unwanted.context is other and unwanted.pooled is pooled
    assert unwanted.reference is not None
    assert not any(part.any() for pair in unwanted.reference.pairs.values() for part in pair)
    x, t = sets["x"], sets["t"]
    with torch.no_grad():
        apart = torch.cat([network(x, t, unwanted), network(x, t, wanted)])
        once = network(torch.cat([x, x]), torch.cat([t, t]), unwanted.cat([wanted]))
        assert difference(once, apart) <= EXACT
        assert difference(apart[:1], apart[1:]) > 1e-3
        again = network(torch.cat([x, x, x]), torch.cat([t, t, t]), wanted.repeat(3).to(x))
    assert difference(again, apart[1:].expand_as(again)) <= EXACT
    half = wanted.to(x.half())
    assert half.context.dtype == half.said[0].dtype == torch.float16
    assert half.reference is not None and next(iter(half.reference.pairs.values()))[0].dtype == torch.float16


def refused(here: Case, sets: Asked) -> dict[str, tuple[Callable[[MvNetwork], Any], str]]:
    """What is asked wrongly -> how, and what is said."""
    x, t, context, maps = sets["x"], sets["t"], sets["context"], sets["maps"]
    return {
        "a single picture": (lambda net: net(x[:, :, 0], t, told_of(here, net, sets)), "are \\[B, Z, V, h, w\\]"),
        "two views of three": (lambda net: net(x[:, :, :2], t, told_of(here, net, sets)), "2 sets of 2 views"),
        "another size": (lambda net: net(x[..., :4], t, told_of(here, net, sets)), "4 x 6 latents .* of 3, 10 x 6"),
        "maps of one set": (lambda net: net.told(context, maps[:1], sets["latents"]), "maps of 2 sets"),
        "no reference": (lambda net: net.told(context, maps), "give its latents"),
        "half a reference": (
            lambda net: (made := told_of(here, net, sets)).cat([replace(made, reference=None)]),
            "told their reference, others are not",
        ),
    }


@pytest.mark.parametrize("what", ["a single picture", "two views of three", "another size", "maps of one set",
                                  "no reference", "half a reference"])  # fmt: skip
def test_sets_that_do_not_fit_are_refused(what: str) -> None:
    here = case("sd21", "i2mv")
    act, told = refused(here, state(here.asked()))[what]
    with pytest.raises(RequestError, match=told):
        act(network_of(here))


def test_the_base_is_frozen_and_keeps_its_names() -> None:
    here = case("sd21", "i2mv")
    names = set(here.ours.state_dict())
    here.drawn(here.asked())
    assert set(here.ours.state_dict()) == names and not names & set(here.adapter.state_dict())
    assert not any(isinstance(module, nn.Dropout) for module in here.adapter.modules())
