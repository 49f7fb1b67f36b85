"""``safelight views`` with released models: of a text, a picture or both, from their own rig or from anywhere."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from safelight.generate.file import open_picture
from safelight.multiview.export.table import load
from tests.dreams import dream, small
from tests.end_to_end.shell import Said, Shell, wrong
from tests.generate.scenes import picture
from tests.upscaler import tiny_upscaler
from tests.zero123 import tiny_zero123
from tests.zero123plus import tiny_zero123plus


@pytest.fixture
def here(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A shell beside a picture of any thing, and folders of tiny sizes."""
    small(monkeypatch)
    picture(32, seed=3).save(shell.folder / "p.png")
    picture(32, seed=4).save(shell.folder / "q.png")
    return shell


def views(shell: Shell, model: Path, *words: str) -> Said:
    """``safelight views`` in two steps, in the format that is written the fastest."""
    return shell.run("views", *words, "-m", str(model), "--steps", "2", "--export", "gsplat")


def pixels(shell: Shell, model: Path, *words: str) -> bytes:
    """All views that a request draws."""
    name = f"out{len(list(shell.folder.iterdir()))}"
    said = views(shell, model, *words, "-o", name)
    assert said.code == 0, said.err
    return shown(shell.folder / name).tobytes()


def shown(folder: Path) -> np.ndarray:
    """The views of a folder, uint8 [V, H, W, 3]."""
    return np.stack([np.asarray(open_picture(folder / file).convert("RGB")) for file in load(folder).files])


def angles(folder: Path) -> tuple[list[float], list[float]]:
    azimuth, elevation, _ = load(folder).cameras.angles()
    return [round(each) % 360 for each in azimuth.tolist()], [round(each, 3) for each in elevation.tolist()]


def test_an_upscaler_draws_every_view_twice_as_large(here: Shell) -> None:
    words, x2 = ("--prompt", "a red hat"), ("--upscale-with", str(tiny_upscaler()))
    small, large = (np.frombuffer(pixels(here, dream("mvdream"), *words, *more), np.uint8) for more in ((), x2))
    assert len(large) == 4 * len(small)
    folder = sorted(here.folder.glob("out*"))[-1]
    assert load(folder).cameras.size == (64, 64) and (folder / "sheet.png").is_file()
    told = wrong(views(here, dream("wonder3d"), "p.png", *x2, "-o", "none"), 2)
    assert "an upscaler knows colours alone" in told and not (here.folder / "none").exists()


def test_attention_by_a_few_queries_at_once_draws_the_same(here: Shell) -> None:
    words = ("--prompt", "a red hat")
    whole, parts = (
        np.frombuffer(pixels(here, dream("mvdream"), *words, *more), np.uint8).astype(int)
        for more in ((), ("--chunk", "5"))
    )
    assert np.abs(whole - parts).max() <= 1
    assert "not -1" in wrong(views(here, dream("mvdream"), *words, "--chunk", "-1", "-o", "none"), 2)
    tile = ("p.png", "--preset", "zero123pp-1.2", "--chunk", "4", "-o", "none")
    assert "leave the chunk out" in wrong(views(here, tiny_zero123plus(), *tile), 2)


DOUBTED = (((), False), (("--rig", "mvdream4"), False), (("-n", "2"), True), (("--camera", "0,80"), True))


def test_views_that_released_scripts_do_not_draw_raise_doubts(here: Shell) -> None:
    for number, (words, doubted) in enumerate(DOUBTED):
        said = views(here, dream("mvdream"), "--prompt", "a red hat", *words, "-o", str(number))
        assert said.code == 0 and ("90, 180, 270, 0 degrees around and 15 up; expect" in said.err) == doubted


def test_a_text_is_drawn_from_the_models_own_rig(here: Shell) -> None:
    words = ("--prompt", "a red hat")
    first = pixels(here, dream("mvdream"), *words)
    assert angles(next(here.folder.glob("out*"))) == ([90, 180, 270, 0], [15.0] * 4)
    changed = [
        pixels(here, dream("mvdream"), *given)
        for given in (
            ("--prompt", "a green hat"),
            (*words, "--negative", "green"),
            (*words, "-n", "3"),
            (*words, "--slots", "2"),
        )
    ]
    assert len({first, *changed}) == 5


def test_a_long_prompt_is_cut_and_told(here: Shell) -> None:
    said = views(here, dream("mvdream"), "--prompt", "red hat " * 60 + "crown")
    assert said.code == 0 and "the prompt is too long for the text encoder; this was cut off: " in said.err
    assert "crown, 3d asset" in said.err


def test_a_picture_leads_with_a_text_or_without(here: Shell) -> None:
    model = dream("imagedream")
    drawn = [
        pixels(here, model, *words)
        for words in (("p.png",), ("q.png",), ("p.png", "--prompt", "hat"), ("p.png", "--camera=0,5", "--camera=40,9"))
    ]
    assert len(set(drawn)) == 4
    assert angles(min(here.folder.glob("out*"))) == ([90, 180, 270, 0], [5.0] * 4)


