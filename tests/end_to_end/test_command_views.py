"""``safelight train figurines-views``, ``views`` and ``evaluate views``: from nothing to views, by commands."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from safelight.evaluate.views import baselines, trial
from safelight.evaluate.views import drawn as drawing
from safelight.evaluate.views.truth import cameras, people, truth
from safelight.evaluate.views.volume import Fit
from safelight.figurines.dataset import normal_map
from safelight.figurines.person import random_people
from safelight.figurines.render import PORTRAIT, portrait, portrait_camera, render
from safelight.generate.file import open_picture
from safelight.multiview.export.table import load
from safelight.multiview.figurine import described
from safelight.multiview.model import load as load_model
from safelight.runtime.device import pick
from safelight.weights.load import read
from safelight.weights.save import save
from tests.end_to_end.shell import Said, Shell, wrong
from tests.multiview.readers import READERS
from tests.train.test_views import TINY

KINDS = ("pose", "normals")
CHANGES = (*TINY, "data.size=64", "views_fit.sample_every=0", "views_fit.steps=2")
SET = [word for change in CHANGES for word in ("--set", change)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Both kinds of model, made by the command, their weights then shaken: two steps leave them near their start."""
    from safelight.cli.main import main

    made = {}
    for kind in KINDS:
        run = tmp_path_factory.mktemp("views") / kind
        told = ["--set", f"views.normals={str(kind == 'normals').lower()}"]
        assert main(["train", "figurines-views", "--run", str(run), *SET, *told]) == 0
        weights = run / "model" / "unet" / "diffusion_pytorch_model.safetensors"
        generator = torch.Generator().manual_seed(0)
        shaken = {
            name: tensor + 0.2 * torch.randn(tensor.shape, generator=generator).to(tensor)
            for name, tensor in read(weights).items()
        }
        save(shaken, weights)
        made[kind] = str(run / "model")
    return made


@pytest.fixture
def here(shell: Shell) -> Shell:
    """A shell beside two portraits."""
    for number, person in enumerate(random_people(np.random.default_rng(0), 2, "test")):
        Image.fromarray(portrait(person, 64)).save(shell.folder / f"p{number}.png")
    return shell


def views(shell: Shell, model: str, *words: str, picture: str = "p0.png") -> Said:
    steps = [] if "--steps" in words else ["--steps", "2"]
    return shell.run("views", picture, "-m", model, *steps, *words)


def pixels(shell: Shell, model: str, *words: str, picture: str = "p0.png") -> bytes:
    """All views that a request draws."""
    name = f"out{len(list(shell.folder.iterdir()))}"
    said = views(shell, model, *words, "-o", name, picture=picture)
    assert said.code == 0, said.err
    return shown(shell.folder / name).tobytes()


def refused(said: Said) -> str:
    """The one line of a command that failed: for what was asked, or for a file."""
    assert said.code in (1, 2), said
    return wrong(said, said.code)


def shown(folder: Path) -> np.ndarray:
    """The views of a folder, uint8 [V, H, W, 3]."""
    return np.stack([np.asarray(open_picture(folder / file).convert("RGB")) for file in load(folder).files])


def test_a_folder_holds_views_mattes_cameras_a_sheet_and_a_film(here: Shell, models: dict[str, str]) -> None:
    said = views(here, models["pose"], "-n", "3", "-o", "turned", "--turntable", "turned.gif", "--json", "--seed", "4")
    told = json.loads(said.out)
    assert told["folder"] == "turned" and told["turntable"] == "turned.gif" and told["seed"] == 4
    assert [each % 360 for each in told["azimuth"]] == pytest.approx([0, 120, 240], abs=1e-3)
    assert told["elevation"] == pytest.approx([6, 6, 6], abs=1e-3)
    assert shown(here.folder / "turned").shape == (3, 64, 64, 3)
    azimuth, _, _ = load(here.folder / "turned").cameras.angles((0, 0, -0.04))
    assert (azimuth % 360).tolist() == pytest.approx([0, 120, 240], abs=1e-2)
    assert open_picture(here.folder / "turned/sheet.png").size[0] > 3 * 64
    with Image.open(here.folder / "turned.gif") as film:
        assert film.n_frames == 3 and film.size == (64, 64)
    assert views(here, models["pose"], "-n", "1", "-o", "one").out == "one\n"


