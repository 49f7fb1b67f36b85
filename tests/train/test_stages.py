"""The stages of the default model, on a plan that is small enough to run them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from safelight.errors import CheckpointError, ConfigError, FileError, WeightsError
from safelight.generate.picture import colours
from safelight.train import checkpoint, journal, rendered
from safelight.train.figurines import autoencoder, portraits, stages
from safelight.train.figurines.autoencoder import Squeezing
from safelight.train.figurines.denoising import Denoising, Examples
from safelight.train.figurines.finished import cached_latents, encoder_hash, load_text, load_tokenizer, load_vae
from safelight.train.figurines.plan import Plan
from safelight.train.figurines.sheet import Sheet
from safelight.train.figurines.words import Reading
from safelight.train.loop import Task, Trainer
from safelight.train.run import Clock, Progress
from safelight.weights.load import read
from safelight.weights.save import save
from tests.train.killed import kill_while_training
from tests.train.tiny import FITS, FOREVER, average, kind_of_process, tiny

Copied = Callable[..., Path]
NEVER = Clock(None)


def _end(stage: Iterator[Progress]) -> list[Progress]:
    return list(stage)


def test_every_stage_leaves_its_files(finished: Path) -> None:
    for part in ("text", "vae", "decoder", "unet"):
        names = {place.name for place in (finished / part).iterdir()}
        assert names == {"checkpoints", "log.jsonl", "loss.png", "average.safetensors"}
    assert {place.name for place in (finished / "data").iterdir()} == {
        *("portraits.npy", "people.npy", "portraits.done", "latents.safetensors"),
    }


def test_a_killed_stage_goes_on_to_the_same_file_to_the_last_bit(copied: Copied) -> None:
    killed, whole = copied("tokenizer", name="killed"), copied("tokenizer", name="whole")
    places = killed / "text" / "checkpoints"
    kill_while_training("tests.train.tiny", str(killed), checkpoints=places)
    survived = checkpoint.latest(places)
    assert survived is not None
    for run in (killed, whole):
        _end(stages.learn_words(run, tiny(*FOREVER, f"words_fit.steps={survived.step + 3}"), NEVER))
    assert average(killed, "text") == average(whole, "text")
    steps = [line["step"] for line in journal.read(killed / "text" / "log.jsonl")]
    assert steps == list(range(1, survived.step + 4)), "every step stands in the log once"


def test_the_clock_stops_a_stage_cleanly_and_it_goes_on_later(copied: Copied) -> None:
    run = copied("data")
    small = tiny("vae_fit.steps=5", "vae_fit.save_every=100")
    assert [p.done for p in stages.learn_vae(run, small, Clock(0))] == [1]
    stopped = checkpoint.latest(run / "vae" / "checkpoints")
    assert stopped is not None and stopped.step == 1
    first = average(run, "vae")
    assert [p.done for p in stages.learn_vae(run, small, NEVER)] == [2, 3, 4, 5]
    _end(stages.learn_vae(copied("data", name="whole"), small, NEVER))
    assert average(run, "vae") == average(run.parent / "whole", "vae") != first


def test_a_stage_that_has_ended_is_not_run_again(copied: Copied) -> None:
    run = copied("data", "tokenizer", "text", "vae", "unet")
    made = (run / "data" / "latents.safetensors").stat().st_mtime_ns
    before = {part: average(run, part) for part in ("text", "vae", "unet")}
    assert not _end(stages.learn_words(run, tiny(), NEVER)) + _end(stages.learn_vae(run, tiny(), NEVER))
    assert [p.stage for p in stages.learn_unet(run, tiny(), NEVER, "cpu")] == ["latents"]
    assert before == {part: average(run, part) for part in before}
    assert (run / "data" / "latents.safetensors").stat().st_mtime_ns == made


def test_latents_are_made_anew_for_another_encoder_only(copied: Copied) -> None:
    run, small = copied("data", "vae"), tiny()
    place = run / "vae" / "average.safetensors"
    weights = {name: tensor.clone() for name, tensor in read(place).items()}
    source, latents = encoder_hash(run), cached_latents(run, small).clone()
    weights["decoder.conv_in.weight"] += 1
    save(weights, place)
    assert encoder_hash(run) == source
    weights["encoder.conv_in.weight"] += 1
    save(weights, place)
    assert encoder_hash(run) != source
    assert not torch.equal(cached_latents(run, small), latents)


def test_teaching_the_decoder_alone_keeps_the_latents_valid(copied: Copied) -> None:
    run = copied("data", "vae")
    source = encoder_hash(run)
    start = (run / "vae").rename(run / "first") / "average.safetensors"
    _end(stages.learn_vae(run, tiny("vae.decoder_only=true"), NEVER, start))
    assert encoder_hash(run) == source
    assert not torch.equal(*(read(p)["decoder.conv_in.weight"] for p in (start, run / "vae/average.safetensors")))


def test_the_decoder_that_was_taught_on_is_the_one_that_decodes_and_its_encoder_is_the_same(copied: Copied) -> None:
    run, small = copied("data", "vae"), tiny()
    first, source = load_vae(run, small).state_dict(), encoder_hash(run)
    _end(stages.learn_decoder(run, small, NEVER))
    taught = load_vae(run, small).state_dict()
    apart = {name for name, tensor in first.items() if not torch.equal(tensor, taught[name])}
    assert apart and all(name.startswith(("decoder.", "post_quant_conv.")) for name in apart)
    assert encoder_hash(run) == source and not _end(stages.learn_decoder(run, small, NEVER))


@pytest.mark.parametrize(
    ("change", "name"), [("unet.empty=0.5", r"unet\.empty"), ("unet_fit.lr=0.5", "lr"), ("unet.min_snr=5.0", "min_snr")]
)
def test_going_on_with_another_plan_is_refused(copied: Copied, change: str, name: str) -> None:
    run = copied("data", "tokenizer", "text", "vae", "unet")
    with pytest.raises(CheckpointError, match=f"other settings .*{name}"):
        _end(stages.learn_unet(run, tiny(change), NEVER, "cpu"))


def test_going_on_with_another_text_encoder_is_refused(copied: Copied) -> None:
    run = copied("data", "tokenizer", "text", "vae", "unet")
    place = run / "text" / "average.safetensors"
    save({name: tensor + 1 for name, tensor in read(place).items()}, place)
    with pytest.raises(CheckpointError, match="text encoder"):
        _end(stages.learn_unet(run, tiny(), NEVER, "cpu"))


def test_a_run_starts_from_averaged_weights_with_a_fresh_optimiser(finished: Path, copied: Copied) -> None:
    run, start = copied("data"), finished / "vae" / "average.safetensors"
    small = tiny("vae_fit.lr=0.0", "vae_fit.steps=1")
    _end(stages.learn_vae(run, small, NEVER, start))
    found = checkpoint.latest(run / "vae" / "checkpoints")
    assert found is not None
    for name, tensor in read(start).items():
        assert torch.equal(found.tensors[f"model.{name}"], tensor)
        assert torch.equal(found.tensors[f"average.{name}"], tensor)
        assert found.tensors[f"optimiser.step.{name}"].item() == 1.0
    again = tiny("vae_fit.lr=0.0", "vae_fit.steps=2")
    _end(stages.learn_vae(run, again, NEVER, finished / "nowhere"))  # ignored: there is a checkpoint


def test_starting_from_another_network_is_refused(finished: Path, copied: Copied) -> None:
    run = copied("data")
    for start in (finished / "text" / "average.safetensors", finished / "unet" / "average.safetensors"):
        with pytest.raises(CheckpointError, match="another network"):
            _end(stages.learn_vae(run, tiny(), NEVER, start))
    with pytest.raises(CheckpointError, match="another network"):
        _end(stages.learn_vae(run, tiny("vae.channels=[8, 8, 8]"), NEVER, finished / "vae" / "average.safetensors"))
    with pytest.raises(WeightsError, match="nowhere"):
        _end(stages.learn_vae(run, tiny(), NEVER, run / "nowhere"))
    assert not (run / "vae").exists()


def test_a_missing_part_says_which_stage_comes_first(copied: Copied) -> None:
    with pytest.raises(CheckpointError, match="render them first"):
        _end(stages.learn_vae(copied(), tiny(), NEVER))
    with pytest.raises(CheckpointError, match="train the text encoder first"):
        _end(stages.learn_unet(copied("data", name="b"), tiny(), NEVER, "cpu"))
    with pytest.raises(CheckpointError, match="train the autoencoder first"):
        _end(stages.learn_unet(copied("data", "tokenizer", "text", name="c"), tiny(), NEVER, "cpu"))


def test_parts_of_another_shape_than_the_plan_are_refused(finished: Path) -> None:
    with pytest.raises(CheckpointError, match=r"\[words\]"):
        load_text(finished, tiny("words.width=32"), load_tokenizer(finished))
    with pytest.raises(CheckpointError, match=r"\[vae\]"):
        load_vae(finished, tiny("vae.latent=8"))
    with pytest.raises(CheckpointError, match="32 pixels a side, but the plan says 64"):
        _end(stages.learn_vae(finished, tiny("data.size=64"), NEVER))


def test_rendering_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portraits, "CHUNK", 3)
    begun = portraits.render_all(tmp_path / "a", 8, 32, 1, 1)
    assert next(begun) == 3
    begun.close()
    with pytest.raises(CheckpointError, match="3 of 8 portraits"):
        portraits.load(tmp_path / "a")
    assert list(portraits.render_all(tmp_path / "a", 8, 32, 1, 1)) == [3, 6, 8]
    assert list(portraits.render_all(tmp_path / "b", 8, 32, 1, 2)) == [3, 6, 8]
    one, other = (portraits.load(tmp_path / name).pictures for name in "ab")
    assert np.array_equal(one, other), "any number of workers draws the same"
    assert len({picture.tobytes() for picture in one}) == 8


def test_workers_are_started_afresh() -> None:
    with rendered.started(2) as pool:
        assert pool.submit(kind_of_process).result() == "SpawnProcess"


def test_building_the_tasks_leaves_the_global_generator_alone(finished: Path) -> None:
    data, tokenizer = portraits.load(finished / "data"), load_tokenizer(finished)
    plan, latents = tiny(), cached_latents(finished, tiny())
    text = load_text(finished, plan, tokenizer)
    before = torch.get_rng_state()
    made = [
        Squeezing(plan.vae, data, 4, 3).module,
        Reading(plan.words, tokenizer, tokenizer.end + 1, 4, 3).module,
        Denoising(plan.unet, Examples(latents, data.people()), text, tokenizer, plan.path, 4, 3).module,
    ]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(3)
    again = type(made[0])(plan.vae.config(32))
    assert all(torch.equal(a, b) for a, b in zip(made[0].parameters(), again.parameters(), strict=True))


def test_portraits_of_other_people_are_neither_mixed_nor_overwritten(finished: Path) -> None:
    for seed, size, count in ((2, 32, 8), (1, 64, 8), (1, 32, 9)):
        with pytest.raises(CheckpointError, match="of other people, cameras or size"):
            list(portraits.render_all(finished / "data", count, size, seed, 1))


def test_portraits_need_room_for_all_of_them(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FileError, match="cannot be kept"):
        list(portraits.render_all(tmp_path / "file" / "data", 8, 32, 1, 1))


def _differ_by_rounding(task: Task, step: int, batch: int) -> bool:
    """Whether 4 parts of a batch give the gradient that the whole gives; in float64, where no difference flips sign."""
    task.module.double()
    found = []
    for parts in (1, 4):
        task.module.zero_grad()
        for i in range(parts):
            (task.loss(step, slice(i * batch // parts, (i + 1) * batch // parts)) / parts).backward()
        found.append(torch.cat([p.grad.flatten() for p in task.module.parameters() if p.grad is not None]))
    whole, summed = found
    return float((summed - whole).norm() / whole.norm()) < 1e-5  # errors are added up in float32


@pytest.mark.parametrize("step", [0, 1])  # whole pictures, crops
def test_accumulated_parts_of_pictures_give_the_gradient_of_the_whole_batch(
    finished: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Squeezing(tiny().vae, portraits.load(finished / "data"), 16, 0)
    monkeypatch.setattr(autoencoder, "colours", lambda pictures: colours(pictures).double())
    assert _differ_by_rounding(task, step, 16)
    if step == 0:
        with pytest.raises(ConfigError, match="lower accumulate or raise batch"):
            task.loss(step, slice(0, 2))


def test_accumulated_parts_of_latents_and_captions_give_the_gradient_of_the_whole_batch(finished: Path) -> None:
    small, tokenizer = tiny(), load_tokenizer(finished)
    task = _denoising(finished, small)
    task.examples = Examples(task.examples.latents.double(), task.examples.people)
    task.text.double()
    assert _differ_by_rounding(task, 3, 4)
    assert _differ_by_rounding(Reading(small.words, tokenizer, tokenizer.end + 1, 4, 0), 3, 4)


def _denoising(run: Path, small: Plan) -> Denoising:
    tokenizer = load_tokenizer(run)
    latents = cached_latents(run, small)
    examples = Examples(latents / latents.std(), portraits.load(run / "data").people())
    text = load_text(run, small, tokenizer)
    return Denoising(small.unet, examples, text, tokenizer, small.path, small.unet_fit.batch, small.unet_fit.seed)


def test_sample_sheets_do_not_disturb_the_run(copied: Copied) -> None:
    hashes = []
    for name, every in (("a", 0), ("b", 2)):
        run = copied("data", "tokenizer", "text", "vae", name=name)
        small = tiny("unet_fit.steps=3", f"unet_fit.sample_every={every}")
        _end(stages.learn_unet(run, small, NEVER, "cpu"))
        hashes.append(average(run, "unet"))
        assert (run / "unet" / "samples.png").exists() == bool(every)
    assert hashes[0] == hashes[1]


def test_a_sheet_shows_true_renders_beside_drawn_pictures_and_leaves_no_trace(finished: Path, tmp_path: Path) -> None:
    small = tiny()
    task = _denoising(finished, small)
    trainer = Trainer(task, small.unet_fit, tmp_path / "checkpoints")
    next(trainer.run())
    scale = float(1 / cached_latents(finished, small).std())
    sheet = Sheet(small, task, load_vae(finished, small), scale, count=3, steps=2)
    before = {name: tensor.clone() for name, tensor in trainer.tensors().items()}
    rng, numpy_rng = torch.get_rng_state(), np.random.get_state()[1].copy()
    for name in ("one.png", "two.png"):
        sheet.draw(trainer.average, tmp_path / name)
    assert task.module.training
    assert torch.equal(torch.get_rng_state(), rng)
    assert np.array_equal(np.random.get_state()[1], numpy_rng)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.tensors().items())
    assert all(p.grad is None for p in task.module.parameters())
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert Image.open(tmp_path / "one.png").width > 3 * 64
    assert len(set(sheet.captions)) == 3


def test_the_sheet_draws_the_average_and_not_the_last_weights(finished: Path, tmp_path: Path) -> None:
    small = tiny()
    task = _denoising(finished, small)
    trainer = Trainer(task, small.unet_fit, tmp_path)
    sheet = Sheet(small, task, load_vae(finished, small), 1.0, count=2, steps=2)
    first = sheet.latents(trainer.average)
    with torch.no_grad():
        task.module.conv_out.weight.add_(1.0)
    assert torch.equal(sheet.latents(trainer.average), first)
    trainer.average.shadow["conv_out.bias"].add_(1.0)
    assert not torch.equal(sheet.latents(trainer.average), first)


def test_every_stage_runs_in_bfloat16(copied: Copied) -> None:
    run = copied("data", "tokenizer")
    small = tiny(*(f"{fit}.{change}" for fit in FITS for change in ("precision=bf16", "steps=1")))
    done = [
        *_end(stages.learn_words(run, small, NEVER)),
        *_end(stages.learn_vae(run, small, NEVER)),
        *_end(stages.learn_unet(run, small, NEVER, "cpu")),
    ]
    assert [p.stage for p in done] == ["text", "vae", "latents", "unet"]


@pytest.mark.gpu
def test_every_stage_runs_on_an_accelerator(copied: Copied) -> None:
    run = copied("data", "tokenizer")
    half = [f"{fit}.precision=bf16" for fit in FITS]
    small = tiny(*half, "unet_fit.sample_every=1")
    _end(stages.learn_words(run, small, NEVER, device="cuda"))
    _end(stages.learn_vae(run, small, NEVER, device="cuda"))
    _end(stages.learn_unet(run, small, NEVER, "cuda"))
    longer = tiny(*half, "unet_fit.steps=3")  # resumed: the optimiser's state is back on the device
    assert [p.done for p in stages.learn_unet(run, longer, NEVER, "cuda")][-1] == 3
