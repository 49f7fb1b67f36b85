"""Views are drawn as asked: with a scale for each, and what cannot be is refused before anything is computed."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from safelight.errors import RequestError, SafelightError
from safelight.generate.picture import to_picture
from safelight.generate.telling import encode
from safelight.generate.views import settle
from tests.generate.sets import asked, bumps, cameras, drawn, flat, model, person, watched

WIDE = flat(0, 0, 0).resize((32, 16))


def test_a_scale_for_each_view_is_heard_by_that_view() -> None:
    apart = model(reads="self")  # where no view reads another, so that the scale of one changes it alone
    mixed = drawn(apart, asked(guidance=(2.0, 5.0, 1.0)))
    for view, scale in enumerate((2.0, 5.0, 1.0)):
        torch.testing.assert_close(mixed[:, :, view], drawn(apart, asked(guidance=scale))[:, :, view])
    assert torch.equal(drawn(model(), asked(guidance=(2.0,) * 3)), drawn(model(), asked(guidance=2.0)))
    assert torch.equal(drawn(model(), asked(guidance=[2.0])), drawn(model(), asked(guidance=2.0)))
    assert not torch.equal(drawn(model(), asked(guidance=(2.0, 2.0, 5.0))), drawn(model(), asked(guidance=2.0)))


def test_normals_with_a_scale_of_their_own_lead_beyond_the_portrait() -> None:
    of, shown = model(), {"normals": bumps(), "own_normals": flat(255, 128, 128)}
    three = drawn(of, asked(**shown, guidance=2.0, normals_guidance=3.0))
    assert not torch.equal(three, drawn(of, asked(**shown, guidance=2.0)))
    unseen = drawn(of, asked(guidance=2.0))  # which a model that reads normals takes for normals that are hidden
    torch.testing.assert_close(drawn(of, asked(**shown, guidance=2.0, normals_guidance=0.0)), unseen)
    plain = drawn(of, asked(**shown, guidance=1.0))
    torch.testing.assert_close(drawn(of, asked(**shown, guidance=1.0, normals_guidance=1.0)), plain)
    apart = model(reads="self")
    mixed = drawn(apart, asked(**shown, guidance=2.0, normals_guidance=(0.0, 3.0, 3.0)))
    for view, scale in enumerate((0.0, 3.0, 3.0)):
        alone = drawn(apart, asked(**shown, guidance=2.0, normals_guidance=scale))
        torch.testing.assert_close(mixed[:, :, view], alone[:, :, view])


def test_views_are_refined_from_pictures_by_as_much_as_the_strength_says() -> None:
    of, given = model("pose"), [person(view) for view in range(3)]
    known = encode(of, given).transpose(0, 1)[None]
    plain, seen = asked(begin=given, guidance=1.0), {}
    for strength, steps, run in ((0.001, 1000, 1), (0.4, 20, 8), (0.8, 20, 16), (1.0, 20, 20)):
        seen[strength] = watched(of, replace(plain, strength=strength, steps=steps))
        assert len(seen[strength]) == run
    away = [float((steps[-1].latents - known).abs().mean()) for steps in seen.values()]
    assert away == sorted(away) and away[0] < 0.05 * away[2], away
    back = np.asarray(to_picture(of.vae.decode(of.latent.unscaled(known[:, :, 1])))).astype(float)
    near, far = (np.abs(seen[strength][-1].pictures()[1] - back).mean() for strength in (0.001, 1.0))
    assert near < 0.2 * far, (near, far)  # the random autoencoder makes much of little noise
    noise = drawn(of, asked(steps=20, guidance=1.0))
    assert torch.equal(seen[1.0][-1].latents, noise), "the first level of this path is pure noise"
    assert settle(of, asked(begin=given)).strength == 0.75


def test_views_in_slots_are_the_same_where_they_do_not_read_each_other() -> None:
    apart, request = model(reads="self"), asked(cameras=cameras(5), normals=bumps(5), steps=3)
    torch.testing.assert_close(drawn(apart, replace(request, slots=2)), drawn(apart, request))
    mapped = replace(request, normals=bumps(5))
    rays = model(reads="self", camera="plucker")
    torch.testing.assert_close(drawn(rays, replace(mapped, slots=2)), drawn(rays, mapped))


def test_slots_bound_the_views_of_a_call_and_change_no_bit_where_all_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    of, request, sizes = model(), asked(cameras=cameras(5), steps=3), []
    whole = drawn(of, request)
    for slots in (5, 64):
        assert torch.equal(drawn(of, replace(request, slots=slots)), whole)
    parted = drawn(of, replace(request, slots=2))
    assert torch.equal(drawn(of, replace(request, slots=2)), parted) and not torch.equal(parted, whole)
    assert not torch.equal(drawn(of, replace(request, slots=3)), parted)
    forward = type(of.network).forward

    def counted(self: object, x: torch.Tensor, *told: object) -> torch.Tensor:
        sizes.append(x.shape[2])
        return forward(self, x, *told)  # type: ignore[arg-type]

    monkeypatch.setattr(type(of.network), "forward", counted)
    drawn(of, replace(request, slots=2))
    assert [sum(sizes[place : place + 3]) for place in (0, 3, 6)] == [5, 5, 5] and max(sizes) == 2 and len(sizes) == 9


def test_models_that_know_views_by_their_numbers_refuse_slots_for_a_few() -> None:
    behind = model("pose", reads="front-self")  # a portrait behind the views is the front of any few of them
    assert len(drawn(behind, asked(slots=2))) == len(drawn(behind, asked()))
    unslotted = replace(behind, preset=replace(behind.preset, slot=False))
    with pytest.raises(RequestError, match="front-self"):
        settle(unslotted, asked(slots=2, portrait=None))
    assert settle(unslotted, asked(slots=3, portrait=None)).steps


def test_a_shift_moves_every_level_towards_noise_by_the_root_of_the_views_that_are_drawn_at_once() -> None:
    of = model("pose")
    own = settle(of, asked(cameras=cameras(6), steps=5)).levels
    for changes, factor in (
        ({"shift": "views"}, 6.0**0.5),
        ({"shift": "views", "slots": 4}, 2.0),
        ({"shift": "views", "slots": 64}, 6.0**0.5),
        ({"shift": 3.0, "slots": 4}, 3.0),
    ):
        moved = settle(of, asked(cameras=cameras(6), steps=5, **changes)).levels
        assert (moved[0], moved[-1]) == (own[0], own[-1])
        for level, before in zip(moved[1:-1], own[1:-1], strict=True):
            assert level.lam == pytest.approx(before.lam - math.log(factor))
            assert level.t > before.t
    assert settle(of, asked(cameras=cameras(1), shift="views")).levels == settle(of, asked(cameras=cameras(1))).levels
    assert not torch.equal(drawn(of, asked(shift="views")), drawn(of, asked()))
    refined = settle(of, asked(cameras=cameras(6), steps=5, shift=3.0, begin=bumps(6), strength=0.5))
    assert refined.levels == settle(of, asked(cameras=cameras(6), steps=5, shift=3.0)).levels[3:]


WRONG: list[tuple[str, dict[str, object], str]] = [
    ("pose", {"guidance": (1.0, 2.0)}, "2 scales of guidance were given for 3 views"),
    ("pose", {"guidance": (1.0, 2.0, -1.0)}, "guidance is a number from 0 to 100, not -1"),
    ("pose", {"guidance": ()}, "0 scales of guidance"),
    ("pose", {"guidance": float("nan")}, "0 to 100, not nan"),
    ("pose", {"steps": 0}, "1 to 1000"),
    ("pose", {"normals_guidance": 2.0}, "pose reads no normals"),
    ("normals", {"normals_guidance": 2.0}, "there are no normals to lead by"),
    ("normals", {"normals": bumps(), "normals_guidance": (1.0, 2.0)}, "2 scales of guidance of normals were"),
    ("normals", {"normals": bumps(), "normals_guidance": 101.0}, "guidance of normals is a number from 0 to 100"),
    ("normals", {"normals": bumps(2)}, "2 pictures of normals were given for 3 views"),
    ("normals", {"normals": [*bumps(2), WIDE]}, "of another shape"),
    ("normals", {"normals": [*bumps(2), person()]}, "the normals of view 2: "),
    ("normals", {"normals": bumps(), "own_normals": person()}, "the normals of the portrait: "),
    ("normals", {"normals": bumps(), "own_normals": WIDE}, "of another shape"),
    ("pose", {"begin": bumps(2)}, "2 pictures to refine were given for 3 views"),
    ("pose", {"begin": [*bumps(2), WIDE]}, "the views to refine: the picture is 32 x 16"),
    ("pose", {"strength": 0.5}, "a strength is of pictures to refine"),
    ("pose", {"begin": bumps(), "strength": 0.0}, "leaves no step"),
    ("pose", {"begin": bumps(), "strength": 0.4}, "leaves no step"),
    ("pose", {"begin": bumps(), "strength": 1.01}, "strength lies between 0 and 1"),
    ("pose", {"begin": bumps(), "strength": float("nan")}, "strength lies between 0 and 1"),
    ("pose", {"sampler": "eular"}, "euler"),
    ("pose", {"cameras": cameras(0)}, "1 to 64 views, not 0"),
    ("pose", {"cameras": cameras(65)}, "1 to 64 views, not 65"),
    ("pose", {"cameras": replace(cameras(), position=cameras().position / 8)}, "view 0 stands inside the head"),
    ("pose", {"cameras": replace(cameras(), focal=torch.tensor([[60.0, 60.0]] * 2 + [[75.0, 75.0]]))}, "of lenses"),
    ("pose", {"cameras": cameras().orthographic(3.0)}, "perspective cameras"),
    ("pose", {"slots": 0}, "1 and up, not 0"),
    ("pose", {"slots": -1}, "1 and up, not -1"),
    ("pose", {"shift": "view"}, "a number above 0, or 'views', not 'view'"),
    ("pose", {"shift": 0.0}, "a number above 0, not 0"),
    ("pose", {"shift": float("inf")}, "a number above 0"),
    ("pose", {"shift": float("nan")}, "a number above 0"),
    ("pose", {"normals": bumps()}, "pose reads no normals"),
]


@pytest.mark.parametrize(("kind", "changes", "told"), WRONG)
def test_what_cannot_be_is_refused_before_anything_is_computed(
    kind: str, changes: dict[str, object], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = model(kind)
    for module in of.modules:
        monkeypatch.setattr(type(module), "forward", refused)
    monkeypatch.setattr(type(of.vae), "encode", refused)
    with pytest.raises(SafelightError, match=re.escape(told)):
        drawn(of, asked(**changes))


def refused(*_: object) -> None:
    raise AssertionError("a network was asked")
