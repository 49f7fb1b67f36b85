"""FreeU equals diffusers', whose filter is exact where the reference is led to compute it in float64."""

from __future__ import annotations

import diffusers
import pytest
import torch
from torch import Tensor

from safelight.adapters.freeu import FreeU, dampened, lifted
from safelight.adapters.use import Call, Place
from safelight.errors import RequestError
from safelight.families.sd.model import Added, UNet
from safelight.nn.ports import NO_PORTS, Ports
from tests.generate.scenes import pipe
from tests.parity.networks import UNETS, difference, predict, predict_reference, random, unet_inputs, unets

FACTORS = {"b1": 1.4, "b2": 1.6, "s1": 0.9, "s2": 0.2}


def filtered(x: Tensor, threshold: int, scale: float) -> Tensor:
    """The reference's filter, written with the transform, in the number format of x."""
    waves = torch.fft.fftshift(torch.fft.fftn(x, dim=(-2, -1)), dim=(-2, -1))
    row, column = (edge // 2 for edge in x.shape[-2:])
    low = [slice(max(place - threshold, 0), place + threshold) for place in (row, column)]
    waves[..., low[0], low[1]] *= scale
    return torch.fft.ifftn(torch.fft.ifftshift(waves, dim=(-2, -1)), dim=(-2, -1)).real


def with_freeu(ours: UNet, asked: dict[str, Tensor], use: FreeU, rows: list[bool]) -> Tensor:
    (aid, _) = use.ready(Place(pipe().model, (32, 32), (), 0))
    assert aid is not None
    call = Call(asked["x"], asked["t"], None, lambda *_: asked["x"])
    ports = aid.ports(call, torch.tensor(rows), NO_PORTS)
    told = {name: asked[name] for name in ("pooled", "times") if name in asked}
    with torch.no_grad():
        return ours(asked["x"], asked["t"], asked["context"], added=Added(**told) if told else None, ports=ports)


@pytest.mark.parametrize("side", [16, (12, 20)])
@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl", "sdxl refiner"])
def test_freeu_equals_the_reference(name: str, side: int | tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = unets(UNETS[name])
    size = (side, side) if isinstance(side, int) else side
    asked = {**unet_inputs(UNETS[name]), "x": random(2, UNETS[name].get("in_channels", 4), *size)}
    got = with_freeu(ours, asked, FreeU(**FACTORS), [True, True])
    theirs.enable_freeu(**FACTORS)
    with torch.no_grad():
        plain = predict(ours, asked)
        near = predict_reference(theirs, asked)
        monkeypatch.setattr(diffusers.utils.torch_utils, "fourier_filter", filtered)
        wanted = predict_reference(theirs, asked)
    assert difference(got, wanted) <= 1e-9
    assert difference(got, near) <= 1e-5, "the reference's own filter computes in float32"
    assert difference(plain, wanted) > 1e-3


def test_rows_of_strangers_keep_their_bits() -> None:
    ours, _ = unets(UNETS["sd1"], torch.float32)
    asked = unet_inputs(UNETS["sd1"], torch.float32)
    with torch.no_grad():
        plain = ours(asked["x"], asked["t"], asked["context"])
    both = with_freeu(ours, asked, FreeU(**FACTORS), [True, True])
    one = with_freeu(ours, asked, FreeU(**FACTORS), [False, True])
    assert torch.equal(one[0], plain[0]) and torch.equal(one[1], both[1])
    assert not torch.equal(one[1], plain[1])


@pytest.mark.parametrize("edges", [(1, 1), (1, 4), (2, 2), (3, 5), (8, 6)])
def test_the_lowest_waves_are_those_that_a_transform_finds(edges: tuple[int, int]) -> None:
    x = random(2, 3, *edges)
    for factor in (0.0, 0.3, 1.0, 2.0):
        torch.testing.assert_close(dampened(x, factor), filtered(x, 1, factor), rtol=1e-12, atol=1e-12)
    assert dampened(x.bfloat16(), 0.3).dtype == torch.bfloat16
    assert torch.equal(dampened(x, 1.0), x) and torch.equal(lifted(x, 1.0), x)
    assert torch.equal(lifted(x, 2.0)[:, 1:], x[:, 1:]) and torch.equal(lifted(x, 2.0)[:, 0], 2 * x[:, 0])


def test_joins_are_chained() -> None:
    ours, _ = unets(UNETS["sd1"])
    asked = unet_inputs(UNETS["sd1"])
    x, t, context = asked["x"], asked["t"], asked["context"]
    seen: list[str] = []

    def double(name: str, x: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(name)
        return 2 * x, skip

    (aid, _) = FreeU(1.0, 1.0, 1.0, 0.5).ready(Place(pipe().model, (32, 32), (), 0))
    assert aid is not None
    ports = aid.ports(Call(x, t, None, lambda *_: x), torch.tensor([True, True]), Ports(join=double))
    with torch.no_grad():
        chained = ours(x, t, context, ports=ports)
        alone = ours(x, t, context, ports=Ports(join=double))
    assert not torch.equal(chained, alone)
    assert seen == (["up_blocks.0"] * 3 + ["up_blocks.1"] * 3) * 2


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        ((1, 1, 1, 1), "does nothing"),
        ((-1, 1, 1, 1), "between 0 and 4, not -1, 1, 1, 1"),
        ((1, 1, 1, float("nan")), "not 1, 1, 1, nan"),
        ((5, 1, 1, 1), "between 0 and 4"),
    ],
)
def test_factors_that_cannot_be_meant_are_refused(factors: tuple[float, ...], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        FreeU(*factors).check(pipe().model, (32, 32))
