"""A model of the hub is fetched through the hub's own library when asked, whole or with a line that says why not.

The hub is one on this machine (`tests.hub`), under the address that ``HF_ENDPOINT`` gives; every command is a process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.hub import COMMIT, Hub, serving
from tests.models import tiny

pytest.importorskip("huggingface_hub")
UNET = "unet/diffusion_pytorch_model.safetensors"
MODEL = {str(file.relative_to(tiny())): file.read_bytes() for file in tiny().rglob("*") if file.is_file()}
BESIDE = {"weights.ckpt": b"x", "unet/diffusion_pytorch_model.bin": b"x", "code.py": b"x"}
BELOW = {f"small/{name}": data for name, data in MODEL.items()}


@pytest.fixture
def hub() -> Iterator[Hub]:
    models = {"org/tiny": {**MODEL, **BESIDE}, "org/closed": MODEL, "org/below": BELOW}
    with serving(Hub(models, gated=frozenset({"org/closed"}))) as server:
        yield server


@pytest.fixture
def run(hub: Hub, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``safelight WORDS`` in a process whose hub and cache are these; ``;`` parts several commands of one process."""

    def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if "HF_" not in name and "OFFLINE" not in name}
        here = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HOME": str(tmp_path / "home")}
        direct = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "PYTHONPATH": str(ROOT)}
        ends = [place for place, word in enumerate((*words, ";")) if word == ";"]
        commands = [list(words[a + 1 : b]) for a, b in pairwise((-1, *ends)) if words[a + 1 : b]]
        code = f"from safelight.cli.main import main; raise SystemExit(max([main(each) for each in {commands!r}]))"
        said = [sys.executable, "-c", code]
        return subprocess.run(
            said, env={**kept, **here, **direct, **environment}, cwd=tmp_path, capture_output=True, text=True
        )

    return command


def line(said: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """The last line of a command that failed as it should."""
    assert said.returncode == code and said.stdout == "" and "Traceback" not in said.stderr, said
    return said.stderr.splitlines()[-1]


def test_a_model_is_fetched_once_with_progress_and_read_without_the_hub_afterwards(
    hub: Hub, run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    assert "--download fetches it" in line(run("inspect", "org/tiny"), 2)
    assert hub.asked == [], "nothing is fetched unless asked"
    said = run("inspect", "org/tiny@v1", "--download")
    assert said.returncode == 0 and "StableDiffusionPipeline" in said.stdout, said.stderr
    assert "Fetching" in said.stderr and "100%" in said.stderr
    folder = tmp_path / "hub/models--org--tiny/snapshots" / COMMIT
    there = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert there == MODEL, "pickles and code stay where they are"
    hub.asked.clear()
    assert run("inspect", "org/tiny@v1").stdout == said.stdout
    assert hub.asked == []


def test_a_folder_below_is_fetched_alone(hub: Hub, run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    said = run("inspect", "org/below:small/vae", "--download")
    assert said.returncode == 0 and "AutoencoderKL" in said.stdout, said.stderr
    fetched = [path.partition(COMMIT + "/")[2] for method, path, _ in hub.asked if method == "GET" and COMMIT in path]
    assert {path for path in fetched if path} == {f"small/vae/{file.name}" for file in (tiny() / "vae").iterdir()}


def test_what_the_hub_does_not_give_is_one_line_that_says_what_to_do(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    names = {
        "org/closed": "asks for its terms to be accepted; do so on its page there, and set HF_TOKEN",
        "org/none": "has no such model for you; check its name",
        "org/tiny@v9": "has no revision of that name",
        "org/tiny:nowhere": "has no folder of that name",
    }
    said = run(*[word for name in names for word in ("inspect", name, "--download", ";")])
    assert said.stdout == "" and "Traceback" not in said.stderr
    lines = [line for line in said.stderr.splitlines() if line.startswith("safelight: ")]
    assert len(lines) == len(names)
    assert all(f"{name}: " in line and words in line for line, (name, words) in zip(lines, names.items())), lines
    away = run("inspect", "org/tiny", "--download", HF_ENDPOINT="http://127.0.0.1:9")
    assert "cannot be reached; check the network" in line(away)
    quiet = run("inspect", "org/tiny", "--download", TRANSFORMERS_OFFLINE="1")
    assert "is not asked, for the environment says so" in line(quiet)
    assert not [file for file in (tmp_path / "hub").rglob("*.safetensors") if file.exists()]
    assert run("inspect", "org/closed", "--download", HF_TOKEN="right").returncode == 0


def test_a_line_that_drops_leaves_nothing_half_and_is_taken_up_again(
    hub: Hub, run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    hub.cut = {UNET: 1}
    assert run("inspect", "org/tiny", "--download").returncode == 0, "the library asks again by itself"
    place = tmp_path / "hub/models--org--tiny/snapshots" / COMMIT / UNET
    assert place.read_bytes() == MODEL[UNET]
    hub.cut = {UNET: 1000}
    other = {"HF_HUB_CACHE": str(tmp_path / "other")}
    failed = run("inspect", "org/tiny", "--download", **other)
    assert "what came so far is kept, so try again" in line(failed)
    place = tmp_path / "other/models--org--tiny/snapshots" / COMMIT / UNET
    assert not place.exists(), "half a file never stands where a whole one is looked for"
    hub.cut = {}
    assert run("inspect", "org/tiny", "--download", **other).returncode == 0
    assert place.read_bytes() == MODEL[UNET]
    assert not list((tmp_path / "other").rglob("*.incomplete"))


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from safelight.errors import FileError
    from safelight.weights.hub import HubName, fetch

    def download(*words: object, **how: object) -> str:
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise RuntimeError("download failed") from error

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=download))
    with pytest.raises(FileError, match=r"no space is left for it in .*; make room"):
        fetch(tmp_path, HubName("org", "name"), offline=False)
