"""What the pictures of figurines promise."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from safelight.core.camera import Camera
from safelight.errors import RequestError, UnknownNameError
from safelight.figurines.figure import figure
from safelight.figurines.matte import matte
from safelight.figurines.palette import BACKGROUND, CLEARANCE
from safelight.figurines.person import ATTRIBUTES, Person, random_people, visible
from safelight.figurines.render import BUFFERS, GLOSS, GLOSSY, SHADES, portrait, portrait_camera, render, view_camera
from safelight.figurines.shapes import LABELS

PLAIN = Person(
    skin="tan", hair="short", hair_color="brown", eyes="blue", mouth="smile", nose="small", ears="round", hat="none",
    hat_color="red", glasses="none", clothes="plain", clothes_color="blue", mark_side="left", mark_color="red",
    head="round", background="lime",
)  # fmt: skip
PEOPLE = random_people(np.random.default_rng(7), 12)


def labels(person: Person, camera: Camera, coarse: bool = False) -> np.ndarray:
    return render(person, camera, buffers=("labels",), coarse=coarse).labels


def where(labelled: np.ndarray, name: str) -> np.ndarray:
    return np.argwhere(labelled == LABELS.index(name))


def test_only_what_is_asked_for_is_drawn():
    drawn = render(PLAIN, portrait_camera(32))
    assert drawn.rgb.dtype == np.uint8
    assert drawn.rgb.shape == (32, 32, 3)
    assert drawn.depth is drawn.labels is drawn.normals_world is None
    everything = render(PLAIN, portrait_camera(32), buffers=BUFFERS)
    assert all(value is not None for value in vars(everything).values())


def test_a_portrait_is_the_canonical_view_and_always_the_same():
    assert np.array_equal(portrait(PLAIN), render(PLAIN, portrait_camera()).rgb)


def test_pictures_may_be_wider_than_high():
    drawn = render(PLAIN, Camera.orbit(0.0, distance=8.0, fov=24.0, size=(24, 40)), buffers=BUFFERS)
    assert drawn.rgb.shape == (24, 40, 3)
    assert drawn.labels[:, :8].max() == 0


def test_coverage_counts_the_samples_and_empty_pixels_have_the_background():
    fine = render(PLAIN, portrait_camera(64), samples=16)
    coarse = render(PLAIN, portrait_camera(64))
    assert set(np.unique(coarse.mask)) <= {0, 0.25, 0.5, 0.75, 1}
    assert np.abs(coarse.mask - fine.mask).mean() < 0.01
    ground = np.rint(np.array(BACKGROUND["lime"]) * 255)
    assert (coarse.rgb[coarse.mask == 0] == ground).all()


@pytest.mark.parametrize("person", PEOPLE[:4])
def test_exact_buffers_belong_to_the_pixels_centre(person):
    """The middle of three by three small pixels has the centre of the large one."""
    camera = view_camera(30.0, 15.0, 40)
    large, small = (render(person, c, buffers=BUFFERS) for c in (camera, camera.resized(120)))
    same = large.labels == small.labels[1::3, 1::3]
    assert same.mean() > 0.998
    assert np.allclose(large.depth[same], small.depth[1::3, 1::3][same], atol=1e-4)
    assert np.allclose(large.normals_world[same], small.normals_world[1::3, 1::3][same], atol=2e-2)


@pytest.mark.parametrize("person", PEOPLE[:3])
@pytest.mark.parametrize("parallel", [False, True])
def test_normals_are_unit_face_the_viewer_and_agree_between_frames(person, parallel):
    camera = view_camera(-50.0, 20.0, 64)
    camera = camera.orthographic(3.4) if parallel else camera
    drawn = render(person, camera, buffers=("normals", "depth", "labels"))
    figure_pixels = drawn.labels > 0
    assert np.array_equal(figure_pixels, np.isfinite(drawn.depth))
    assert np.allclose((drawn.normals_world[figure_pixels] ** 2).sum(-1), 1, atol=1e-4)
    assert (drawn.normals_world[~figure_pixels] == 0).all()
    assert np.allclose(drawn.normals_world, drawn.normals_camera @ camera.rotation.numpy().T, atol=1e-5)
    directions = camera.rays()[1].numpy()
    assert ((drawn.normals_world * directions).sum(-1) <= 1e-5).all()
    assert drawn.normals_camera[figure_pixels][:, 2].mean() < -0.5


def test_depth_and_normals_describe_one_surface():
    camera = view_camera(0.0, 0.0, 96)
    drawn = render(PLAIN, camera, buffers=("depth", "normals", "labels"))
    u, v = ((np.arange(96) + 0.5 - 48) / camera.focal[0].item() for _ in "uv")
    points = np.stack([u[None] * drawn.depth, v[:, None] * drawn.depth, drawn.depth], -1)
    cloth = drawn.labels == LABELS.index("clothes")
    inner = cloth[1:-1, 1:-1] & cloth[:-2, 1:-1] & cloth[2:, 1:-1] & cloth[1:-1, :-2] & cloth[1:-1, 2:]
    points[~cloth] = 0
    across, along = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
    normal = np.cross(along, across)[inner]
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    cosine = (normal * drawn.normals_camera[1:-1, 1:-1][inner]).sum(-1)
    assert np.median(np.abs(cosine)) > 0.999
    assert np.median(cosine) > 0


@pytest.mark.parametrize("parallel", [False, True])
def test_two_cameras_see_the_same_surface(parallel):
    first, second = view_camera(0.0, 10.0, 96), view_camera(25.0, 10.0, 96)
    second = second.orthographic(3.4) if parallel else second
    a, b = (render(PLAIN, c, buffers=("depth", "labels")) for c in (first, second))
    rows, columns = where(a.labels, "skin").T
    origins, directions = first.rays()
    slope = directions @ first.rotation[:, 2]
    points = origins[rows, columns] + directions[rows, columns] * (
        torch.tensor(a.depth[rows, columns]) / slope[rows, columns]
    ).unsqueeze(-1)
    pixels, depth = second.project(points)
    column, row = pixels.long().T.numpy()
    shown = b.labels[row, column] == LABELS.index("skin")
    assert shown.mean() > 0.6
    gap = np.abs(b.depth[row, column] - depth.numpy())[shown]
    assert np.median(gap) < 0.02


def test_a_person_faces_the_front_and_shows_their_own_left_on_the_right():
    front, back = labels(PLAIN, portrait_camera()), labels(PLAIN, view_camera(180.0, 6.0))
    assert len(where(front, "eye")) > 100
    assert len(where(front, "mouth")) > 100
    assert not len(where(back, "eye"))
    assert not len(where(back, "mark"))
    assert where(front, "mark")[:, 1].min() > 64
    assert where(labels(replace(PLAIN, mark_side="right"), portrait_camera()), "mark")[:, 1].max() < 64


def test_from_the_persons_left_only_the_left_mark_shows():
    left = view_camera(70.0, 6.0)
    assert len(where(labels(PLAIN, left), "mark")) > 20
    assert not len(where(labels(replace(PLAIN, mark_side="right"), left), "mark"))


def test_the_mark_covers_thirty_pixels_whatever_else_is_worn():
    parts = ("hair", "hat", "head", "glasses")
    people = [
        replace(PLAIN, **dict(zip(parts, values, strict=True))) for values in product(*(ATTRIBUTES[p] for p in parts))
    ]
    camera = portrait_camera()
    assert min(len(where(labels(person, camera), "mark")) for person in people[::3]) >= 30


def test_hats_and_hair_stay_inside_the_frame():
    for hair, hat, head in product(*(ATTRIBUTES[name] for name in ("hair", "hat", "head"))):
        seen = labels(replace(PLAIN, hair=hair, hat=hat, head=head, ears="big"), portrait_camera(64))
        assert not seen[0].any()
        assert not seen[:48, [0, -1]].any()


@pytest.mark.parametrize("person", random_people(np.random.default_rng(3), 6, "unseen"))
def test_what_cannot_be_named_cannot_be_seen(person):
    """But for hair under a hat, whose rim still tells a little."""
    for name in set(ATTRIBUTES) - set(visible(person)) - {"hair"}:
        for value in ATTRIBUTES[name]:
            assert np.array_equal(portrait(replace(person, **{name: value})), portrait(person))


@pytest.mark.parametrize("person", random_people(np.random.default_rng(4), 2, "unseen"))
def test_what_can_be_named_can_be_seen(person):
    before = portrait(person).astype(int)
    for name, value in visible(person).items():
        for other in set(ATTRIBUTES[name]) - {value}:
            change = np.abs(portrait(replace(person, **{name: other})).astype(int) - before).max(-1)
            assert (change > 20).sum() >= 30


def test_no_shade_of_any_part_comes_near_a_background():
    colors = set()
    for person in random_people(np.random.default_rng(0), 600, "unseen"):
        for shape in figure(person):
            colors |= {(part.color, part.label in GLOSSY) for part in (shape, *shape.decals)}
    shade = np.linspace(*SHADES, 26)[:, None, None]
    gloss = np.linspace(0, GLOSS, 5)[:, None]
    shaded = [np.array(color) * shade * (1 - gloss * shiny) + gloss * shiny for color, shiny in colors]
    for ground in BACKGROUND.values():
        assert min(np.sqrt(((s - ground) ** 2).sum(-1)).min() for s in shaded) >= CLEARANCE


def test_the_matte_of_a_picture_is_that_of_the_figure():
    for i, person in enumerate(random_people(np.random.default_rng(5), 24)):
        drawn = render(person, portrait_camera() if i % 2 else view_camera(9.0 * i, 20.0))
        found, true = matte(drawn.rgb, person.background if i % 4 < 2 else None), drawn.mask >= 0.5
        assert (found & true).sum() >= 0.99 * (found | true).sum()


@pytest.mark.parametrize("person", PEOPLE)
def test_coarse_geometry_does_not_depend_on_what_makes_the_outline(person):
    other = replace(person, hair="bald", hat="none", glasses="none", ears="big" if person.ears != "big" else "pointed")
    for name in ("normals_world", "depth", "labels"):
        ours, theirs = (render(p, portrait_camera(48), buffers=BUFFERS, coarse=True) for p in (person, other))
        assert np.array_equal(getattr(ours, name), getattr(theirs, name))
    assert not set(np.unique(ours.labels)) & {LABELS.index(part) for part in ("hair", "hat", "glasses", "ear")}


def test_the_look_has_not_changed_since_the_default_model_was_trained():
    blocks = portrait(PLAIN).reshape(8, 16, 8, 16, 3).mean((1, 3))
    assert np.allclose(blocks[2:6, 2:6].reshape(-1, 3), LOOK, atol=1.0)


LOOK = [
    (147, 144, 77),
    (112, 73, 47),
    (95, 53, 25),
    (139, 137, 70),
    (177, 141, 114),
    (180, 158, 149),
    (173, 151, 143),
    (152, 120, 96),
    (212, 184, 138),
    (180, 155, 143),
    (171, 149, 138),
    (180, 138, 104),
    (202, 226, 125),
    (165, 138, 106),
    (155, 130, 99),
    (195, 218, 118),
]
"""Mean colours of the sixteen blocks in the middle."""


def test_senseless_requests_are_refused():
    with pytest.raises(UnknownNameError, match="normals"):
        render(PLAIN, portrait_camera(), buffers=("normal",))
    with pytest.raises(RequestError, match="one camera"):
        render(PLAIN, Camera.orbit(torch.tensor([0.0, 1.0])))
    with pytest.raises(RequestError, match="square"):
        render(PLAIN, portrait_camera(), samples=3)


def test_a_camera_aside_sees_the_figure_moved_the_other_way() -> None:
    middle, aside = (render(PLAIN, view_camera(60.0, 20.0, 64, at)).mask for at in ((0.0, 0.0), (0.5, 0.25)))
    assert middle is not None and aside is not None
    rows, columns = np.indices((64, 64))
    down, right = (np.average(axis, weights=aside) - np.average(axis, weights=middle) for axis in (rows, columns))
    pixels = 64 / (2 * 8.0 * math.tan(math.radians(12.0)))  # a unit at the figure's distance
    assert right == pytest.approx(-0.5 * pixels, rel=0.1)
    assert down > 0  # cut off by the lower edge, so not by as much as it is moved
