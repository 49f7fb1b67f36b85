"""Laws of every layout of views, and each beside attention that is masked pixel by pixel."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from safelight.errors import RequestError, UnknownNameError
from safelight.multiview import layouts
from safelight.multiview.layouts import LAYOUTS, Epipolar, FrontAndSelf, Layout, Temporal, Views, layout
from safelight.nn.attention import Attention
from tests.multiview.reading import REACH, masked, matrix, ring
from tests.parity.networks import difference, random, randomise

H, W, WIDTH, ROWS = 3, 5, 8, 2
ALONE = {
    "self": "",
    "dense": "",
    "front-self": "the front is the view itself",
    "joint-domain": "",
    "epipolar": "a view reads all of itself",
}
"""Layouts that read a single view as the plain network does."""
BITS = {"self", "dense", "joint-domain"}
"""Those of them that compute the same numbers in the same order; of the others no bits are promised."""
ORDERED = {"front-self": "the front is a certain view"}
"""Layouts to which it matters which view is which."""


def made(name: str, n: int) -> Layout:
    found = layout(name, ring(n, (H, W)))
    return replace(found, reach=REACH) if isinstance(found, Epipolar) else found


def attention(upcast: bool = False) -> Attention:
    found = Attention(WIDTH, 2, upcast=upcast)
    randomise(found)
    return found.double()


def tokens(views: Views, rows: int = ROWS, seed: int = 1) -> Tensor:
    return random(rows * views.slots, views.h * views.w, WIDTH, seed=seed)


def answer(name: str, views: Views, x: Tensor, chunk: int = 0) -> Tensor:
    layer = attention()
    with torch.no_grad():
        return layouts.override(made(name, views.n), views, chunk)("a.layer", layer, x)


@pytest.mark.parametrize("domains", [1, 2])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 6, 8, 9])
@pytest.mark.parametrize("name", LAYOUTS)
def test_the_way_back_undoes_the_way_there(name: str, n: int, domains: int) -> None:
    views = Views(n, H, W, domains)
    x, found = tokens(views), made(name, n)
    assert torch.equal(found.back(found.q(x, views), views), x)


@pytest.mark.parametrize(("n", "domains"), [(1, 1), (2, 1), (3, 2), (4, 1)])
@pytest.mark.parametrize("name", LAYOUTS)
def test_each_token_reads_what_the_layout_says_and_nothing_else(name: str, n: int, domains: int) -> None:
    views = Views(n, H, W, domains)
    x, layer = tokens(views), attention()
    who = matrix(name, n, H, W, domains, ring(n, (H, W)) if name == "epipolar" else None)
    with torch.no_grad():
        q, k, v = layer.to_q(x), layer.to_k(x), layer.to_v(x)
        wanted = layer.to_out[0](masked(q, k, v, views.slots, layer.heads, who))
    assert difference(answer(name, views, x), wanted) <= 1e-12
    assert bool(who.all()) == (domains == 1 and (name == "dense" or (n == 1 and name in ALONE)))


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_single_view_is_read_as_the_plain_network_reads_it(name: str) -> None:
    views = Views(1, H, W)
    x, layer = tokens(views), attention()
    with torch.no_grad():
        plain = layer(x)
    got = answer(name, views, x)
    assert torch.equal(got, plain) or name not in BITS
    assert (difference(got, plain) <= 1e-12) == (name in ALONE)


@pytest.mark.parametrize("name", LAYOUTS)
def test_views_that_change_places_take_their_answers_along(name: str) -> None:
    n, domains = 4, 2
    views = Views(n, H, W, domains)
    order = [0, 3, 1, 2] if name in ORDERED else [2, 3, 1, 0]
    x, layer = tokens(views), attention()
    cameras = ring(n, (H, W))

    def permuted(y: Tensor) -> Tensor:
        return y.unflatten(0, (-1, domains, n))[:, :, order].flatten(0, 2)

    moved = replace(made(name, n), cameras=cameras[torch.tensor(order)]) if name == "epipolar" else made(name, n)
    with torch.no_grad():
        got = layouts.override(moved, views)("a.layer", layer, permuted(x))
    assert difference(got, permuted(answer(name, views, x))) <= 1e-12


def test_it_matters_which_view_is_the_front() -> None:
    views = Views(3, H, W)
    x = tokens(views, rows=1)
    swapped = x[[1, 0, 2]]
    assert difference(answer("front-self", views, swapped)[[1, 0, 2]], answer("front-self", views, x)) > 1e-3
    last, third = FrontAndSelf(front=-1), FrontAndSelf(front=2)
    assert torch.equal(last.kv(x, views), third.kv(x, views))
    assert not torch.equal(last.kv(x, views), FrontAndSelf().kv(x, views))


@pytest.mark.parametrize("name", LAYOUTS)
def test_one_portrait_does_not_see_another(name: str) -> None:
    views = Views(3, H, W, 2)
    x, other = tokens(views), tokens(views, seed=9)
    mixed = torch.cat([x[: views.slots], other[views.slots :]])
    assert torch.equal(answer(name, views, mixed)[: views.slots], answer(name, views, x)[: views.slots])
    assert not torch.equal(answer(name, views, mixed)[views.slots :], answer(name, views, x)[views.slots :])


@pytest.mark.parametrize("chunk", [1, 4, 7, 1000])
@pytest.mark.parametrize("name", LAYOUTS)
def test_chunks_of_queries_change_no_answer(name: str, chunk: int) -> None:
    views = Views(3, H, W, 2)
    x = tokens(views)
    assert difference(answer(name, views, x, chunk), answer(name, views, x)) <= 1e-12


@pytest.mark.parametrize("name", sorted(set(LAYOUTS) - {"self", "joint-domain"}))
def test_views_see_each_other(name: str) -> None:
    """In at least one token of the first view something changes when only the second does."""
    views = Views(2, H, W)
    x = tokens(views, rows=1)
    changed = torch.cat([x[:1], tokens(views, rows=1, seed=9)[1:]])
    first = 1 if name == "front-self" else 0
    changed = changed[[1, 0]] if name == "front-self" else changed
    x = x[[1, 0]] if name == "front-self" else x
    assert not torch.equal(answer(name, views, changed)[first], answer(name, views, x)[first])


def test_causal_views_are_not_changed_by_later_ones() -> None:
    views, more, layer = Views(2, H, W), Views(4, H, W), attention()
    x = tokens(more, rows=1)
    with torch.no_grad():
        few = layouts.override(Temporal(causal=True), views)("a.layer", layer, x[:2])
        many = layouts.override(Temporal(causal=True), more)("a.layer", layer, x)
        plain = layouts.override(Temporal(), more)("a.layer", layer, x)
    assert difference(many[:2], few) <= 1e-12
    assert difference(plain[:2], few) > 1e-3
    assert difference(many[3], plain[3]) <= 1e-12


def test_lines_of_level_parallel_cameras_are_rows() -> None:
    """Era3D's reason: at elevation 0 and with parallel rays, what a pixel shows lies in the same row of any view."""
    n = 4
    cameras = replace(ring(n, (H, W)), size=(H, W))
    level = type(cameras).orbit(cameras.angles()[0], 0.0, 2.0, 45.0, (H, W), dtype=torch.float64).orthographic(1.0)
    views = Views(n, H, W)
    found = Epipolar(level, reach=0.5).mask(views, torch.arange(n * H * W))
    assert found is not None
    rows, own = matrix("rows", n, H, W), matrix("self", n, H, W)
    assert torch.equal(found, rows | own)


