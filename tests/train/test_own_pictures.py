"""Pictures of one's own: what a folder may hold, the sizes they are seen at, and latents that are made once."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from safelight.errors import FileError, ImageError, RequestError
from safelight.train.order import alike
from safelight.train.own import latents
from safelight.train.own.buckets import buckets, fit, nearest
from safelight.train.own.course import check_edges
from safelight.train.own.latents import Sizes, prepare
from safelight.train.own.pictures import scan, spread
from tests.train.album import pipe, write_pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures")


def _bomb(path: Path) -> None:
    """A PNG of a few bytes that claims 60000 x 60000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


def _emptied(folder: Path) -> None:
    for path in folder.glob("*.png"):
        path.unlink()


WRONG: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "no pictures": (_emptied, FileError, "holds no pictures"),
    "a caption is missing": (lambda f: (f / "1.txt").unlink(), FileError, r"no caption .* beside 1\.png"),
    "a caption is no text": (lambda f: (f / "1.txt").write_bytes(b"\xff\xfe\x00"), FileError, "UTF-8"),
    "a caption is a book": (lambda f: (f / "1.txt").write_text("a" * 70_000), FileError, "no caption"),
    "a picture is none": (lambda f: (f / "1.png").write_text("moss"), ImageError, r"1\.png: is no picture"),
    "a picture is cut off": (lambda f: (f / "1.png").write_bytes((f / "1.png").read_bytes()[:60]), ImageError, "1.png"),
    "a picture is a bomb": (lambda f: _bomb(f / "1.png"), ImageError, r"1\.png.*too many"),
    "a control is missing": (lambda f: (f / "control/1.png").unlink(), FileError, r"same name for 1\.png"),
    "a control is none": (lambda f: (f / "control/1.png").write_text("moss"), ImageError, "control/1.png"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_with_a_folder_is_named(what: str, folder: Path) -> None:
    spoil, kind, told = WRONG[what]
    spoil(folder)
    with pytest.raises(kind, match=told):
        scan(folder, control=folder / "control")


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="--data takes a folder"):
        scan(tmp_path / "none")


def test_captions_come_from_texts_or_from_the_plan_behind_the_trigger(folder: Path) -> None:
    (folder / "1.txt").unlink()
    (folder / "notes.md").write_text("left alone")
    found = {entry.path.name: entry.caption for entry in scan(folder, caption="someone", trigger="framed,")}
    assert found["0.png"] == "framed, a person with green hair"
    assert found["1.png"] == "framed, someone"
    assert len(found) == 4, "neither notes nor controls are pictures"


def test_a_folder_with_a_number_counts_so_often(folder: Path) -> None:
    (folder / "3_moss").mkdir()
    (folder / "0.png").rename(folder / "3_moss/0.png")
    (folder / "0.txt").rename(folder / "3_moss/0.txt")
    entries = scan(folder)
    assert [entry.repeats for entry in entries] == [1, 1, 1, 3]
    assert spread(entries) == [0, 1, 2, 3, 3, 3]


def test_a_control_may_have_another_ending(folder: Path) -> None:
    Image.open(folder / "control/0.png").save(folder / "control/0.webp")
    (folder / "control/0.png").unlink()
    (first, *_) = scan(folder, control=folder / "control")
    assert first.control is not None and first.control[0].name == "0.webp"


@pytest.mark.parametrize(("edge", "step"), [(128, 32), (512, 64), (1024, 64), (32, 8), (64, 64)])
def test_buckets_are_multiples_within_the_area_and_hold_the_square(edge: int, step: int) -> None:
    known = buckets(edge, step)
    assert (edge, edge) in known and len(set(known)) == len(known)
    for width, height in known:
        assert width % step == height % step == 0 and width * height <= edge * edge
        assert (height, width) in known, "turned pictures are treated alike"
        assert nearest((width * 3, height * 3), known) == (width, height), "a picture of its shape goes there"


