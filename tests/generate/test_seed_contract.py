"""The seed contract: a picture depends on its own request alone, to the last bit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from safelight.generate.pipe import Drawn
from safelight.generate.request import Request
from tests.generate.scenes import PROMPT, pipe, requests


def alone(request: Request, kind: str = "sd1") -> Drawn:
    (drawn,) = pipe(kind).draw(request)
    return drawn


def same(a: Drawn, b: Drawn) -> bool:
    return torch.equal(a.latents, b.latents) and a.image.tobytes() == b.image.tobytes() and a.recipe == b.recipe


@pytest.fixture(scope="module")
def solitary() -> list[Drawn]:
    """Every request, drawn alone."""
    return [alone(request) for request in requests()]


def test_requests_of_the_tests_differ(solitary: list[Drawn]) -> None:
    assert len({drawn.image.tobytes() for drawn in solitary}) == len(solitary)


@pytest.mark.parametrize("rows", [0, 2, 3, 4, 8])
@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_picture_i_of_a_series_is_the_picture_of_seed_s_plus_i_alone(kind: str, rows: int) -> None:
    request = Request(PROMPT, seed=20, rows=rows, steps=3)
    for drawn, one in zip(pipe(kind).draw(request, 5), request.series(5)):
        assert drawn.recipe.seed == one.seed
        assert same(drawn, alone(one, kind))


def test_strangers_change_nothing_in_any_order(solitary: list[Drawn]) -> None:
    order = torch.randperm(len(solitary), generator=torch.Generator().manual_seed(0)).tolist()
    mixed = pipe().draw_many([requests()[place] for place in order])
    for place, drawn in zip(order, mixed):
        assert same(drawn, solitary[place]), requests()[place]


def test_strangers_that_fill_the_same_calls_change_nothing() -> None:
    strangers = [Request(f"a {word} hat", seed=seed, rows=6, steps=3) for seed, word in enumerate(("red", "green", ""))]
    wanted = [alone(request) for request in strangers]
    for drawn, one in zip(pipe().draw_many(strangers[::-1]), wanted[::-1]):
        assert same(drawn, one)


def test_threads_that_draw_from_one_pipe_at_once_change_nothing(solitary: list[Drawn]) -> None:
    with ThreadPoolExecutor(2) as pool:
        halves = list(pool.map(lambda order: pipe().draw_many(order), [requests(), requests()[::-1]]))
    for drawn, one in zip(halves[0], solitary):
        assert same(drawn, one)
    for drawn, one in zip(halves[1], solitary[::-1]):
        assert same(drawn, one)


def test_a_picture_that_was_stopped_leaves_no_trace(solitary: list[Drawn]) -> None:
    steps = pipe()(requests()[0])
    next(steps)
    steps.close()
    assert same(alone(requests()[0]), solitary[0])


def test_global_randomness_neither_matters_nor_moves(solitary: list[Drawn]) -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert same(alone(requests()[3]), solitary[3])
    assert torch.equal(torch.get_rng_state(), before)


def test_calls_are_as_wide_as_the_request_says_and_full_where_they_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    widths: list[int] = []
    own = pipe()
    ask = own.model.network.forward

    def watched(x: Tensor, *told: object, **more: object) -> Tensor:
        widths.append(len(x))
        return ask(x, *told, **more)

    monkeypatch.setattr(own.model.network, "forward", watched)
    own.draw(Request(PROMPT, steps=2), 3)
    assert widths == [2] * 6
    widths.clear()
    own.draw(Request(PROMPT, steps=2, guidance=1.0), 3)
    assert widths == [1] * 6
    widths.clear()
    own.draw(Request(PROMPT, steps=2, rows=8), 8)
    assert widths == [8] * 4, "eight pictures of two branches are two calls a step"
    widths.clear()
    own.draw(Request(PROMPT, steps=2, rows=3), 3)
    assert widths == [3] * 4, "three pictures fill two calls of three"