def test_equal_requests_give_equal_bits_and_every_flag_changes_them(here: Shell, models: dict[str, str]) -> None:
    model, plain = models["pose"], ("-n", "2")
    first = pixels(here, model, *plain)
    assert pixels(here, model, *plain) == first
    changed = [
        pixels(here, model, *plain, *words)
        for words in (
            *(("--steps", "3"), ("--guidance", "6"), ("--guidance", "2,6")),
            *(("--seed", "1"), ("--sampler", "Euler a"), ("--slots", "1"), ("--shift", "views"), ("--shift", "2")),
        )
    ]
    placed = [
        pixels(here, model, *words)
        for words in (("--rig", "mvdream4"), ("-n", "4"), ("--camera=0,6", "--camera=50,20"))
    ]
    other = pixels(here, model, *plain, picture="p1.png")
    assert len({first, other, *changed, *placed}) == 13


def test_normals_are_read_by_the_model_that_was_taught_them(here: Shell, models: dict[str, str]) -> None:
    for name, colour in (("a", (128, 128, 255)), ("b", (255, 128, 128))):
        (here.folder / name).mkdir()
        for view in ("000", "001"):
            Image.new("RGB", (64, 64), colour).save(here.folder / name / f"{view}.png")
    model, plain = models["normals"], ("-n", "2")
    drawn = [pixels(here, model, *plain, *words) for words in ((), ("--normals", "a"), ("--normals", "b"))]
    Image.new("RGB", (64, 64), (128, 255, 128)).save(here.folder / "b/portrait.png")
    drawn.append(pixels(here, model, *plain, "--normals", "b"))
    drawn.append(pixels(here, model, *plain, "--normals", "b", "--normals-guidance", "1,4"))
    assert len(set(drawn)) == 5
    assert "reads no normals" in refused(views(here, models["pose"], *plain, "--normals", "a"))
    assert "002.png" in refused(views(here, model, "-n", "3", "--normals", "a"))


def test_coarse_normals_of_a_described_person_are_what_the_model_is_shown(here: Shell, models: dict[str, str]) -> None:
    made = ("figurines", "views", "head", "-n", "2", "--coarse", "--size", "64", "--prompt", "a person with a top hat")
    assert here.run(*made).code == 0
    person = described("a person with a top hat")
    around = cameras([(0.0, PORTRAIT["elevation"]), (180.0, PORTRAIT["elevation"])])
    for view, file in ((0, "000"), (1, "001"), (None, "portrait")):
        camera = portrait_camera(64) if view is None else around[view]
        bare = render(person, camera, buffers=("normals",), coarse=True).normals_camera
        assert bare is not None
        with Image.open(here.folder / f"head/normals/{file}.png") as picture:
            assert np.array_equal(np.asarray(picture), normal_map(bare))
    words = ("-n", "2", "--seed", "4", "--normals", "head/normals")
    drawn = pixels(here, models["normals"], *words, picture="head/portrait.png")
    assert drawn != pixels(here, models["normals"], *words[:-2], picture="head/portrait.png")


def test_processes_share_people_and_change_no_bit(models: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "PART", 1)
    known = [truth(person, cameras([(0.0, 0.0), (90.0, 20.0)])) for person in people(3)]
    model, told = load_model(Path(models["pose"]), pick("cpu", threads=1)), []
    asked = drawing.Settings(steps=1, seed=5)
    apart = drawing.drawn(model, known, asked, lambda *at: told.append(at), workers=2)
    assert np.array_equal(apart, drawing.drawn(model, known, asked, lambda *_: None))
    assert told == [("drawn", done, 3) for done in (1, 2, 3)]


