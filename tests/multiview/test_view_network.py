"""Laws of a U-Net over sets of views: what must not change a bit, what moves with the views, what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from safelight.adapters.ip_adapter.model import PLUS, IpNetwork, Plan, numbered
from safelight.errors import ConfigError, RequestError
from safelight.families.sd import shown
from safelight.families.sd.model import UNet, UNetConfig
from safelight.multiview.layouts import layout
from safelight.multiview.network import Conditions, ViewNetwork, widened
from safelight.nn.attention import Attention
from safelight.nn.ports import Ports
from safelight.nn.widen import WidenedConv
from tests.parity.networks import SD2, difference, random, randomise

B, V, H, W, TEXT, HIDDEN = 2, 3, 6, 4, 32, 24
CONFIG: dict[str, Any] = {**SD2, "class_embed_type": "projection", "projection_class_embeddings_input_dim": 16}


def made(*, picture: bool = True, slot: bool = True, extra: int = 0, dtype: torch.dtype = torch.float64) -> ViewNetwork:
    unet = UNet(UNetConfig.from_dict(CONFIG))
    randomise(unet)
    held = None
    if picture:
        layers = {n: layer.to_q.out_features for n, layer in enumerate(numbered(unet)) if layer.name.endswith("attn2")}
        held = IpNetwork(Plan(PLUS, TEXT, HIDDEN, 0, 3, TEXT, 2, layers, {}, 2))
        randomise(held, seed=3)
    unet = widened(unet, extra) if extra else unet
    return ViewNetwork(unet, layout("dense"), held, slot=slot).to(dtype).eval()


def asked(views: int = V, dtype: torch.dtype = torch.float64, **without: None) -> tuple[Tensor, Tensor, Conditions]:
    told = {
        "context": random(B, 5, TEXT, seed=2),
        "cameras": random(B, views, 16, seed=3),
        "hidden": random(B, 7, HIDDEN, seed=4),
        "reference": random(B, 4, H, W, seed=5),
    }
    cond = Conditions(**{key: value.to(dtype) for key, value in told.items() if key not in without})
    return random(B, 4, views, H, W, seed=1).to(dtype), torch.tensor([3.25, 801.0]), cond


def plain(**without: None) -> dict[str, None]:
    """What a network without a picture is not told."""
    return {"hidden": None, "reference": None, **without}


def test_one_view_without_a_camera_is_the_plain_network_to_the_bit() -> None:
    net = made(picture=False, slot=False)
    x, t, cond = asked(1, **plain(cameras=None))
    config = UNetConfig.from_dict(SD2)
    base = UNet(config).double().eval()
    base.load_state_dict({k: v for k, v in net.unet.state_dict().items() if not k.startswith("class_embedding")})
    with torch.no_grad():
        assert torch.equal(net(x, t, cond)[:, :, 0], base(x[:, :, 0], t, cond.context))
        cameras = replace(cond, cameras=random(B, 1, 16))
        assert difference(net(x, t, cameras), net(x, t, cond)) > 1e-4


@pytest.mark.parametrize("picture", [False, True])
def test_views_that_change_places_with_their_cameras_take_their_answers_along(picture: bool) -> None:
    net = made(picture=picture, slot=picture)
    x, t, cond = asked(**({} if picture else plain()))
    order = [2, 0, 1]
    assert cond.cameras is not None
    with torch.no_grad():
        got = net(x[:, :, order], t, replace(cond, cameras=cond.cameras[:, order]))
        assert difference(got, net(x, t, cond)[:, :, order]) <= 1e-12
        assert difference(net(x[:, :, order], t, cond), net(x, t, cond)[:, :, order]) > 1e-4


def test_one_portrait_does_not_see_another() -> None:
    net = made()
    x, t, cond = asked()
    with torch.no_grad():
        both, first = net(x, t, cond), net(x[:1], t[:1], _row(cond, 0))
        changed = net(torch.cat([x[:1], 2.0 * x[1:]]), t, cond)
    assert difference(both[:1], first) <= 1e-12
    assert torch.equal(changed[0], both[0]) and not torch.equal(changed[1], both[1])


def _row(cond: Conditions, row: int) -> Conditions:
    held = {key: getattr(cond, key) for key in ("context", "cameras", "hidden", "reference")}
    return Conditions(**{key: value[row : row + 1] for key, value in held.items()})


def test_every_view_sees_the_others_and_the_reference() -> None:
    net = made()
    x, t, cond = asked()
    assert cond.reference is not None
    with torch.no_grad():
        before = net(x, t, cond)
        other = x.clone()
        other[:, :, 2] += 1.0
        after = net(other, t, cond)
        another = net(x, t, replace(cond, reference=2.0 * cond.reference))
    for view in range(V):
        assert difference(after[:, :, view], before[:, :, view]) > 1e-6
        assert difference(another[:, :, view], before[:, :, view]) > 1e-6


def test_a_picture_whose_values_are_zero_changes_no_bit() -> None:
    net, alone = made(slot=False), made(picture=False, slot=False)
    assert net.picture is not None
    for name, p in net.picture.named_parameters():
        if "to_v_ip" in name:
            nn.init.zeros_(p)
    x, t, cond = asked(reference=None)
    with torch.no_grad():
        assert torch.equal(net(x, t, cond), alone(x, t, replace(cond, hidden=None)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_widened_network_answers_with_the_same_bits_until_it_learns(dtype: torch.dtype) -> None:
    base, net = made(dtype=dtype), made(extra=4, dtype=dtype)
    x, t, cond = asked(dtype=dtype)
    shown_ = replace(cond, shown=random(B, 4, V, H, W, seed=9).to(dtype))
    with torch.no_grad():
        wanted = base(x, t, cond)
        assert torch.equal(net(x, t, shown_), wanted)
        assert torch.equal(net(x, t, replace(shown_, beside_reference=random(B, 4, H, W).to(dtype))), wanted)
    net(x, t, shown_).square().mean().backward()
    assert net.unet.conv_in.weight.grad is not None
    new = net.unet.conv_in.weight.grad[:, 4:]
    assert bool((new.abs().sum(dim=(0, 2, 3)) > 0).all()), "a channel that is shown would never be learned"
    with torch.no_grad():
        net.unet.conv_in.weight[:, 4:] += 0.1
        assert difference(net(x, t, shown_), wanted) > 1e-4


def test_a_widened_convolution_is_a_convolution() -> None:
    conv = nn.Conv2d(4, 8, 3, padding=1).double()
    wide, stock = WidenedConv(conv, 4), nn.Conv2d(8, 8, 3, padding=1).double()
    randomise(wide)
    stock.load_state_dict(wide.state_dict())
    x = random(2, 8, 5, 7)
    with torch.no_grad():
        assert difference(wide(x), stock(x)) <= 1e-12
    with pytest.raises(RequestError, match="by 1 channel"):
        WidenedConv(conv, 0)


def test_chunks_of_queries_change_no_answer() -> None:
    net = made()
    with torch.no_grad():
        whole = net(*asked())
        net.chunk = 7
        assert difference(net(*asked()), whole) <= 1e-12


def test_what_adapters_feed_reaches_the_pictures_in_their_order() -> None:
    net, reached = made(), []

    def beside(name: str, layer: Attention, q: Tensor, y: Tensor) -> Tensor:
        reached.append(name)
        assert len(y) == B * (V + 1)
        own = torch.zeros(B, V + 1, dtype=torch.bool)
        own[1, 0] = True
        return torch.where(own.flatten()[:, None, None, None], y + 1.0, y)

    with torch.no_grad():
        net.layout = layout("self")
        before, after = net(*asked()), net(*asked(), ports=Ports(beside=beside))
    assert len(reached) == 6
    changed = [[not torch.equal(after[row, :, view], before[row, :, view]) for view in range(V)] for row in range(B)]
    assert changed == [[False] * V, [True, False, False]]


def test_domains_are_views_that_do_not_read_each_other() -> None:
    net = ViewNetwork(made(picture=False, slot=False).unet, layout("dense"), domains=2)
    x, t, cond = asked(4, **plain())
    other = x.clone()
    other[:, :, 2:] += 1.0
    with torch.no_grad():
        assert torch.equal(net(x, t, cond)[:, :, :2], net(other, t, cond)[:, :, :2])
        net.layout = layout("joint-domain")
        assert not torch.equal(net(x, t, cond)[:, :, :2], net(other, t, cond)[:, :, :2])
    with pytest.raises(RequestError, match="one domain only"):
        ViewNetwork(net.unet, layout("dense"), slot=True, domains=2)
    with pytest.raises(RequestError, match="V in 2 domains"):
        net(*asked(3, **plain()))


def test_what_is_told_is_a_record_of_rows() -> None:
    cond = asked()[2]
    first = _row(cond, 0)
    three = first.repeat(3)
    assert three.context.shape[0] == 3 and three.shown is None
    assert three.cameras is not None and cond.cameras is not None
    assert torch.equal(three.cameras[2], cond.cameras[0])
    both = first.cat([_row(cond, 1)])
    assert both.hidden is not None and cond.hidden is not None and torch.equal(both.hidden, cond.hidden)
    assert first.to(torch.zeros(1, dtype=torch.float32)).context.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": random(B, 5, 16)}, r"context of these views is \[2, any, 32\]"),
        ({"cameras": random(B, V + 1, 16)}, r"cameras of these views is \[2, 3, 16\]"),
        ({"cameras": random(B, V, 12)}, r"cameras of these views is"),
        ({"hidden": None}, "need hidden of shape"),
        ({"hidden": random(B, 7, 9)}, "hidden of these views is"),
        ({"reference": None}, "need reference of shape"),
        ({"reference": random(B, 4, H, W + 1)}, "reference of these views is"),
        ({"shown": random(B, 4, V, H, W)}, "reads no shown"),
        ({"beside_reference": random(B, 4, H, W)}, "reads no beside_reference"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(change: dict[str, Any], message: str) -> None:
    x, t, cond = asked()
    with pytest.raises(RequestError, match=message):
        made()(x, t, replace(cond, **change))


def test_what_is_needed_or_not_read_is_refused() -> None:
    x, t, cond = asked()
    with pytest.raises(RequestError, match="reads no hidden"):
        made(picture=False)(x, t, cond)
    with pytest.raises(RequestError, match="reads no reference"):
        made(slot=False)(x, t, cond)
    with pytest.raises(RequestError, match="need shown of shape"):
        made(extra=4)(x, t, cond)
    with pytest.raises(RequestError, match="does not go with them"):
        made()(x, t, cond, Ports(override=lambda name, layer, y: layer(y)))
    with pytest.raises(RequestError, match=r"are \[B, Z, V, h, w\]"):
        made()(x[:, :, 0], t, cond)
    with pytest.raises(RequestError, match=r"are \[B, Z, V, h, w\]"):
        made()(x[:, :, :0], t, cond)


def test_a_network_that_is_told_cameras_is_not_taken_for_a_single_pictures(tmp_path: Any) -> None:
    config = UNetConfig.from_dict(CONFIG)
    with pytest.raises(ConfigError, match="16 numbers of every picture"):
        shown.kind(tmp_path, config, 4)
    with pytest.raises(ConfigError, match="only 'projection'"):
        UNetConfig.from_dict({**SD2, "class_embed_type": "timestep"})
    with pytest.raises(ConfigError, match="needs projection_class_embeddings_input_dim"):
        UNetConfig.from_dict({**SD2, "class_embed_type": "projection"})
    with pytest.raises(ConfigError, match="nothing else beside"):
        UNetConfig.from_dict({**CONFIG, "num_class_embeds": 5})


def test_some_of_the_views_are_told_what_is_theirs_and_what_is_of_all() -> None:
    each = torch.arange(3.0)
    told = Conditions(
        context=each[None, :, None, None].repeat(2, 1, 5, 4),
        cameras=each[None, :, None].repeat(2, 1, 16),
        reference=torch.ones(2, 4, 2, 2),
        shown=each[None, None, :, None, None].repeat(2, 4, 1, 2, 2),
    )
    some = told.only(torch.tensor([2, 0]))
    assert some.cameras is not None and some.shown is not None
    for mine in (some.context[:, :, 0, 0], some.cameras[..., 0], some.shown[:, 0, :, 0, 0]):
        assert mine.tolist() == [[2.0, 0.0]] * 2
    assert some.reference is told.reference
    text = Conditions(context=torch.ones(2, 5, 4))
    assert text.only(torch.tensor([1])).context is text.context
