"""Adapters taught on one's own pictures: what a step sees, that a kill changes nothing, what is refused.

Axes: B rows, latents [B, Z, h, w].
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from safelight.core.prediction import noised
from safelight.errors import CheckpointError, ConfigError, RequestError
from safelight.families.family import Prompt
from safelight.generate.pipe import Pipe, load
from safelight.train import checkpoint
from safelight.train.objective import Objective
from safelight.train.own import plan as plans
from safelight.train.own.course import Course, Learner
from safelight.train.own.image_prompt import Seeing
from safelight.train.own.latents import prepare
from safelight.train.own.lesson import Album, Lesson, check_teachable
from safelight.train.run import Clock
from safelight.weights.load import read
from safelight.weights.safetensors import read_header
from tests.models import tiny
from tests.train.album import course, learn, pipe, write_pictures
from tests.train.killed import kill_while_training

KINDS = ("lora", "controlnet", "textual-inversion", "ip-adapter")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("own") / "pictures")


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _task(learned: Course) -> Learner:
    *_, seen = prepare(learned.pipe.model, learned.entries, learned.sizes, learned.run / "latents")
    return learned.task(Album(learned.entries, tuple(seen)))


def _lesson(learned: Course, empty: float) -> Lesson:
    *_, seen = prepare(learned.pipe.model, learned.entries, learned.sizes, learned.run / "latents")
    return Lesson(learned.pipe.model, Album(learned.entries, tuple(seen)), Objective(min_snr=0.0), 2, 0, empty)


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_at_first_the_tokens_of_a_picture_learn_to_be_the_end_of_its_caption(
    kind: str, pictures: Path, tmp_path: Path
) -> None:
    first = ("ip_adapter.first=2", "ip_adapter.drop=0", "data.empty=1")
    learned = course("ip-adapter", tmp_path, pictures, *first, kind=kind)
    task, model = _task(learned), learned.pipe.model
    assert isinstance(task, Seeing)
    rows = task.lesson.draw(1, slice(0, 2)).rows
    with torch.no_grad():
        shown = torch.ones(2)
        tokens = task.tokens([task.look(row, False) for row in rows], shown)
        read = [model.encode(Prompt(learned.entries[row].caption, (32, 32))).cond.context for row in rows]
        wanted = torch.cat(read)[:, -tokens.shape[1] :]
        nothing = model.encode(Prompt("", (32, 32), negative=True)).cond.context[:, -tokens.shape[1] :]
    assert torch.equal(task.said(rows, shown), wanted)
    assert torch.equal(task.said(rows[:1], torch.zeros(1)), nothing) and not torch.equal(nothing, wanted[:1])
    loss = task.loss(1, slice(0, 2))
    assert loss.item() == pytest.approx((tokens - wanted).square().mean().item(), rel=1e-5)
    loss.backward()
    heard = {name for name, each in task.module.named_parameters() if each.grad is not None and each.grad.any()}
    assert any(name.startswith("sees.") for name in heard) and any("image_proj" in name for name in heard)
    assert not any("_ip." in name for name in heard)
    task.loss(2, slice(0, 2)).backward()
    assert all(each.grad is not None for name, each in task.module.named_parameters() if "_ip." in name)


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_a_step_shows_noisy_latents_their_level_and_the_caption_as_drawing_does(
    kind: str, pictures: Path, tmp_path: Path
) -> None:
    learned = course("lora", tmp_path, pictures, kind=kind)
    model = learned.pipe.model
    for empty in (0.0, 1.0):
        lesson = _lesson(learned, empty)
        for step in range(3):
            batch = lesson.draw(step, slice(0, 2))
            assert torch.equal(batch.x, noised(batch.x0, batch.eps, batch.levels))
            assert batch.t.tolist() == [level.t for level in batch.levels]
            for place, row in enumerate(batch.rows):
                seen = lesson.album.seen[row]
                assert torch.equal(batch.x0[place], seen.latents[0])
                sizes = {"original": seen.original, "crop": seen.crop, "target": seen.bucket}
                facts = {name: (float(a), float(b)) for name, (a, b) in sizes.items()} if kind == "sdxl" else {}
                text = "" if empty else learned.entries[row].caption
                prompt = Prompt(text, seen.bucket, negative=bool(empty), facts=facts)
                wanted = model.encode(prompt).cond
                assert torch.equal(batch.told.context[place], wanted.context[0])
                if kind == "sdxl":
                    assert torch.equal(batch.told.times[place], wanted.times[0])
                    assert (wanted.pooled == 0).all() == bool(empty), "XL is told nothing by zeros"
            half = lesson.draw(step, slice(1, 2))
            assert torch.equal(half.x[0], batch.x[1]) and torch.equal(half.told.context[0], batch.told.context[1])


def test_the_error_is_that_of_what_the_model_predicts(pictures: Path, tmp_path: Path) -> None:
    for kind, target in (("sd1", lambda b: b.eps), ("sd2", _v)):
        lesson = _lesson(course("lora", tmp_path / kind, pictures, kind=kind), 0.0)
        batch = lesson.draw(0, slice(0, 2))
        assert float(lesson.error(target(batch), batch)) < 1e-12
        assert float(lesson.error(batch.x0, batch)) > 0.1


def _v(batch: object) -> Tensor:
    rows = zip(batch.x0, batch.eps, batch.levels)  # type: ignore[attr-defined]
    return torch.stack([level.alpha * eps - level.sigma * x0 for x0, eps, level in rows])


def test_every_picture_is_seen_in_the_mirror_half_of_the_time(pictures: Path, tmp_path: Path) -> None:
    lesson = _lesson(course("lora", tmp_path, pictures, "data.flip=true"), 0.0)
    steps = [lesson.draw(step, slice(0, 2)) for step in range(40)]
    flips = [flip for batch in steps for flip in batch.mirrored]
    assert 25 < sum(flips) < 55
    for batch in steps[:5]:
        for x0, row, flip in zip(batch.x0, batch.rows, batch.mirrored):
            assert torch.equal(x0, lesson.album.seen[row].latents[int(flip)])


def test_a_killed_training_goes_on_to_the_same_bits(pictures: Path, tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    kill_while_training("tests.train.album", "lora", str(killed), str(pictures), checkpoints=killed / "checkpoints")
    survived = checkpoint.latest(killed / "checkpoints")
    assert survived is not None
    changes = (f"fit.steps={survived.step + 2}", "fit.save_every=1")
    first = learn("lora", killed, pictures, *changes)
    assert _equal(first, learn("lora", whole, pictures, *changes))
    assert _equal(read(killed / "killed.safetensors"), read(whole / "whole.safetensors"))


@pytest.mark.parametrize("what", KINDS)
def test_a_training_that_was_stopped_goes_on_to_the_same_bits(what: str, pictures: Path, tmp_path: Path) -> None:
    learn(what, tmp_path / "halves", pictures, "fit.steps=2")
    halves = learn(what, tmp_path / "halves", pictures, "fit.steps=4")
    assert _equal(halves, learn(what, tmp_path / "whole", pictures, "fit.steps=4"))


@pytest.mark.parametrize("what", KINDS)
def test_a_step_teaches_the_adapter_and_leaves_the_model_alone(what: str, pictures: Path, tmp_path: Path) -> None:
    changes = ("lora.text=true", "lora.targets=all") if what == "lora" else ()
    learned = course(what, tmp_path, pictures, *changes)
    model = learned.pipe.model
    before = {name: p.clone() for module in model.modules for name, p in module.state_dict().items()}
    for _ in learned.learn(Clock(None)):
        pass
    found = checkpoint.latest(tmp_path / "checkpoints")
    assert found is not None
    taught = [name for name, moment in found.tensors.items() if name.startswith("optimiser.exp_avg_sq.")]
    still = [name for name in taught if not found.tensors[name].any()]
    assert taught and not still, "every learned number has had a gradient"
    fresh = {name: p for module in pipe().model.modules for name, p in module.state_dict().items()}
    assert _equal(before, fresh)
    now = {name: p for module in model.modules for name, p in module.state_dict().items() if name in before}
    assert _equal(before, now)


def test_other_pictures_captions_or_settings_are_another_run(pictures: Path, tmp_path: Path) -> None:
    learn("lora", tmp_path / "run", pictures)
    with pytest.raises(CheckpointError, match=r"own\.alpha"):
        learn("lora", tmp_path / "run", pictures, "lora.alpha=2.0")
    with pytest.raises(CheckpointError, match=r"data\.trigger, pictures"):
        learn("lora", tmp_path / "run", pictures, "data.trigger=moss")
    with pytest.raises(CheckpointError, match="pictures"):
        learn("lora", tmp_path / "run", write_pictures(tmp_path / "other", [(32, 32)]))
    assert learn("lora", tmp_path / "run", pictures, "fit.steps=5")


@pytest.mark.parametrize("what", KINDS)
def test_previews_are_drawn_with_the_exported_file_and_leave_no_trace(
    what: str, pictures: Path, tmp_path: Path
) -> None:
    looked = learn(what, tmp_path / "looked", pictures, "fit.sample_every=2", "preview.steps=2", "preview.seed=7")
    assert _equal(looked, learn(what, tmp_path / "blind", pictures))
    places = sorted((tmp_path / "looked").glob("looked-*.png"))
    assert [place.name for place in places] == [f"looked-00000{step}-{i}.png" for step in (2, 4) for i in (0, 1)]
    assert len({Image.open(place).tobytes() for place in places}) == 4


@pytest.mark.parametrize("kind", ["inpaint", "depth", "lcm", "x4"])
def test_models_that_are_shown_more_than_a_text_are_not_taught(kind: str) -> None:
    other: Pipe = load(str(tiny(kind)), device="cpu")
    with pytest.raises(RequestError, match="adapters are trained on"):
        check_teachable(other.model, other.name)


def test_a_controlnet_that_has_learned_nothing_changes_nothing(pictures: Path, tmp_path: Path) -> None:
    learned = course("controlnet", tmp_path, pictures)
    task = _task(learned)
    batch = task.lesson.draw(0, slice(0, 2))  # type: ignore[attr-defined]
    plain = learned.pipe.model.predict(batch.x, batch.t, batch.told)
    alone = task.lesson.error(plain, batch)  # type: ignore[attr-defined]
    assert torch.equal(task.loss(0, slice(0, 2)), alone)


WRONG: dict[str, tuple[type[Exception], str]] = {
    "lora.rank=0": (ConfigError, "rank = 0"),
    "lora.targets=ears": (RequestError, "attention"),
    "lora.format=moss": (RequestError, "kohya"),
    "data.size=20": (RequestError, "nearest are 16 and 24"),
    "data.step=6": (RequestError, "multiple of 4"),
    "data.empty=1.5": (ConfigError, "between 0 and 1"),
    "fit.precision=fp8": (RequestError, "fp32"),
    "moss.steps=4": (RequestError, "section"),
}


@pytest.mark.parametrize("change", WRONG)
def test_numbers_that_cannot_be_meant_are_refused_before_anything_is_made(
    change: str, pictures: Path, tmp_path: Path
) -> None:
    kind, told = WRONG[change]
    with pytest.raises(kind, match=told):
        learn("lora", tmp_path / "run", pictures, change)
    assert not (tmp_path / "run").exists()


def test_widths_that_miss_the_latents_are_refused(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="need 3 numbers"):
        learn("controlnet", tmp_path, pictures, "controlnet.widths=[4, 8]")


def test_plans_that_came_along_are_read_by_name() -> None:
    for what in plans.OWN:
        assert plans.read(what).fit.steps > 100
    shipped = [path.stem for path in plans.PLANS.glob("figurines-*.toml")]
    for name in shipped:
        assert plans.read(name.removeprefix("figurines-"), name).fit.batch


def test_a_file_says_what_it_was_trained_with(pictures: Path, tmp_path: Path) -> None:
    learn("lora", tmp_path / "moss", pictures, "data.trigger=mossy")
    said = read_header(tmp_path / "moss/moss.safetensors").metadata
    assert said["ss_network_dim"] == "2" and said["ss_network_alpha"] == "1"
    assert said["modelspec.trigger_phrase"] == "mossy" and said["ss_base_model_version"] == "sd_v1"
