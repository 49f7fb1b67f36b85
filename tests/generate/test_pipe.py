"""Drawing: what is shown on the way, what comes out, and what each task keeps of the picture it starts from."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import safelight
from safelight.core.noise import start_noise
from safelight.errors import ImageError, PredictionError, RequestError, UnknownNameError
from safelight.generate import image as task
from safelight.generate.pipe import Pipe, load
from safelight.generate.recipe import recipe_in
from safelight.generate.request import Request
from tests.generate.scenes import PROMPT, mask, picture, pipe
from tests.models import EDGE, STRIDE, tiny


def test_the_names_of_the_readme_draw() -> None:
    own = safelight.load(str(tiny()), device="cpu")
    steps = list(own(PROMPT))
    preview = steps[0].preview()
    assert preview is not None and preview.size == (EDGE // STRIDE,) * 2
    assert steps[0].decode().size == (EDGE, EDGE)
    (drawn,) = own.draw(safelight.Request(PROMPT, seed=7))
    assert isinstance(drawn, safelight.Drawn) and isinstance(drawn.recipe, safelight.Recipe)
    assert isinstance(own, safelight.Pipe)


def test_every_evaluation_is_shown_and_the_last_brings_the_picture() -> None:
    steps = list(pipe()(Request(PROMPT, steps=3, sampler="heun", schedule="karras"), 2))
    assert [(s.picture, s.index, s.total) for s in steps] == [(p, i, 5) for p in (0, 1) for i in range(1, 6)]
    assert [s.drawn is not None for s in steps] == ([False] * 4 + [True]) * 2
    assert steps[4].drawn and torch.equal(steps[4].latents, steps[4].drawn.latents)


def test_a_wrong_request_is_refused_before_the_first_step_is_asked_for() -> None:
    with pytest.raises(UnknownNameError, match="sampler"):
        pipe()(Request(PROMPT, sampler="eular"))


def test_the_last_step_is_what_its_picture_shows() -> None:
    last = list(pipe()(PROMPT))[-1]
    assert last.drawn and last.decode().tobytes() == last.drawn.image.tobytes()


def test_text_begins_with_the_noise_of_its_seed() -> None:
    settled = pipe().settle(Request(PROMPT, seed=5))
    job = task.job(pipe().model, settled, task.read(pipe().model, settled))
    assert torch.equal(job.x, start_noise(5, (4, 8, 8)))


def test_images_without_strength_and_masks_keep_to_the_customary_ones() -> None:
    settled = pipe().settle(Request(PROMPT, steps=4, image=picture()))
    assert (settled.task, settled.request.strength, len(settled.levels)) == ("image", 0.75, 4)
    inpaint = pipe("inpaint").settle(Request(PROMPT, steps=4, image=picture(), mask=mask()))
    assert (inpaint.task, inpaint.request.strength, len(inpaint.levels)) == ("inpaint", 1.0, 5)


def test_little_strength_stays_near_the_image() -> None:
    known = task.encode(pipe().model, task.to_tensor(picture(), (EDGE, EDGE)))
    apart = []
    for strength in (0.25, 1.0):
        (drawn,) = pipe().draw(Request(PROMPT, steps=8, guidance=1.0, image=picture(), strength=strength))
        apart.append(float((drawn.latents - known).abs().mean()))
    assert apart[0] < apart[1]


@pytest.mark.parametrize("kind", ["sd1", "inpaint"])
def test_kept_pixels_come_back_exactly(kind: str) -> None:
    (drawn,) = pipe(kind).draw(Request(PROMPT, image=picture(), mask=mask(), steps=3))
    before, after = np.asarray(picture()), np.asarray(drawn.image)
    kept = np.asarray(mask()) == 0
    assert np.array_equal(before[kept], after[kept])
    assert (before[~kept] != after[~kept]).mean() > 0.5


def test_an_inpainting_network_says_that_it_needs_an_image_and_a_mask() -> None:
    with pytest.raises(RequestError, match="needs an image and a mask"):
        pipe("inpaint")(PROMPT)


def test_an_image_sets_the_size_rounded_to_what_the_model_can_draw() -> None:
    (drawn,) = pipe().draw(Request(PROMPT, steps=2, image=picture(45), strength=1.0))
    assert drawn.image.size == (44, 44)
    (drawn,) = pipe().draw(Request(PROMPT, steps=2, image=picture(45), strength=1.0, size=(24, 32)))
    assert drawn.image.size == (24, 32)


def test_sizes_that_are_no_multiples_name_the_nearest() -> None:
    with pytest.raises(RequestError, match="width 30 is not a multiple of 4; the nearest are 28 and 32"):
        pipe()(Request(PROMPT, size=(30, 32)))


@pytest.mark.parametrize("size", [(4, 4), (12, 20), (36, 64)])
def test_every_multiple_of_the_stride_can_be_drawn(size: tuple[int, int]) -> None:
    (drawn,) = pipe().draw(Request(PROMPT, steps=1, size=size))
    assert drawn.image.size == size


def test_what_was_cut_from_a_long_prompt_is_told() -> None:
    (drawn,) = pipe().draw(Request(" ".join(["hat"] * 80) + " crown", steps=1))
    assert drawn.cut == (" ".join(["hat"] * 5) + " crown",)


def test_a_picture_carries_its_recipe_and_its_parameters() -> None:
    (drawn,) = pipe().draw(Request('a: red, "hat"\nüber', negative="green", steps=2, seed=5))
    data = io.BytesIO()
    drawn.image.save(data, "PNG", pnginfo=drawn.metadata())
    again = Image.open(data)
    assert recipe_in(again) == drawn.recipe
    text = again.info["parameters"]
    assert text.startswith('a: red, "hat"\nüber\nNegative prompt: green\nSteps: 2, Sampler: DDIM, ')
    assert "Seed: 5, Size: 32x32, Model hash: " in text


def test_the_recipe_names_every_file_that_was_read() -> None:
    files = pipe().hashes
    assert {"unet/config.json", "tokenizer/vocab.json", "scheduler/scheduler_config.json"} <= set(files)
    assert all((pipe().folder / name).is_file() and len(digest) == 64 for name, digest in files.items())


def test_each_part_of_the_work_is_timed_and_what_is_shared_is_not_counted_twice() -> None:
    first, second = pipe().draw(Request(PROMPT, steps=2), 2)
    assert set(first.seconds) == {"encode", "denoise", "decode"}
    assert all(seconds > 0 for seconds in first.seconds.values())
    assert second.seconds["encode"] < first.seconds["encode"] / 10


def test_numbers_that_are_none_are_an_error_and_no_black_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    own = pipe()
    network = own.model.network
    broken = replace(own.model, predict=lambda x, t, told: torch.full_like(x, float("nan")))
    with pytest.raises(PredictionError, match="not a number; try --dtype float32"):
        Pipe("broken", own.folder, broken, own.place).draw(Request(PROMPT, steps=1))
    assert broken.network is network


def test_half_precision_draws_and_says_so() -> None:
    own = safelight.load(str(tiny()), device="cpu", dtype="bf16", threads=1)
    (drawn,) = own.draw(Request(PROMPT, steps=2))
    assert drawn.recipe.dtype == "bfloat16" and drawn.latents.dtype == torch.float32
    assert not torch.equal(drawn.latents, pipe().draw(Request(PROMPT, steps=2))[0].latents)


def test_masks_without_white_are_refused() -> None:
    with pytest.raises(ImageError, match="no white"):
        pipe().draw(Request(PROMPT, image=picture(), mask=Image.new("L", (EDGE, EDGE))))


def test_pixels_that_are_no_numbers_are_an_error_and_not_a_black_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    right = task.decode
    monkeypatch.setattr(task, "decode", lambda model, x: right(model, x) * float("nan"))
    with pytest.raises(PredictionError, match="not a number; try --dtype float32"):
        pipe().draw(PROMPT)


@pytest.mark.parametrize(("says", "dtype"), [(True, torch.float32), (False, torch.float16)])
def test_an_autoencoder_that_overflows_in_float16_stays_in_float32(
    says: bool, dtype: torch.dtype, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(tiny(), tmp_path / "model"))
    config = json.loads((model / "vae/config.json").read_text("utf-8"))
    (model / "vae/config.json").write_text(json.dumps({**config, "force_upcast": says}))
    own = load(str(model), device="cpu", dtype="float16", threads=1)
    assert next(own.model.vae.parameters()).dtype == dtype
    assert next(own.model.network.parameters()).dtype == torch.float16
    drawn = own.draw(Request(PROMPT, image=picture(), strength=0.5))
    assert drawn[0].image.size == (EDGE, EDGE)


def test_pipes_that_take_turns_draw_each_with_its_own_threads() -> None:
    used = []
    pipes = [replace(pipe(), place=replace(pipe().place, threads=threads)) for threads in (1, 2)]
    turns = [each(Request(PROMPT, steps=3)) for each in pipes]
    for _ in range(3):
        for turn in turns:
            next(turn)
            used.append(torch.get_num_threads())
    assert used == [1, 2] * 3