def test_given_views_are_refined_in_as_many_steps_as_the_command_says(here: Shell, models: dict[str, str]) -> None:
    (here.folder / "renders").mkdir()
    for view in range(2):
        Image.new("RGB", (64, 64), (90 * view, 90, 90)).save(here.folder / f"renders/{view:03d}.png")
    words = ("-n", "2", "--refine", "renders", "--strength", "0.5", "--steps", "4", "-o", "refined", "--json")
    said = views(here, models["pose"], *words)
    assert "drawn over in 2 of 4 steps (strength 0.5)" in said.err and json.loads(said.out)["steps"] == 2
    assert "002.png" in refused(views(here, models["pose"], "-n", "3", "--refine", "renders"))
    assert "--refine" in refused(views(here, models["pose"], "--strength", "0.5"))


def test_every_step_of_every_view_is_kept_and_changes_no_bit(here: Shell, models: dict[str, str]) -> None:
    model, plain = models["pose"], ("-n", "2", "--seed", "4")
    drawn = pixels(here, model, *plain)
    assert pixels(here, model, *plain, "--every-step", "steps/of") == drawn
    names = [f"{view:03d}-step-{step}.png" for view in range(2) for step in (1, 2)]
    assert sorted(path.name for path in (here.folder / "steps/of").iterdir()) == names
    kept = [np.asarray(open_picture(here.folder / "steps/of" / name)) for name in names]
    whole, last = np.frombuffer(drawn, np.uint8).reshape(2, 64, 64, 3), np.stack([kept[1], kept[3]])
    masks = [np.asarray(open_picture(path)) for path in sorted(here.folder.glob("*/masks/*.png"))[:2]]
    figure = np.stack(masks) == 255  # beyond it a view is written as nothing, on its edge without the background
    assert figure.sum() > 100 and np.array_equal(last[figure], whole[figure]), "the last step is the finished view"
    assert len({each.tobytes() for each in kept}) == 4
    assert pixels(here, model, *plain, "--every-step", "film.gif") == drawn
    for view in (1, 2):
        with Image.open(here.folder / f"film-{view}.gif") as film:
            assert film.n_frames == 2 and film.size == (64, 64)
    for place in ("steps/of", "film.gif"):
        told = refused(views(here, model, *plain, "--every-step", place, "-o", "other"))
        assert "exists; name another with --every-step" in told
    assert "ends in .gif" in refused(views(here, model, "--every-step", "film.mp4", "-o", "other"))
    assert not (here.folder / "other").exists()


def test_the_folder_is_what_the_named_program_reads(here: Shell, models: dict[str, str]) -> None:
    points = np.random.default_rng(0).normal(size=(9, 3)) * 0.3
    around = cameras([(0.0, PORTRAIT["elevation"]), (180.0, PORTRAIT["elevation"])]).to(torch.float64)
    wanted = around.project(torch.from_numpy(points))[0].numpy()
    for name, reader in READERS.items():
        assert views(here, models["pose"], "-n", "2", "--export", name, "-o", name).code == 0
        for (file, seen), there in zip(reader(here.folder / name, points), wanted, strict=True):
            assert open_picture(here.folder / name / file).size == (64, 64)
            assert np.abs(seen - there).max() < 1e-3


def test_wrong_requests_are_one_line_before_anything_is_drawn(here: Shell, models: dict[str, str]) -> None:
    model = models["pose"]
    Image.new("RGB", (64, 64), (90, 90, 90)).save(here.folder / "grey.png")
    (here.folder / "there.gif").write_bytes(b"")
    (here.folder / "full").mkdir()
    (here.folder / "full/x").write_text("x")
    for words, told in (
        (("-n", "0"), "1 to 64"),
        (("-n", "65"), "1 to 64"),
        (("-n", "2", "--rig", "mvdream4"), "give one of them"),
        (("--rig", "mvdream5"), "mvdream4"),
        (("--camera", "x"), "--camera"),
        (("--camera", "nan,0"), "--camera"),
        (("--camera", "0,0,5"), "draws from 8; give --camera AZ,EL"),
        (("--camera", "0,0,0"), "azimuth,elevation,distance"),
        (("--steps", "0"), "1 to 1000"),
        (("--guidance", "-1"), "0 to 100"),
        (("--guidance", "2,3"), "2 scales of guidance were given for 8 views"),
        (("--guidance", "2;3"), "one for each view with commas"),
        (("--sampler", "eular"), "euler"),
        (("--export", "colmop"), "colmap"),
        (("--turntable", "film.mp4"), ".gif"),
        (("--turntable", "there.gif"), "exists"),
        (("-o", "full"), "full"),
        (("--normals", "nowhere"), "no such folder"),
        (("--normals-guidance", "2"), "reads no normals"),
        (("--slots", "0"), "1 and up"),
        (("--shift", "view"), "or 'views'"),
    ):
        assert told in refused(views(here, model, *words)), words
    assert "no figure" in refused(views(here, model, picture="grey.png"))
    assert "missing.png" in refused(views(here, model, picture="missing.png"))
    assert "model of views" in refused(views(here, "nothing"))
    assert "names no preset" in refused(views(here, str(here.folder / "full")))
    assert sorted(p.name for p in here.folder.iterdir()) == ["full", "grey.png", "p0.png", "p1.png", "there.gif"]


