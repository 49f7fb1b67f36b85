"""Laws of the kinds of noise: known answers of Philox and of cards, what other programs draw, and variations."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from safelight.core import philox
from safelight.core.kinds import KINDS, Variation
from safelight.core.noise import start_noise
from safelight.core.path import vp_scaled_linear
from safelight.core.sources import slerp, source
from safelight.errors import RequestError, UnknownNameError

SHAPE = (4, 8, 8)
LEVELS = [vp_scaled_linear().level(t) for t in (900, 700, 400, 100)]

# counter, key, result: ``kat_vectors`` of Random123, rows "philox4x32 10".
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
# What torch printed on NVIDIA cards: seed, place of the first number, numbers (pytorch issues 158398 and 143086).
PRINTED = [
    (0, 0, [-0.9247, -0.4253, -2.6438, 0.1452, -0.1209, -0.5797, -0.6229, -0.3284]),
    (0, 56, [-0.5499, -0.3231, -0.5469, 0.9049, 0.2837, 0.1210, 0.4730, -1.0823]),
    (42, 0, [0.1940, 2.1614, -0.1721]),
    (42, 2045, [1.4540, -2.7733, -0.8932, -0.4574, 0.8063, 0.1580]),
    (42, 6141, [-1.0001, -1.1552, -0.6955]),
    (1, 0, [-0.2963, 2.6764, -0.1408]),
]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def steps(name: str, seed: int, ensd: int = 0, variation: Variation | None = None) -> list[Tensor]:
    """The start and the noise of three steps."""
    start, noise = source(name, seed, SHAPE, ensd=ensd, variation=variation)
    return [start, *(noise(s, t) for s, t in pairwise(LEVELS))]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(map(torch.equal, a, b))


def torch_draws(seed: int, count: int) -> list[Tensor]:
    generator = torch.Generator("cpu").manual_seed(seed)
    return [torch.randn((1, *SHAPE), generator=generator) for _ in range(count)]


def card_draws(seed: int, turns: list[int]) -> list[Tensor]:
    return [philox.normals(seed, turn, 256).reshape(1, *SHAPE) for turn in turns]


@pytest.mark.parametrize(("counter", "key", "wanted"), KNOWN)
def test_philox_gives_the_published_answers(counter: str, key: str, wanted: str) -> None:
    first, second = words(key)
    # Many at once, to see that counters do not touch each other.
    counters = [torch.tensor([0, word, 5]) for word in words(counter)]
    drawn = philox.philox(counters, (first, second))
    assert [int(word[1]) for word in drawn] == words(wanted)


@pytest.mark.parametrize(("seed", "place", "printed"), PRINTED)
def test_normals_are_those_that_cards_printed(seed: int, place: int, printed: list[float]) -> None:
    drawn = philox.normals(seed, 0, 64 * 2048)[place : place + len(printed)]
    assert (drawn - torch.tensor(printed)).abs().max() < 0.5001e-4


def test_the_second_and_third_draw_are_those_of_a_card() -> None:
    # A published notebook printed relu(x + y / 2 + b) of three draws after seed 0 on a card: x and y [8, 8], b [8].
    x, y = (philox.normals(0, turn, 64).view(8, 8) for turn in (0, 1))
    drawn = torch.relu(x + 0.5 * y + philox.normals(0, 2, 8))
    printed = {(0, 0): 1.7098, (1, 3): 2.2105, (2, 1): 1.3964, (4, 2): 0.11147, (5, 5): 0.67518, (7, 6): 1.6286}
    for place, number in printed.items():
        assert abs(drawn[place] - number) < 1e-4
    assert not drawn[0, 1:4].any() and not drawn[3, 5]


def test_normals_are_normal_and_take_any_seed() -> None:
    many = philox.normals(-1, 3, 1 << 16)
    assert torch.equal(many, philox.normals(2**64 - 1, 3, 1 << 16))
    assert abs(many.mean()) < 0.02 and abs(many.var() - 1) < 0.02 and abs((many**4).mean() - 3) < 0.2
    assert not torch.equal(many, philox.normals(2**32 - 1, 3, 1 << 16)), "the upper word of the seed counts"


def test_no_word_makes_an_infinite_normal(monkeypatch: pytest.MonkeyPatch) -> None:
    for word in (0, 2**32 - 1):
        monkeypatch.setattr(philox, "philox", lambda counter, key, word=word: [torch.tensor([word])] * 4)
        assert philox.normals(0, 0, 1).isfinite().all()


@pytest.mark.parametrize("seed", [0, 7, 2**32 + 5, 2**63])
def test_each_kind_draws_what_its_program_draws(seed: int) -> None:
    assert same(steps("diffusers", seed), torch_draws(seed, 4))
    assert same(steps("a1111", seed), torch_draws(seed, 4))
    assert same(steps("comfyui", seed), torch_draws(seed, 1) + torch_draws(seed + 1, 3))
    assert same(steps("a1111", seed, ensd=31337), torch_draws(seed, 1) + torch_draws(seed + 31337, 3))
    for name in ("diffusers-gpu", "a1111-gpu"):
        assert same(steps(name, seed), card_draws(seed, [0, 1, 2, 3]))
    assert same(steps("a1111-gpu", seed, ensd=5), card_draws(seed, [0]) + card_draws(seed + 5, [0, 1, 2]))
    assert same(steps("comfyui-gpu", seed), torch_draws(seed, 1) + card_draws(seed, [0, 1, 2]))


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_unit_normal_of_its_own_seed_and_leaves_the_global_generator_alone(name: str) -> None:
    state = torch.get_rng_state()
    first, again, other = steps(name, 3), steps(name, 3), steps(name, 900)
    assert same(first, again)
    table = torch.stack([each.flatten() for each in first + other])
    assert (torch.corrcoef(table) - torch.eye(8)).abs().max() < 0.3, "two draws of 256 numbers share more than chance"
    assert (table.var(1) - 1).abs().max() < 0.4
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.start == "cpu"])
def test_every_start_drawn_on_a_cpu_is_the_same(name: str) -> None:
    assert torch.equal(source(name, 5, SHAPE).start, start_noise(5, SHAPE))


@pytest.mark.parametrize("name", ["fresh", "path"])
def test_a_variation_goes_from_one_seed_to_the_other(name: str) -> None:
    one, other = steps(name, 3), steps(name, 8)
    assert same(steps(name, 3, variation=Variation(8, 0.0)), one)
    assert same(steps(name, 3, variation=Variation(8, 1.0)), other)
    assert same(steps(name, 3, variation=Variation(3, 0.4)), one)
    for a, b, c in zip(one, other, steps(name, 3, variation=Variation(8, 0.5))):
        torch.testing.assert_close(c, (a + b) / 2**0.5)


def test_a_variation_stays_unit_normal() -> None:
    for strength in (0.1, 0.5, 0.9):
        start, noise = source("path", 3, (40_000,), variation=Variation(8, strength))
        for each in (start, noise(*LEVELS[:2])):
            assert abs(each.var() - 1) < 0.03


@pytest.mark.parametrize("name", ["a1111", "a1111-gpu"])
def test_a_variation_of_a1111_turns_the_columns_of_the_start_alone(name: str) -> None:
    one, other, mixed = steps(name, 3), steps(name, 8), steps(name, 3, variation=Variation(8, 0.3))
    assert same(mixed[1:], one[1:])
    assert torch.equal(steps(name, 3, variation=Variation(8, 1.0))[0], other[0])
    assert torch.equal(steps(name, 3, variation=Variation(3, 0.3))[0], one[0])
    # Along one column of eight: the arc from one to the other, at three tenths of its angle.
    a, b, c = (each[0][0, 2, :, 5].double() for each in (one, other, mixed))
    whole = torch.acos(a @ b / a.norm() / b.norm())
    wanted = (torch.sin(0.7 * whole) * a + torch.sin(0.3 * whole) * b) / torch.sin(whole)
    torch.testing.assert_close(c, wanted, rtol=1e-5, atol=1e-5)


def test_slerp_keeps_the_length_and_turns_at_constant_speed() -> None:
    turned = slerp(torch.tensor([[3.0], [0.0]]), torch.tensor([[0.0], [3.0]]), 1 / 3)
    torch.testing.assert_close(turned, torch.tensor([[3 * 0.75**0.5], [1.5]]))
    alike = torch.tensor([[1.0], [2.0]])
    torch.testing.assert_close(slerp(alike, 3 * alike, 0.25), 1.5 * alike)


@pytest.mark.parametrize(
    ("name", "more", "told"),
    [
        ("fresh", {"ensd": 1}, "ensd belongs to noise 'a1111'"),
        ("comfyui", {"variation": Variation(1, 0.5)}, "knows no variations"),
        ("path", {"variation": Variation(1, 1.01)}, "between 0 and 1"),
        ("path", {"variation": Variation(1, float("nan"))}, "between 0 and 1"),
        ("path", {"variation": Variation(2**64, 0.5)}, "64 bits"),
        ("comfyui", {"seed": 2**64 - 1}, "64 bits"),
        ("a1111", {"seed": 2**64 - 5, "ensd": 5}, "64 bits"),
    ],
)
def test_what_a_kind_cannot_do_is_said(name: str, more: dict[str, object], told: str) -> None:
    with pytest.raises(RequestError, match=told):
        source(name, **{"seed": 3, "shape": SHAPE, **more})  # type: ignore[arg-type]


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="comfyui"):
        source("comfy", 3, SHAPE)
