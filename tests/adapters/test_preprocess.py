"""Hints made of pictures: the same bits as OpenCV's Canny, and what each of the others must do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from safelight.adapters.preprocess import edges
from safelight.adapters.preprocess.blurring import blur, smoothed, tile
from safelight.adapters.preprocess.edges import canny, soft
from safelight.adapters.preprocess.measured import FRAMES, depth, normals
from safelight.adapters.preprocess.tones import invert, threshold
from safelight.errors import ImageError, RequestError, SafelightError, UnknownNameError


def clouds(seed: int) -> np.ndarray:
    """Smooth colours, in whole numbers only."""
    x = np.random.default_rng(seed).integers(0, 256, (64, 80, 3)).astype(np.int64)
    for axis in (0, 1):
        for _ in range(3):
            x = sum(np.roll(x, k, axis) for k in range(-2, 3)) // 5
    return ((x - x.min()) * 255 // (x.max() - x.min())).astype(np.uint8)


def blocks() -> np.ndarray:
    """A grey block, and a coloured one across it."""
    x = np.zeros((50, 60, 3), np.uint8)
    x[10:40, 20:45], x[20:30, 5:55] = 200, (90, 255, 10)
    return x


def noise() -> np.ndarray:
    return np.random.default_rng(9).integers(0, 256, (64, 80, 3), np.uint8)


def shown(x: np.ndarray) -> Image.Image:
    return Image.fromarray(x)


def bits(picture: Image.Image) -> str:
    return hashlib.sha256(np.asarray(picture)[..., 0].tobytes()).hexdigest()


# Of cv2.Canny(picture, low, high), OpenCV 5.0.0.
OPENCV = [
    (clouds(0), 100, 200, "3c1d63511e856afe9cb918937dff1370da6a8de788896a51b03e30436ebc2c35"),
    (clouds(1), 20, 300, "ca4b0ced03ab19fdb57c14a320660a261e2446240e67dd7add4d89b7146b681a"),
    (blocks(), 100, 200, "2e0c38363f5fad4b3a7654f5d6fde956e77f4966bf419babb4dc24d73b85c064"),
    (noise(), 100, 200, "a1f0b3d55b834fc2a41e8c0718ca638ed37f8140de421ce7f4228589010d61bc"),
    (noise(), 600, 1200, "f7a193b0f13246e32b5caa5581713e3c90442deae06207077d530fdcf51c664d"),
]


@pytest.mark.parametrize(("x", "low", "high", "wanted"), OPENCV, ids=range(len(OPENCV)))
def test_thin_edges_are_those_of_opencv(x: np.ndarray, low: int, high: int, wanted: str) -> None:
    assert bits(canny(shown(x), low, high)) == wanted


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("ridges", lambda gx, gy, size: np.ones(size.shape, bool)),
        ("joined", lambda seeds, allowed: seeds),
        ("joined", lambda seeds, allowed: allowed),
        ("STEEP", 2**14),
    ],
    ids=["thick", "weak ends lost", "weak ones kept", "other directions"],
)
def test_a_mistake_in_them_is_seen(monkeypatch: pytest.MonkeyPatch, name: str, wrong: Any) -> None:
    monkeypatch.setattr(edges, name, wrong)
    x, low, high, wanted = OPENCV[1]
    assert bits(canny(shown(x), low, high)) != wanted


def test_an_edge_goes_on_where_it_is_weak_and_a_blur_takes_specks_away() -> None:
    x = np.zeros((40, 40, 3), np.uint8)
    x[:, 20:] = np.linspace(10, 255, 40).astype(np.uint8)[:, None, None]
    both, strong = (np.asarray(canny(shown(x), low, 800))[..., 0] > 0 for low in (100, 800))
    assert both.sum() > strong.sum() > 0
    specks = noise()
    assert np.asarray(canny(shown(specks), sigma=4.0)).sum() < np.asarray(canny(shown(specks))).sum()


@pytest.mark.parametrize("kind", ["sobel", "laplace"])
def test_soft_edges_are_white_at_a_step_and_black_away_from_it(kind: str) -> None:
    x = np.zeros((20, 30, 3), np.uint8)
    x[:, 15:] = 200
    found = np.asarray(soft(shown(x), kind=kind))
    assert found.shape == x.shape and found.max() == 255
    assert found[:, 13:17].max() == 255 and not found[:, :8].any() and not found[:, 22:].any()
    flat = np.asarray(soft(Image.new("RGB", (8, 8), "red"), kind=kind))
    assert not flat.any()


def test_a_blur_keeps_the_mean_and_one_colour_and_is_the_gaussian() -> None:
    x = np.zeros((41, 41))
    x[20, 20] = 1.0
    y = smoothed(x, 2.0)
    assert abs(y.sum() - 1) < 1e-12
    assert abs(y[20, 22] / y[20, 20] - np.exp(-0.5)) < 1e-12 and abs(y[20, 22] - y[22, 20]) < 1e-15
    red = Image.new("RGB", (9, 7), (200, 10, 30))
    assert blur(red, 3.0).tobytes() == red.tobytes()
    assert blur(shown(noise()), 0.0).tobytes() == noise().tobytes()
    assert np.asarray(blur(shown(noise()), 3.0)).std() < noise().std() / 4


def test_a_tile_has_fewer_colours_in_the_same_size() -> None:
    picture = shown(noise())
    assert tile(picture, 1).tobytes() == picture.tobytes()
    small = tile(picture, 8)
    assert small.size == picture.size and np.asarray(small).std() < noise().std() / 3
    quarters = np.asarray(tile(Image.new("RGB", (16, 16), (7, 80, 200)), 4))
    assert (quarters == (7, 80, 200)).all()


def test_tones_are_turned_round_and_cut() -> None:
    picture = shown(noise())
    assert (np.asarray(invert(picture)) == 255 - noise()).all()
    assert invert(invert(picture)).tobytes() == picture.tobytes()
    cut = np.asarray(threshold(picture, 100))
    assert set(np.unique(cut)) == {0, 255}
    assert ((cut[..., 0] == 255) == (np.asarray(picture.convert("L")) >= 100)).all()


@pytest.mark.parametrize("mode", ["L", "I;16", "I", "F"])
def test_depth_of_any_depth_is_spread_with_the_nearest_white(mode: str) -> None:
    kinds = {"L": np.uint8, "I;16": np.uint16, "I": np.int32, "F": np.float32}
    top = 200 if mode == "L" else 40_000
    x = np.linspace(top // 10, top, 64).reshape(8, 8).astype(kinds[mode])
    picture = Image.fromarray(x)
    assert picture.mode == mode
    bright, dark = (np.asarray(depth(picture, near=near))[..., 0] for near in ("bright", "dark"))
    assert (bright.min(), bright.max()) == (0, 255) and bright[-1, -1] == 255
    assert np.abs(dark.astype(int) - (255 - bright.astype(int))).max() <= 1  # halves round to even


def test_what_was_not_measured_is_farthest() -> None:
    x = np.array([[0.0, 2.0], [4.0, np.inf]], np.float32)
    found = np.asarray(depth(Image.fromarray(x), near="dark", missing=0.0))[..., 0]
    assert found.tolist() == [[0, 255], [0, 0]]
    with pytest.raises(ImageError, match="the same all over"):
        depth(Image.fromarray(np.full((4, 4), 7, np.uint16)))
    with pytest.raises(ImageError, match="the same all over"):
        depth(Image.fromarray(np.zeros((4, 4), np.uint16)), missing=0)


def test_normals_go_from_frame_to_frame_and_back() -> None:
    r = np.random.default_rng(0).normal(size=(8, 8, 3))
    unit = r / np.linalg.norm(r, axis=2, keepdims=True)
    picture = Image.fromarray(np.rint((unit + 1) * 127.5).astype(np.uint8))
    for frame, signs in FRAMES.items():
        there = normals(picture, frame="opengl", to=frame)
        vectors = np.asarray(there) / 127.5 - 1
        assert np.abs(vectors - unit * signs).max() < 0.02
        back = normals(there, frame=frame, to="opengl")
        assert np.abs(np.asarray(back).astype(int) - np.asarray(picture)).max() <= 1
    half = Image.fromarray(np.full((2, 2, 3), (127, 127, 191), np.uint8))
    assert (np.asarray(normals(half, frame="opengl"))[..., 2] == 255).all()


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda p: canny(p, 200, 100), RequestError, "0 <= low <= high"),
        (lambda p: canny(p, -1, 100), RequestError, "0 <= low"),
        (lambda p: canny(p, 100, 9000), RequestError, "2040"),
        (lambda p: canny(p, float("nan"), 100), RequestError, "low"),
        (lambda p: canny(p, sigma=-1.0), RequestError, "0 to 256"),
        (lambda p: soft(p, kind="prewitt"), RequestError, "sobel or laplace"),
        (lambda p: blur(p, float("nan")), RequestError, "0 to 256"),
        (lambda p: tile(p, 0), RequestError, "1 to 64 times"),
        (lambda p: tile(p, 65), RequestError, "1 to 64 times"),
        (lambda p: threshold(p, 0), RequestError, "1 to 255"),
        (lambda p: depth(p, near="white"), UnknownNameError, "bright"),
        (lambda p: normals(p, frame="blender"), UnknownNameError, "opengl"),
        (lambda p: normals(p.convert("L"), frame="opengl"), ImageError, "mode L"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    make: Callable[[Image.Image], Image.Image], error: type[SafelightError], said: str
) -> None:
    with pytest.raises(error, match=said):
        make(shown(noise()))


@pytest.mark.parametrize("make", [canny, soft, blur, tile, invert, threshold])
def test_pictures_of_any_mode_and_of_one_pixel_become_rgb_of_the_same_size(
    make: Callable[[Image.Image], Image.Image],
) -> None:
    for mode in ("L", "RGBA", "P", "1", "CMYK"):
        made = make(shown(noise()).convert("RGB").convert(mode))
        assert (made.mode, made.size) == ("RGB", (80, 64))
    if make is not tile:
        assert make(Image.new("RGB", (1, 1))).size == (1, 1)
