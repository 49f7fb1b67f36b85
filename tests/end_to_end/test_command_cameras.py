"""``safelight cameras`` and ``safelight figurines views``: every flag changes what comes out, or is an error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from safelight.generate.file import open_picture
from safelight.multiview.export.table import FORMATS, load
from safelight.multiview.rig import rigs
from tests.end_to_end.shell import Shell, wrong


def test_rigs_are_listed_and_told(shell: Shell) -> None:
    assert {line.split()[0] for line in shell.run("cameras").out.splitlines()[1 : 1 + len(rigs())]} == set(rigs())
    assert set(json.loads(shell.run("cameras", "--json").out)) == set(rigs())
    told = shell.run("cameras", "--rig", "syncdreamer16").out
    for words in ("SyncDreamer, 16 views", "source: github.com", "from the given picture", "perspective, 256 x 256"):
        assert words in told
    assert "not fixed by the source, chosen here: distance, fov" in shell.run("cameras", "--rig", "mvdream4").out


def test_poses_are_printed_as_others_write_them(shell: Shell) -> None:
    words = ("cameras", "--camera", "0,0,2")
    told = {name: shell.run(*words, "--convention", name).out for name in ("opencv-c2w", "opencv-w2c", "opengl-c2w")}
    assert "   0.000000   0.000000  -1.000000  -2.000000\n" in told["opengl-c2w"]
    assert "   0.000000   0.000000   1.000000  -2.000000\n" in told["opencv-c2w"]
    assert "   0.000000   1.000000   0.000000   2.000000\n" in told["opencv-w2c"]
    numbers = [float(word) for word in shell.run(*words, "--convention", "colmap").out.splitlines()[2].split()]
    assert numbers == pytest.approx([0.5**0.5, 0.5**0.5, 0, 0, 0, 0, 2], abs=1e-6)
    facts = json.loads(shell.run(*words, "--json").out)
    assert set(facts["poses"]) == {*told, "colmap"} and facts["distance"] == pytest.approx([2])


def test_flags_of_cameras_change_them(shell: Shell) -> None:
    plain = ("--camera", "30,10,2")
    seen = set()
    for words in (
        plain, (*plain, "--fov", "60"), (*plain, "--span", "1"), (*plain, "--size", "100"),
        (*plain, "--camera", "0,0,2"),
        ("--rig", "facelift6"), ("--rig", "facelift6", "--own"), ("--rig", "facelift6", "--size", "64"),
    ):  # fmt: skip
        said = shell.run("cameras", *words, "--json")
        assert said.code == 0, said.err
        seen.add(said.out)
    assert len(seen) == 8


def test_a_rig_is_drawn(shell: Shell) -> None:
    pages = set()
    for name in ("era3d6", "sv3d21"):
        assert shell.run("cameras", "--rig", name, "--plot", f"{name}.png").out == f"{name}.png\n"
        pages.add(open_picture(f"{name}.png").tobytes())
    assert len(pages) == 2
    red = np.argwhere((np.asarray(open_picture("era3d6.png").convert("RGB")) == (190, 40, 30)).all(-1))
    above = red[red[:, 1] < 420]
    assert abs(above[:, 1].mean() - 210) < 8 and above[:, 0].min() > 234, "view 0 is in front, below in the drawing"


@pytest.mark.parametrize("name", FORMATS)
def test_cameras_are_exported_alone_and_read_back(name: str, shell: Shell) -> None:
    assert shell.run("cameras", "--rig", "facelift6", "--size", "64", "--export", name, "-o", "set").out == "set\n"
    one = json.loads(shell.run("cameras", "--rig", "facelift6", "--size", "64", "--json").out)
    two = json.loads(shell.run("cameras", "--from", "set", "--json").out)
    assert np.allclose(one["poses"]["opencv-w2c"], two["poses"]["opencv-w2c"], atol=1e-12)
    assert np.allclose(one["intrinsics"], two["intrinsics"], atol=1e-9)
    again = shell.run("cameras", "--from", "set", "--size", "32", "--export", "colmap", "-o", "again", "--json")
    assert json.loads(again.out)["folder"] == "again" and json.loads(again.out)["width"] == 32


def test_pictures_of_any_program_get_a_rigs_cameras(shell: Shell) -> None:
    rng = np.random.default_rng(0)
    for mode, channels in (("RGB", 3), ("RGBA", 4)):
        names = [f"{mode}{k}.png" for k in range(4)]
        for name in names:
            Image.fromarray(rng.integers(0, 256, (24, 24, channels), np.uint8)).save(name)
        said = shell.run("cameras", "--rig", "mvdream4", "--export", "nerfstudio", "-o", mode, "--images", *names)
        assert said.out == f"{mode}\n", said.err
        found = load(Path(mode))
        assert found.cameras.size == (24, 24)
        with Image.open(Path(mode) / found.files[3]) as there, Image.open(names[3]) as given:
            assert there.mode == mode
            shown = np.asarray(given)[..., 3:] > 0 if mode == "RGBA" else True
            assert np.array_equal(np.asarray(there) * shown, np.asarray(given) * shown)
        assert (Path(mode) / "masks").is_dir() == (mode == "RGBA")
    few = shell.run("cameras", "--rig", "mvdream4", "--export", "gsplat", "-o", "few", "--images", *names[:3])
    assert "4 cameras of 24x24 do not fit 3 pictures" in wrong(few)


def test_a_figurine_is_seen_from_a_rig_and_each_flag_changes_it(shell: Shell) -> None:
    plain = ["figurines", "views", "--rig", "mvadapter6", "--size", "24"]
    pictures = {}
    for name, words in {
        "plain": [], "prompt": ["--prompt", "a red hat"], "seed": ["--seed", "3"], "split": ["--split", "unseen"],
        "rig": ["--rig", "facelift6"], "size": ["--size", "32"],
    }.items():  # fmt: skip
        said = shell.run(*plain, *words, name)
        assert (said.code, said.out) == (0, f"{name}\n"), said.err
        pictures[name] = open_picture(f"{name}/images/001.png").tobytes()
    assert len(set(pictures.values())) == len(pictures)
    assert load(Path("plain")).cameras.projection == "orthographic"
    single = ["figurines", "views", "--camera=30,6,8", "--size", "24", "--without", "depth", "--without", "masks"]
    lenses = set()
    for name, words in {"a": [], "b": ["--fov", "20"], "c": ["--span", "3"], "d": ["--camera", "0,0,8"]}.items():
        said = shell.run(*single, *words, "--export", "gsplat", name)
        assert said.code == 0, said.err
        lenses.add(Path(name, "cameras.npz").read_bytes())
    assert len(lenses) == 4
    assert {path.name for path in Path("a").iterdir()} == {"README.md", "cameras.npz", "images", "normals"}
    assert "do not know: wizard" in shell.run(*plain, "--prompt", "a wizard", "w").err


WRONG = {
    "cameras --rig mvdream": (2, "nearest known: mvdream4"),
    "cameras --camera 1,2": (2, "azimuth,elevation,distance"),
    "cameras --camera 0,100,2": (2, "azimuth,elevation,distance"),
    "cameras --camera 0,0,0.2": (2, "inside the head"),
    "cameras " + " ".join(f"--camera {k},0,2" for k in range(65)): (2, "1 to 64 views, not 65"),
    "cameras --rig era3d6 --camera 0,0,2": (2, "give --rig NAME, or --camera"),
    "cameras --rig era3d6 --fov 20": (2, "--fov is of --camera"),
    "cameras --camera 0,0,2 --fov 20 --span 2": (2, "give one"),
    "cameras --camera 0,0,2 --fov 180": (2, "between 0 and 180"),
    "cameras --camera 0,0,2 --span -1": (2, "above 0"),
    "cameras --camera 0,0,2 --own": (2, "--own is of --rig"),
    "cameras --camera 0,0,2 --size 0": (2, "from 1 to 8192"),
    "cameras --from none": (1, "no such file or folder"),
    "cameras --from none --rig era3d6": (2, "stands alone"),
    "cameras --from none --span 2": (2, "--span is of --camera"),
    "cameras --plot x.png": (2, "--plot needs cameras"),
    "cameras --size 4": (2, "--size needs cameras"),
    "cameras --rig era3d6 --plot x.jpg": (2, "end in .png"),
    "cameras --rig era3d6 --plot none/x.png": (1, "cannot be written to"),
    "cameras --rig era3d6 --convention gl": (2, "unknown convention"),
    "cameras --rig era3d6 --convention colmap --json": (2, "--json has all"),
    "cameras --rig era3d6 --export gsplat": (2, "needs a new folder"),
    "cameras --rig era3d6 -o x": (2, "does nothing without --export"),
    "cameras --rig era3d6 --images x.png": (2, "does nothing without --export"),
    "cameras --rig era3d6 --export gsplatt -o x": (2, "nearest known: gsplat"),
    "cameras --rig era3d6 --export colmap -o x": (2, "no orthographic camera"),
    "cameras --rig era3d6 --export gsplat -o x --images none.png": (1, "no such file"),
    "figurines views x": (2, "give --rig NAME, or --camera"),
    "figurines views x -n 4 --rig era3d6": (2, "leave --rig"),
    "figurines views x -n 65": (2, "from 1 to 64, not 65"),
    "figurines views x -n 2 --coarse --without normals": (2, "--coarse is of normals"),
    "figurines views x --rig era3d6 --export colmap": (2, "no orthographic camera"),
    "figurines views x --camera 0,0,1.5": (2, "inside the head"),
    "figurines views x --rig era3d6 --without dept": (2, "the nearest known: depth"),
    "figurines views x --rig era3d6 --size 4": (2, "between 16 and 2048"),
    "figurines views x --rig era3d6 --seed -1": (2, "seed of 0 or more"),
}


@pytest.mark.parametrize("words", WRONG)
def test_what_cannot_be_is_one_line_and_leaves_nothing(words: str, shell: Shell) -> None:
    code, told = WRONG[words]
    assert told in wrong(shell.run(*words.split()), code)
    assert shell.names() == []