def test_rows_with_cameras_of_their_own_read_along_their_own_lines() -> None:
    views, first, second = Views(2, H, W, 2), ring(4, (H, W))[:2], ring(4, (H, W))[2:]
    stacked = {key: torch.stack([getattr(c, key) for c in (first, second)])
               for key in ("rotation", "position", "focal", "principal")}  # fmt: skip
    both, x, layer = replace(first, **stacked), tokens(views), attention()
    with torch.no_grad():
        got = layouts.override(Epipolar(both), views)("a.layer", layer, x)
        for row, cameras in enumerate((first, second)):
            own = slice(row * views.slots, (row + 1) * views.slots)
            assert difference(got[own], layouts.override(Epipolar(cameras), views)("a.layer", layer, x[own])) <= 1e-12
    assert not torch.equal(*Epipolar(both).mask(views, torch.arange(2 * H * W))[::2])


def test_half_precision_attends_in_float32_where_the_layer_overflows() -> None:
    views = Views(2, H, W)
    x, layer = tokens(views).bfloat16(), attention(upcast=True).bfloat16()
    with torch.no_grad():
        got = layouts.override(layout("rows-columns"), views)("a.layer", layer, x)
        layer.double()
        exact = layouts.override(layout("rows-columns"), views)("a.layer", layer, x.double())
    assert got.dtype == torch.bfloat16
    assert difference(got.double(), exact) <= 0.02


@pytest.mark.parametrize(("h", "w"), [(64, 64), (48, 80), (40, 24), (9, 13), (1, 7)])
def test_a_layers_grid_is_that_of_the_latents_halved(h: int, w: int) -> None:
    views = Views(3, h, w)
    for _ in range(4):
        assert Views(3, h, w).at(views.h * views.w) == views
        views = replace(views, h=(views.h + 1) // 2, w=(views.w + 1) // 2)
    with pytest.raises(RequestError, match="no grid"):
        Views(3, h, w).at(h * w + 1)


@pytest.mark.parametrize("bad", [(0, 4, 4, 1), (-1, 4, 4, 1), (2, 0, 4, 1), (2, 4, 4, 0)])
def test_no_views_are_refused(bad: tuple[int, int, int, int]) -> None:
    with pytest.raises(RequestError, match="at least 1"):
        Views(*bad)


def test_what_cannot_be_laid_out_is_refused_in_a_line() -> None:
    views, layer = Views(3, H, W), attention()
    with pytest.raises(UnknownNameError, match="dense"):
        layout("dens")
    with pytest.raises(RequestError, match="cameras"):
        layout("epipolar")
    with pytest.raises(RequestError, match="3 views need as many cameras"):
        layouts.override(Epipolar(ring(2, (H, W))), views)("a.layer", layer, tokens(views))
    with pytest.raises(RequestError, match="front of 3 views"):
        layouts.override(FrontAndSelf(front=3), views)("a.layer", layer, tokens(views))
    with pytest.raises(RequestError, match="no whole number of sets of 3"):
        layouts.override(layout("self"), views)("a.layer", layer, tokens(views)[1:])


def test_the_table_says_who_reads_what() -> None:
    assert [name for name, row in LAYOUTS.items() if row.needs_cameras] == ["epipolar"]
    assert all(row.what and row.who for row in LAYOUTS.values())
    assert len({row.what for row in LAYOUTS.values()}) == len(LAYOUTS)
    read = {name: matrix(name, 3, 2, 3, 2) for name in LAYOUTS if name != "epipolar"}
    for a, b in itertools.combinations(read, 2):
        assert not torch.equal(read[a], read[b]), f"{a} and {b} are one layout"