def test_a_picture_covers_its_bucket_and_is_cut_in_the_middle() -> None:
    picture = Image.new("RGB", (100, 40), "red")
    picture.paste("blue", (0, 0, 10, 40))
    fitted = fit(picture, (32, 32))
    assert fitted.picture.size == (32, 32) and fitted.crop == (24, 0)
    assert fitted.picture.getpixel((0, 16)) == (255, 0, 0), "the blue edge is cut off"
    same = Image.new("RGB", (32, 32), "green")
    assert fit(same, (32, 32)).picture.tobytes() == same.tobytes()


def test_a_size_that_its_step_does_not_divide_names_the_nearest() -> None:
    with pytest.raises(RequestError, match="nearest are 96 and 128"):
        check_edges(100, 32)


def test_latents_are_made_once_and_again_only_for_another_picture(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sizes = pipe().model, Sizes(32, 8, flip=True)
    *_, first = prepare(model, scan(folder), sizes, tmp_path / "latents")
    assert {each.bucket for each in first} == {(32, 32), (48, 16), (16, 48)}
    assert first[2].original == (64, 20) and first[2].latents.shape == (2, 4, 4, 12)
    plain, mirrored = (latents.encode(model, x) for x in _views(folder / "2.png", first[2].bucket))
    assert torch.equal(first[2].latents, torch.cat([plain, mirrored]))
    made: list[Path] = []
    look = latents.look
    monkeypatch.setattr(latents, "look", lambda m, entry, s: made.append(entry.path) or look(m, entry, s))
    *_, again = prepare(model, scan(folder), sizes, tmp_path / "latents")
    assert not made and all(torch.equal(a.latents, b.latents) and a[1:] == b[1:] for a, b in zip(first, again))
    Image.open(folder / "0.png").rotate(90).save(folder / "0.png")
    kept = sorted((tmp_path / "latents").iterdir())
    kept[0].write_bytes(kept[0].read_bytes()[:100])
    list(prepare(model, scan(folder), sizes, tmp_path / "latents"))
    assert folder / "0.png" in made and 1 <= len(made) <= 2, "the new picture, and the damaged file"
    made.clear()
    list(prepare(model, scan(folder), Sizes(32, 8), tmp_path / "latents"))
    assert len(made) == 4, "other sizes or no mirror images are other latents"


def _views(path: Path, bucket: tuple[int, int]) -> list[torch.Tensor]:
    from safelight.generate.picture import to_tensor

    picture = to_tensor(fit(Image.open(path).convert("RGB"), bucket).picture, bucket)
    return [picture, picture.flip(-1)]


def test_latents_of_another_encoder_are_made_anew(folder: Path, tmp_path: Path) -> None:
    model, sizes = pipe().model, Sizes(32, 8)
    list(prepare(model, scan(folder), sizes, tmp_path / "latents"))
    with torch.no_grad():
        next(model.vae.encoder.parameters()).mul_(2.0)
    list(prepare(model, scan(folder), sizes, tmp_path / "latents"))
    assert len(list((tmp_path / "latents").iterdir())) == 8
    with torch.no_grad():
        next(model.vae.decoder.parameters()).mul_(2.0)
    list(prepare(model, scan(folder), sizes, tmp_path / "latents"))
    assert len(list((tmp_path / "latents").iterdir())) == 8, "the decoder makes no latents"


def test_a_step_has_rows_of_one_group_and_leaves_none_out() -> None:
    groups = [[0, 1, 2, 3, 4], [5, 6], [7, 7, 7, 8]]
    steps = [alike(3, step, 2, groups) for step in range(3 + 1 + 2)]
    assert all(any(set(rows) <= set(group) for group in groups) for rows in steps)
    many = [row for step in range(60) for row in alike(3, step, 2, groups)]
    counts = {row: many.count(row) for row in range(9)}
    assert counts == {**dict.fromkeys(range(5), 12), 5: 10, 6: 10, 7: 30, 8: 10}
    assert [alike(3, step, 2, groups) for step in range(6)] == steps, "a function of seed and step"
    assert [alike(4, step, 2, groups) for step in range(6)] != steps
