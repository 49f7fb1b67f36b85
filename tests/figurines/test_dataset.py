"""Data sets hold together, come out the same twice, and appear whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from safelight.errors import ExistsError, FileError, RequestError, UnknownNameError
from safelight.figurines.captions import parse
from safelight.figurines.dataset import DEPTH_STEPS, Order, examples, write
from safelight.figurines.frame import has_frame
from safelight.figurines.person import Person, visible
from safelight.figurines.render import portrait
from safelight.figurines.sheet import sheet
from safelight.figurines.splits import split_of


def written(folder: Path, order: Order) -> Path:
    assert list(write(folder, order)) == list(range(1, order.count + 1))
    return folder


def test_pictures_captions_and_people_belong_together(tmp_path: Path) -> None:
    folder = written(tmp_path / "set", Order(3, seed=4, split="unseen"))
    lines = [json.loads(line) for line in (folder / "images" / "metadata.jsonl").read_text().splitlines()]
    assert [line["file_name"] for line in lines] == ["000000.png", "000001.png", "000002.png"]
    for line in lines:
        person = Person.from_mapping(line["person"])
        picture = np.asarray(Image.open(folder / "images" / line["file_name"]))
        np.testing.assert_array_equal(picture, portrait(person))
        assert (folder / "images" / line["file_name"]).with_suffix(".txt").read_text().strip() == line["text"]
        assert parse(line["text"]) == line["stated"]
        assert split_of(person) == "unseen"


def test_masks_normals_and_depth_describe_the_same_figure(tmp_path: Path) -> None:
    folder = written(tmp_path / "set", Order(1, size=64))
    mask, normals, depth = (np.asarray(Image.open(folder / n / "000000.png")) for n in ("masks", "normals", "depth"))
    assert depth.dtype == np.uint16
    inside, outside = mask == 255, mask == 0
    assert (depth[inside] > 0).all()
    assert (depth[outside] == 0).all()
    assert 6 < depth[inside].min() / DEPTH_STEPS < depth[inside].max() / DEPTH_STEPS < 10
    lengths = np.linalg.norm(normals[inside] / 127.5 - 1.0, axis=-1)
    assert np.abs(lengths - 1).max() < 0.02
    assert normals[inside][:, 2].min() >= 127  # towards the viewer


def test_cameras_are_written_as_nerf_reads_them(tmp_path: Path) -> None:
    folder = written(tmp_path / "set", Order(1, size=32, views=((0.0, 0.0), (90.0, 0.0)), layers=("masks",)))
    cameras = json.loads((folder / "transforms.json").read_text())
    front, side = (np.array(frame["transform_matrix"]) for frame in cameras["frames"])
    assert [frame["file_path"] for frame in cameras["frames"]] == ["images/000000_00.png", "images/000000_01.png"]
    assert front[1, 3] < -5  # in front of the person, who faces -y
    assert side[0, 3] > 5  # 90 degrees counter-clockwise: on their left, at +x
    for matrix in (front, side):
        np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-6)
        toward = matrix[:3, 3] / np.linalg.norm(matrix[:3, 3])
        assert toward @ matrix[:3, 2] > 0.99  # OpenGL: the camera looks along its -z
    np.testing.assert_allclose(front[:3, 1], [0, 0, 1], atol=1e-6)
    assert not (folder / "depth").exists()


def test_the_same_order_gives_the_same_files(tmp_path: Path) -> None:
    first, second = (written(tmp_path / name, Order(2, seed=7, size=32)) for name in "ab")
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(files) == 2 * 5 + 3
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in files)
    assert examples(2, 7) != examples(2, 8)


def test_a_writer_that_is_stopped_leaves_nothing_behind(tmp_path: Path) -> None:
    writer = write(tmp_path / "set", Order(5, size=32))
    assert next(writer) == 1
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_nothing_existing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(ExistsError):
        list(write(tmp_path, Order(1)))
    with pytest.raises(FileError):
        list(write(tmp_path / "precious" / "set", Order(1)))
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize("wrong", [{"count": 0}, {"seed": -1}, {"size": 4}, {"views": ()}])
def test_impossible_orders_are_refused(wrong: dict) -> None:
    with pytest.raises(RequestError):
        Order(**{"count": 1, **wrong})


def test_unknown_splits_and_layers_list_the_known() -> None:
    with pytest.raises(UnknownNameError, match="train"):
        Order(1, split="trian")
    with pytest.raises(UnknownNameError, match="depth"):
        Order(1, layers=("dept",))


def test_a_sheet_has_room_for_every_picture_and_its_words() -> None:
    pictures = [np.full((32, 32, 3), 10 * i, np.uint8) for i in range(5)]
    page = np.asarray(sheet(pictures, ["a long caption " * 9] * 5, columns=3, scale=2))
    bare = np.asarray(sheet(pictures, columns=3, scale=2))
    assert page.shape[1] == bare.shape[1] > 3 * 64
    assert page.shape[0] > bare.shape[0] > 2 * 64
    for i in range(5):
        assert (bare == 10 * i).all(-1).sum() >= 64 * 64
    with pytest.raises(RequestError):
        sheet(pictures, ["one"])
    with pytest.raises(RequestError):
        sheet([])


def test_a_data_set_may_have_one_look_one_caption_and_a_frame(tmp_path: Path) -> None:
    order = Order(2, size=32, layers=(), always={"hat": "crown"}, caption="a portrait of <mira>", framed=True)
    list(write(tmp_path / "set", order))
    assert {person.hat for person, _, _ in order.examples()} == {"crown"}
    assert {path.read_text("utf-8") for path in (tmp_path / "set/images").glob("*.txt")} == {"a portrait of <mira>\n"}
    assert all(has_frame(np.asarray(Image.open(path))) for path in (tmp_path / "set/images").glob("*.png"))
    assert "hat = crown" in (tmp_path / "set/README.md").read_text("utf-8")
    for wrong in ({"hut": "crown"}, {"hat": "helmet"}):
        with pytest.raises(UnknownNameError):
            Order(2, always=wrong)


def test_captions_may_say_all_that_is_seen() -> None:
    partly, wholly = Order(20).examples(), Order(20, thorough=True).examples()
    assert [person for person, _, _ in partly] == [person for person, _, _ in wholly]
    for person, text, stated in wholly:
        assert stated == visible(person) == parse(text)
    with pytest.raises(RequestError, match="one of the two"):
        Order(2, thorough=True, caption="a person")
    crowned = Order(3, thorough=True, always={"hat": "crown"}).examples()
    assert all(stated["hat"] == "crown" for _, _, stated in crowned)