def near(one: bytes, other: bytes) -> bool:
    """Whether pictures differ by rounding only."""
    pair = (np.frombuffer(each, np.uint8).astype(int) for each in (one, other))
    return bool(np.abs(np.subtract(*pair)).max() <= 1)


def test_normals_lead_beside_a_picture_and_a_text(here: Shell) -> None:
    (here.folder / "normals").mkdir()
    for view in range(2):
        Image.new("RGB", (32, 32), (128, 90 * view + 60, 200)).save(here.folder / f"normals/{view:03d}.png")
    plain = ("p.png", "--prompt", "hat", "-n", "2")
    drawn = [
        pixels(here, dream("gaf"), *plain, *words)
        for words in ((), ("--normals", "normals"), ("--normals", "normals", "--normals-guidance", "3"))
    ]
    assert len(set(drawn)) == 3


@pytest.mark.parametrize("name", ["zero123", "stable-zero123"])
def test_zero123_draws_from_anywhere_and_each_view_alone(here: Shell, name: str) -> None:
    model = ("p.png", "--preset", name, "--guidance", "2")
    two = pixels(here, tiny_zero123(), *model, "--camera=30,10", "--camera=90,-20")
    assert len(two) == 2 * 32 * 32 * 3
    one = pixels(here, tiny_zero123(), *model, "--camera=30,10")
    assert near(two[: len(one)], one), "more views change none"
    beside, raised, both = (
        pixels(here, tiny_zero123(), *model, *words)
        for words in (("--camera=31,10",), ("--camera=30,10", "--elevation=20"), ("--camera=30,30", "--elevation=20"))
    )
    assert one not in (beside, raised)
    assert near(both, one) == (name == "zero123"), "only the other is told how high the picture was taken"
    assert near(pixels(here, tiny_zero123(), *model, "--camera=30,10", "--camera=90,-20", "--slots=1"), two)
    assert near(pixels(here, tiny_zero123(), *model, "--camera=30,10,1.8"), one), "as far as by default"


def test_a_distance_is_told_and_doubted_beyond_the_training_or_refused(here: Shell) -> None:
    model = ("p.png", "--preset", "zero123", "--guidance", "2")
    usual, far = (pixels(here, tiny_zero123(), *model, f"--camera=30,10{distance}") for distance in ("", ",2.1"))
    assert usual != far
    told = views(here, tiny_zero123(), *model, "--camera=30,10,4", "-o", "beyond")
    assert told.code == 0 and "trained from 1.5 to 2.2" in told.err
    told = views(here, tiny_zero123(), "p.png", "--preset", "stable-zero123", "--camera=30,10,4", "-o", "none")
    assert told.code != 0 and "is not told how far away cameras are, and draws from 1.8" in told.err


def plus(folder: Path) -> Path:
    """The folder of Zero123++, which says what it is, and how small."""
    place = shutil.copytree(tiny_zero123plus(), folder / "plus")
    (place / "safelight.json").write_text(json.dumps({"views": "zero123pp-1.2", "changes": {"size": 32}}))
    return place


def test_a_tile_is_cut_into_the_six_views_of_its_rig(here: Shell) -> None:
    model = plus(here.folder)
    drawn = [pixels(here, model, *words) for words in (("p.png",), ("q.png",), ("p.png", "--prompt", "hat"))]
    assert len(set(drawn)) == 3 and len(drawn[0]) == 6 * 32 * 32 * 3
    place = next(here.folder.glob("out*"))
    assert angles(place) == ([30, 90, 150, 210, 270, 330], [20.0, -10.0] * 3)
    for words, told in (
        (("-n", "6"), "its own rig"),
        (("--slots", "2"), "all at once"),
        (("--prompt", "hat " * 90), "does not fit into the 77 places"),
    ):
        assert told in wrong(views(here, model, "p.png", *words, "-o", "none"))


@pytest.mark.parametrize("name", ["wonder3d", "era3d-ortho"])
def test_domains_are_written_beside_the_colours(here: Shell, name: str) -> None:
    said = views(here, dream(name), "p.png", "--guidance", "2,2,2,3,2,2", "-o", "both")
    assert said.code == 0, said.err
    places = [sorted(place.iterdir()) for place in (here.folder / "both/images", here.folder / "both/normals")]
    assert [len(place) for place in places] == [6, 6]
    colours, normals = (np.stack([np.asarray(open_picture(file)) for file in place]) for place in places)
    assert colours.shape == normals.shape == (6, 32, 32, 3) and not np.array_equal(colours, normals)
    length = np.linalg.norm(normals / 127.5 - 1.0, axis=-1)
    assert np.abs(length - 1).max() < 0.02
    assert load(here.folder / "both").cameras.projection == "orthographic"


def test_a_head_is_drawn_in_colours_alone(here: Shell) -> None:
    assert len({pixels(here, dream("facelift"), name) for name in ("p.png", "q.png")}) == 2
    places = list(here.folder.glob("out*"))
    assert angles(places[0])[0] == [0, 45, 90, 180, 270, 315] and not (places[0] / "normals").exists()