def test_cameras_beyond_what_was_learned_are_warned_of(here: Shell, models: dict[str, str]) -> None:
    said = views(here, models["pose"], "--camera=0,80", "-o", "above")
    assert said.code == 0 and "cameras at 80 degrees" in said.err


def test_a_model_is_judged_and_an_untaught_one_fails(
    here: Shell, models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "exam", partial(trial.exam, asked=False))  # the checker takes minutes
    monkeypatch.setattr(baselines, "mean", partial(baselines.mean, count=5))
    quick = Fit(cells=(8, 8), steps=(3, 3), rays=64, samples=8)
    monkeypatch.setattr(trial, "volumes", partial(trial.volumes, how=quick))
    beside = ("--also", "figurines-views")
    told = refused(here.run("evaluate", "views", "--people", "3", *beside))
    assert "names of their own" in told
    asked = ("--people", "3", "--steps", "1", *beside, "--apart", "--volumes", "2", "--sheet", "-o", "v.json")
    said = here.run("evaluate", "views", "-m", models["pose"], *asked)
    assert said.code == 1, said.err
    claims = json.loads((here.folder / "v.json").read_text("utf-8"))
    failed = [claim["claim"] for claim in claims if claim["holds"] is False]
    assert failed and all("ground truth" not in claim and "constant" not in claim for claim in failed), failed
    assert all((here.folder / name).is_file() for name in ("v-sheet.png", "v-sheet-figurines-views.png"))
    words = " ".join(["safelight evaluate views -m model --people 3 --steps 1", *beside, "--apart --volumes 2"])
    assert claims[0]["command"] == words
    found = {claim["claim"]: claim["value"] for claim in claims}
    part = "PSNR inside the outline"
    assert found[f"figurines-views: {part}"] > found[f"model: {part}"]
    together, alone, few = (found[f"model{way}: {part}"] for way in ("", ", each view alone", ", 4 views at a time"))
    assert len({together, alone, few}) == 3
    lost = found[f"model: {part} lost by 8 views at once against 4 at a time"]
    assert lost == pytest.approx(few - together, abs=2e-3)
    fitted = {claim["claim"]: claim for claim in claims if claim["claim"].startswith("a volume")}
    assert len(fitted) == 4 and {claim["unit"] for claim in fitted.values()} == {"dB, 2 people"}
    drawn, true = (fitted[f"a volume fitted to {whose}, seen from between: PSNR, whole frame"]["value"]
                   for whose in ("model", "true views"))  # fmt: skip
    assert drawn < true


def test_what_cannot_be_judged_is_one_line_before_a_model_is_looked_for(here: Shell) -> None:
    for words, told in (
        (("views", "--people", "3", "--volumes", "0"), "--volumes is a number from 1 to that of the people, 3, not 0"),
        (("views", "--people", "3", "--volumes", "4"), "not 4"),
        (("views", "--volumes", "101"), "100, not 101"),
        (("views", "--people", "2"), "3 (they are shuffled)"),
        (("views", "--neighbours", "0"), "--neighbours is of another subject"),
        (("figurines", "--apart"), "--apart is of 'evaluate views'"),
        (("adapters", "--volumes", "0"), "--volumes is of 'evaluate views'"),
    ):
        assert told in refused(here.run("evaluate", *words, "-m", "nothing")), words
