"""The hub's cache is read as it lies; fetching is a step of its own that can be forbidden."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from safelight.errors import FileError, RequestError, WeightsError
from safelight.weights.hub import HubName, cached, fetch, hub_name

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("org/name", HubName("org", "name")),
        ("org/name@v1.5", HubName("org", "name", "v1.5")),
        ("org/name@refs/pr/3", HubName("org", "name", "refs/pr/3")),
        ("org/name:sub/folder", HubName("org", "name", "main", "sub/folder")),
        ("a.b/c-d_e@main:x", HubName("a.b", "c-d_e", "main", "x")),
        ("name", None),
        ("/abs/path", None),
        ("a/b/c", None),
        ("./a", None),
        ("a/b@", None),
        ("a b/c", None),
    ],
)
def test_a_name_is_taken_apart(text: str, name: HubName | None) -> None:
    assert hub_name(text) == name
    if name and name.revision != "main":
        assert str(name) == text


@pytest.mark.parametrize("text", ["a/b@x/../../y", "a/b:x/../y", "a../b", "a/b..c@d"])
def test_a_name_never_leads_up(text: str) -> None:
    with pytest.raises(RequestError, match=r"no '\.\.'"):
        hub_name(text)


def model(hub: Path, ref: str = COMMIT) -> Path:
    place = hub / "models--org--name"
    (place / "refs").mkdir(parents=True)
    (place / "refs/main").write_text(ref)
    (place / "snapshots" / COMMIT / "sub").mkdir(parents=True)
    return place / "snapshots" / COMMIT


def test_a_model_is_found_by_revision_commit_and_folder(tmp_path: Path) -> None:
    folder = model(tmp_path)
    assert cached(tmp_path, HubName("org", "name")) == folder
    assert cached(tmp_path, HubName("org", "name", COMMIT)) == folder
    assert cached(tmp_path, HubName("org", "name", "main", "sub")) == folder / "sub"
    for missing in (HubName("org", "other"), HubName("org", "name", "v2"), HubName("org", "name", "main", "none")):
        assert cached(tmp_path, missing) is None
    assert cached(tmp_path, HubName("org", "name", "f" * 40)) is None


def test_a_reference_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    model(tmp_path, "../../../../etc")
    with pytest.raises(WeightsError, match="names no commit"):
        cached(tmp_path, HubName("org", "name"))


def test_fetching_is_forbidden_when_offline_and_needs_its_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RequestError, match="HF_HUB_OFFLINE is set"):
        fetch(tmp_path, HubName("org", "name"), offline=True)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(RequestError, match=r"safelight\[hub\]"):
        fetch(tmp_path, HubName("org", "name"), offline=False)


def test_fetching_asks_for_data_only_and_tells_what_the_hub_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def download(name: str, **how: Any) -> str:
        asked.update(how, name=name)
        if how["revision"] == "gone":
            raise OSError("404: no such revision\nlong story")
        return str(tmp_path)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=download))
    (tmp_path / "sub").mkdir()
    assert fetch(tmp_path, HubName("org", "name", "v1", "sub"), offline=False) == tmp_path / "sub"
    assert (asked["name"], asked["revision"], asked["cache_dir"]) == ("org/name", "v1", tmp_path)
    assert all(pattern.startswith("sub/") for pattern in asked["allow_patterns"])
    assert not any(pattern.endswith((".bin", ".ckpt", ".py", "*")) for pattern in asked["allow_patterns"])
    with pytest.raises(FileError, match=r"404: no such revision\); what came so far is kept, so try again$"):
        fetch(tmp_path, HubName("org", "name", "gone"), offline=False)
