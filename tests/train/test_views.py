"""The model of views is learned: a step depends on its number alone, and a killed run goes on to the same bits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from safelight.core.camera import Camera
from safelight.errors import CheckpointError, ConfigError, RequestError, UnknownNameError
from safelight.generate.picture import colours
from safelight.generate.views import ViewRequest, draw
from safelight.multiview.model import ViewModel, load
from safelight.runtime.device import pick
from safelight.train.figurines.autoencoder import Squeezing
from safelight.train.figurines.places import PixelWeights, picture_weights
from safelight.train.figurines.portraits import Portraits
from safelight.train.run import Clock
from safelight.train.views import stages
from safelight.train.views.begin import begun, unpack
from safelight.train.views.course import Course
from safelight.train.views.export import export
from safelight.train.views.plan import Plan, read
from safelight.train.views.scenes import load as load_scenes
from safelight.train.views.viewing import Latents, Seeing

NEVER = Clock(None)
TINY = (
    *("data.people=4", "data.views=3", "data.size=16", "data.workers=1"),
    *("vae.channels=[4,4,8]", "vae.groups=4", "vae.crop=16", "vae_fit.steps=2", "vae_fit.batch=4"),
    *("views.channels=[8,16]", "views.attended=[1]", "views.heads=[2]", "views.groups=4", "views.counts=[1,3]"),
    "views.normals=false",
    *("views_fit.steps=4", "views_fit.batch=8", "views_fit.save_every=2", "views_fit.precision=fp32"),
    *("vae_fit.precision=fp32", "views_fit.sample_every=4"),
    *("decoder_fit.steps=2", "decoder_fit.batch=4", "decoder_fit.precision=fp32"),
)


def tiny(*changes: str) -> Plan:
    return read(None, [*TINY, *changes])


def end(stage: object) -> None:
    for _ in stage:  # type: ignore[attr-defined]
        pass


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("views")
    end(stages.render(run, tiny()))
    end(stages.learn_vae(run, tiny(), NEVER))
    return run


def latents(normals: float = 1.0) -> Latents:
    g = torch.Generator().manual_seed(0)
    pictures = torch.randn(5, 4, 4, 4, 4, generator=g)
    return Latents(pictures, pictures * normals, torch.randn(5, 4, 16, generator=g))


def seeing(*changes: str, batch: int = 8, steps: int = 10) -> Seeing:
    plan = tiny(*changes)
    return Seeing(plan.views, latents(), plan.path, batch, 0, steps)


@pytest.mark.parametrize("normals", [False, True])
def test_a_run_is_drawn_and_goes_on_to_the_same_bits(normals: bool, rendered: Path) -> None:
    changes = [f"views.normals={str(normals).lower()}"]
    found = []
    for name, stops in (("whole", (4,)), ("killed", (2, 4))):
        run = rendered.with_name(f"{rendered.name}-{name}-{normals}")
        run.mkdir()
        for part in ("data", "vae"):
            (run / part).symlink_to(rendered / part)
        for stop in stops:
            begun = stages.learn_views(run, tiny(*changes), NEVER)
            for progress in begun:
                if progress.stage == "views" and progress.done == stop:
                    break
            begun.close() if stop < 4 else end(begun)
        found.append((run / "views/average.safetensors").read_bytes())
    assert found[0] == found[1]
    assert (run / "views/samples.png").stat().st_size > 1000


def test_a_model_begins_from_one_that_knows_less_and_answers_as_it_does(tmp_path: Path, rendered: Path) -> None:
    known = rendered.with_name(f"{rendered.name}-known")
    known.mkdir()
    for part in ("data", "vae"):
        (known / part).symlink_to(rendered / part)
    plan = tiny("views.camera=", "views.counts=[1]")
    end(stages.learn_views(known, plan, NEVER))
    folder = export(known, plan, tmp_path / "known", {})
    wider = ("views.normals=true", "views.attended=[0,1]", "views.detail=0.5")
    run, more = tmp_path / "run", tiny(*wider, "views_fit.lr=1e-12", "views_fit.steps=1")
    run.mkdir()
    (run / "data").symlink_to(rendered / "data")
    course = Course(run, more, NEVER, "cpu")
    for _ in range(2):  # the second time nothing is left to do, and the folder is not taken over again
        for stage in course.stages(folder):
            end(stage)
    made, _ = course.publish()
    assert course.card()["training"]["begun from"] == "known"
    person = load_scenes(rendered / "data")
    portrait = Image.fromarray(person.pictures[0, 0])
    request = ViewRequest(portrait, Camera.orbit([40.0], [6.0], distance=2.6, fov=30.0, size=16), steps=2)
    answers = []
    leaning = Image.new("RGB", portrait.size, (128, 200, 230))
    for place, asked in ((folder, request), (made, replace(request, normals=[leaning], own_normals=leaning))):
        *_, last = draw(load(place, pick("cpu")), asked)
        answers.append(last.latents)
    torch.testing.assert_close(*answers, atol=1e-2, rtol=0)  # the autoencoder was rounded, and with it a scale
    assert answers[0].std() > 0.3


@pytest.mark.parametrize("camera", ["pose16", "plucker"])
def test_hidden_normals_make_a_second_model_that_reads_none(camera: str, tmp_path: Path, rendered: Path) -> None:
    for part in ("data", "vae"):
        (tmp_path / part).symlink_to(rendered / part)
    plan = tiny("views.normals=true", f"views.camera={camera}")
    course = Course(tmp_path, plan, NEVER, "cpu")
    assert not course.publish()
    end(stages.learn_views(tmp_path, plan, NEVER))
    shown, plain = (load(folder, pick("cpu")) for folder in course.publish())
    assert [model.preset.name for model in (shown, plain)] == ["figurines-views-normals", "figurines-views"]
    person = load_scenes(rendered / "data")
    portrait, normals = (Image.fromarray(pictures[0, 0]) for pictures in (person.pictures, person.normals))
    request = ViewRequest(portrait, Camera.orbit([40.0], [6.0], distance=8.0, fov=24.0, size=16), steps=2)
    bare, alone, told = (
        list(draw(model, asked))[-1].latents
        for model, asked in (
            (shown, request),
            (plain, request),
            (shown, replace(request, normals=[normals], own_normals=normals)),
        )
    )
    torch.testing.assert_close(bare, alone, atol=1e-5, rtol=1e-5)
    assert (told - bare).abs().max() > 1e-3
    never = Course(tmp_path, replace(plan, views=replace(plan.views, bare=0.0)), NEVER, "cpu")
    assert len(never.publish()) == 1


def test_a_model_does_not_begin_from_one_that_knows_more(tmp_path: Path) -> None:
    more, less = seeing("views.normals=true").module, seeing().module
    with pytest.raises(CheckpointError, match=r"x: is no part .*conv_in\.weight"):
        begun(dict(more.named_parameters()), less, "x")
    with pytest.raises(CheckpointError, match="is no part"):
        begun({name: tensor for name, tensor in less.named_parameters() if "conv_out" not in name}, more, "x")
    (tmp_path / "vae").mkdir()
    with pytest.raises(CheckpointError, match="new folder"):
        unpack(tmp_path, tmp_path, tiny(), tmp_path / "start.safetensors")


def test_sets_of_one_view_come_first_then_all_counts() -> None:
    task = seeing("views.single=0.3", steps=100)
    counts = [task.count(step) for step in range(100)]
    assert set(counts[:30]) == {1} and set(counts[30:]) == {1, 3}
    assert counts == [seeing("views.single=0.3", steps=100).count(step) for step in range(100)]


def test_what_a_set_holds_belongs_together_and_portraits_are_hidden_now_and_then() -> None:
    task = seeing("views.empty=0.5", "views.bare=0.5", "views.normals=true", batch=40)
    known = task.latents
    hidden = bare = 0
    for step in range(20):
        x0, told, _ = task.example(step, 10, 3)
        assert told.reference is not None and told.cameras is not None and told.shown is not None
        for i in range(10):
            person = next(n for n in range(5) if (known.pictures[n, 1:] == x0[i, :, 0]).all(dim=(1, 2, 3)).any())
            for v in range(3):
                view = next(k for k in range(1, 4) if torch.equal(known.pictures[person, k], x0[i, :, v]))
                assert torch.equal(told.cameras[i, v], known.cameras[person, view])
                if told.shown[i].any():
                    assert torch.equal(told.shown[i, :, v], known.normals[person, view])
            if told.reference[i].any():
                assert torch.equal(told.reference[i], known.pictures[person, 0])
            hidden += not bool(told.reference[i].any())
            bare += not bool(told.shown[i].any())
    assert 60 < hidden < 140 and 60 < bare < 140


@pytest.mark.parametrize("reads", ["dense", "rows", "columns", "rows-columns", "front-self", "same-pixel", "temporal"])
def test_the_loss_hears_the_portrait_and_the_cameras(reads: str) -> None:
    task = seeing("views.single=0", "views.empty=0", f"views.layout={reads}")
    for p in task.module.parameters():
        torch.nn.init.normal_(p, 0, 0.2, generator=torch.Generator().manual_seed(len(p.shape)))
    plain = task.loss(3, slice(0, 8))
    assert torch.equal(plain, task.loss(3, slice(0, 8)))
    for part in (task.latents.cameras, task.latents.pictures[:, 0]):
        part.neg_()
        assert not torch.equal(plain, task.loss(3, slice(0, 8)))


def test_places_count_as_they_weigh_unless_the_portrait_is_hidden() -> None:
    for empty, counted in ((0.0, 0.0), (1.0, 1.0)):
        task = seeing("views.single=0", f"views.empty={empty}")
        plain = task.loss(3, slice(0, 8))
        task.latents = replace(task.latents, places=torch.zeros(5, 4, 4, 4))
        torch.testing.assert_close(task.loss(3, slice(0, 8)), plain * counted)


def test_the_decoder_learns_pictures_alone_and_small_parts_most(
    rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Squeezing] = []
    monkeypatch.setattr(stages, "Squeezing", lambda *given: made.append(Squeezing(*given)) or made[-1])
    for part in ("data", "vae"):
        (tmp_path / part).symlink_to(rendered / part)
    end(stages.learn_decoder(tmp_path, tiny("decoder.detail=1"), NEVER))
    (task,), seen = made, load_scenes(rendered / "data")
    assert len(task.portraits.pictures) == seen.labels[..., 0, 0].size, "no normals"
    batch = task.seen(0)
    chosen = [
        next(k for k, one in enumerate(seen.pictures.reshape(-1, 16, 16, 3)) if torch.equal(colours(one[None])[0], row))
        for row in batch[:, :3]
    ]
    wanted = picture_weights(seen.labels.reshape(-1, 16, 16), 1, 1.0)[chosen]
    torch.testing.assert_close(batch[:, 3], wanted)
    assert wanted.max() > 10 * wanted.min()


def test_pixels_of_an_autoencoder_count_as_they_weigh(rendered: Path) -> None:
    plan, seen = tiny("vae.coarse=0", "vae.kl=0"), load_scenes(rendered / "data")
    shown, losses = Portraits(stages.Flat([seen.pictures]), seen.codes), []
    for factor in (1.0, 2.0):
        weights = PixelWeights(stages.parts(seen), 0.5)
        weights.share *= factor
        losses.append(Squeezing(plan.vae, shown, 4, 0, "cpu", weights).loss(1, slice(0, 4)))
    torch.testing.assert_close(losses[1], 2 * losses[0])


def test_a_folder_that_claims_what_its_preset_cannot_be_is_refused(rendered: Path, tmp_path: Path) -> None:
    published(rendered, tmp_path)
    place = tmp_path / "model" / "safelight.json"
    notes = json.loads(place.read_text("utf-8"))
    wrong: list[tuple[dict[str, object], str]] = [
        ({"layout": "dens"}, "layout"),
        ({"slot": False}, "slot cannot be changed"),
        ({"size": 0}, "size"),
    ]
    for changes, told in wrong:
        place.write_text(json.dumps({**notes, "changes": changes}), "utf-8")
        with pytest.raises(ConfigError, match=told):
            load(tmp_path / "model", pick("cpu"))


def test_plans_that_cannot_be_are_refused() -> None:
    for changes, kind in (
        (["views.camera=zero123"], ConfigError),
        (["views.camera=pose61"], UnknownNameError),
        (["views.counts=[0]"], ConfigError),
        (["views.single=2"], ConfigError),
        (["views.heads=[2,2,2]"], ConfigError),
        (["views.layout=dens"], UnknownNameError),
        (["data.people=0"], ConfigError),
        (["views.no=1"], UnknownNameError),
        (["decoder.detail=1.5"], ConfigError),
        (["portraits.count=1"], UnknownNameError),
    ):
        with pytest.raises(kind):
            tiny(*changes)
    with pytest.raises(ConfigError, match="there are 3 views"):
        seeing("views.counts=[1,4]")
    with pytest.raises(ConfigError, match="equal parts"):
        seeing("views.single=0", "views.counts=[3]").loss(0, slice(0, 2))


def published(rendered: Path, place: Path, *changes: str) -> ViewModel:
    """A run to the end on scenes and autoencoder that are there, as a loaded model."""
    run = place / "run"
    run.mkdir()
    for part in ("data", "vae"):
        (run / part).symlink_to(rendered / part)
    end(stages.learn_views(run, tiny(*changes), NEVER))
    return load(export(run, tiny(*changes), place / "model", {"what": "a test"}), pick("cpu"))


@pytest.mark.parametrize(
    "changes",
    [
        ("views.camera=plucker",),
        ("views.camera=plucker", "views.normals=true"),
        ("views.camera=", "views.normals=true"),
        ("views.layout=rows",),
    ],
)
def test_other_ways_to_be_told_cameras_and_to_read_are_published_as_such(
    changes: tuple[str, ...], rendered: Path, tmp_path: Path
) -> None:
    model, plan = published(rendered, tmp_path, *changes), tiny(*changes)
    assert (model.preset.size, model.preset.layout, model.preset.camera) == (16, plan.views.layout, plan.views.camera)
    with torch.no_grad():
        for weight in model.network.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)), alpha=0.1)
    portrait = Image.fromarray(load_scenes(rendered / "data").pictures[0, 0])
    drawn = []
    for azimuth in (30.0, 90.0):
        cameras = Camera.orbit(torch.tensor([azimuth, 180.0]), 10.0, 8.0, 24.0, 16)
        *_, last = draw(model, ViewRequest(portrait, cameras, steps=1))
        drawn.append(last.latents)
    assert torch.equal(*drawn) is (not plan.views.camera)  # told nothing, it cannot know


def test_what_is_published_loads_and_draws_what_the_run_would(rendered: Path, tmp_path: Path) -> None:
    model, run = published(rendered, tmp_path), tmp_path / "run"
    assert model.preset.name == "figurines-views"
    cameras = Camera.orbit(torch.tensor([0.0, 90.0, 180.0]), 10.0, 8.0, 24.0, 16)
    portrait = Image.fromarray(load_scenes(run / "data").pictures[0, 0])
    asked = ViewRequest(portrait, cameras, steps=2, seed=3)
    *_, last = draw(model, asked)
    assert last.last and last.step == 2 and last.pictures().shape == (3, 16, 16, 3)
    *_, again = draw(model, asked)
    assert torch.equal(last.latents, again.latents)
    *_, other = draw(model, replace(asked, seed=4))
    assert not torch.equal(last.latents, other.latents)
    with pytest.raises(RequestError, match="reads no normals"):
        list(draw(model, replace(asked, normals=[portrait] * 3)))
    with pytest.raises(RequestError, match="steps"):
        list(draw(model, replace(asked, steps=0)))