def test_what_a_model_does_not_read_is_refused_before_it_is_loaded(here: Shell) -> None:
    Image.new("RGB", (32, 16)).save(here.folder / "wide.png")
    (here.folder / "renders").mkdir()
    for view in range(6):
        picture(32, seed=view).save(here.folder / f"renders/{view:03d}.png")
    turned = here.folder / "turned"
    turned.mkdir()
    (turned / "safelight.json").write_text('{"views": "mvdream", "changes": {"camera": "zero123"}}')
    mvdream, imagedream, wonder = dream("mvdream"), dream("imagedream"), dream("wonder3d")
    begun = time.perf_counter()
    for model, words, told in (
        (mvdream, (), "draws what a text says"),
        (mvdream, ("--prompt", " "), "draws what a text says"),
        (mvdream, ("p.png", "--prompt", "hat"), "reads no picture"),
        (mvdream, ("--prompt", "hat", "--normals", "renders"), "reads no normals"),
        (imagedream, ("--prompt", "hat"), "draws views of a picture"),
        (imagedream, ("wide.png",), "of another shape"),
        (imagedream, ("p.png", "--preset", "mvdream"), "is imagedream by its safelight.json"),
        (wonder, ("p.png", "--prompt", "hat"), "leave the prompt out"),
        (wonder, ("p.png", "--negative", "hat"), "leave the negative prompt out"),
        (wonder, ("p.png", "--camera=0,0"), "its own rig"),
        (wonder, ("p.png", "--elevation", "5"), "is not told where the picture was taken from"),
        (tiny_zero123(), ("p.png", "--preset", "zero123", "--elevation", "91"), "from -90 to 90"),
        (wonder, ("p.png", "--refine", "renders"), "leave the ones to refine out"),
        (tiny_zero123(), ("p.png",), "say with --preset"),
        (tiny_zero123(), ("p.png", "--preset", "zero124"), "zero123"),
        (turned, ("--prompt", "hat"), "not all of which are encoded here"),
    ):
        assert told in refused(views(here, model, *words, "-o", "none")), words
    assert time.perf_counter() - begun < 5 and not (here.folder / "none").exists()


def refused(said: Said) -> str:
    """The one line of a command that failed: for what was asked, or for a file."""
    assert said.code in (1, 2), said
    return wrong(said, said.code)


@pytest.mark.parametrize(
    ("name", "part", "told"),
    [
        ("mvdream", "text_encoder", "has no text_encoder, by which MVDream"),
        ("mvdream", "tokenizer", "has no tokenizer, by which MVDream"),
        ("imagedream", "image_encoder", "has no image_encoder, by which ImageDream"),
        ("wonder3d", "image_encoder", "has no image_encoder, by which Wonder3D"),
        ("facelift", "text_encoder", "has no text_encoder, by which FaceLift"),
        ("facelift", "image_normalizer", "has no image_normalizer, by which FaceLift"),
        ("facelift", "image_noising_scheduler", "has no image_noising_scheduler, by which FaceLift"),
        ("mvdream", "vae", "vae"),
    ],
)
def test_a_folder_that_lacks_a_part_is_refused_by_its_name(here: Shell, name: str, part: str, told: str) -> None:
    place = shutil.copytree(dream(name), here.folder / "lacking")
    shutil.rmtree(place / part)
    given = ("--prompt", "hat") if name == "mvdream" else ("p.png",)
    assert told in refused(views(here, place, *given))


def test_folders_of_strangers_are_read_with_care(here: Shell) -> None:
    place = shutil.copytree(dream("mvdream"), here.folder / "strange")
    for notes, told in (
        ({"views": ["mvdream"]}, "names no preset"),
        ({"views": "mvdream", "changes": 3}, "changes are a table"),
        ({"views": "mvdream", "changes": {"rig": "era3d6"}}, "rig cannot be changed"),
        ({"views": "mvdraem"}, "mvdream"),
    ):
        (place / "safelight.json").write_text(json.dumps(notes))
        assert told in refused(views(here, place, "--prompt", "hat")), notes
    (here.folder / "elsewhere").write_text("{}")
    (place / "safelight.json").unlink()
    (place / "safelight.json").symlink_to(here.folder / "elsewhere")
    assert "leads out of the model's folder" in refused(views(here, place, "--prompt", "hat"))


def test_encoders_that_do_not_fit_are_refused(here: Shell) -> None:
    place = shutil.copytree(dream("imagedream"), here.folder / "bent")
    for part in ("config.json", "model.safetensors"):
        shutil.copy(dream("wonder3d") / "image_encoder" / part, place / "image_encoder" / part)
    told = refused(views(here, place, "p.png"))
    assert "states of width 24 of the picture, the image encoder writes 16" in told
    shutil.rmtree(place / "text_encoder")
    shutil.copytree(dream("mvdream").parent / "sd1" / "text_encoder", place / "text_encoder")
    assert "reads text of width 32, the text encoder writes 16" in refused(views(here, place, "p.png"))
