"""A released folder is read by its index, and what is missing or dangerous in it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from safelight.errors import ConfigError, WeightsError
from safelight.weights.folder import read_index, read_json, weight_files


def write_json(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_an_index_names_parts_and_settings(tmp_path: Path) -> None:
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.6.0",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "safety_checker": [None, None],
        "requires_safety_checker": False,
    }
    write_json(tmp_path / "model_index.json", index)
    read = read_index(tmp_path)
    assert (read.folder, read.pipeline) == (tmp_path, "StableDiffusionPipeline")
    assert read.parts == {"unet": ("diffusers", "UNet2DConditionModel")}
    assert read.settings == {"requires_safety_checker": False}


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "not valid JSON"), ("[]", "not a table"), ("{}", "_class_name"), ('{"_class_name": 5}', "_class_name")],
)
def test_a_damaged_index_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "model_index.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_index(tmp_path)


def test_a_part_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    write_json(tmp_path / "model_index.json", {"_class_name": "X", "../up": ["a", "b"]})
    with pytest.raises(ConfigError, match="not a plain name"):
        read_index(tmp_path)


def test_a_missing_folder_or_index_is_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such folder"):
        read_index(tmp_path / "none")
    with pytest.raises(WeightsError, match="is the model complete"):
        read_index(tmp_path)


def test_a_table_that_is_no_text_or_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not text in UTF-8"):
        read_json(tmp_path / "a.json")
    with (tmp_path / "b.json").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(WeightsError, match="no configuration"):
        read_json(tmp_path / "b.json")


@pytest.mark.parametrize(
    ("present", "taken"),
    [
        (["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"], 0),
        (["model.fp16.safetensors", "pytorch_model.bin"], 0),
        (["model.safetensors"], 0),
    ],
)
def test_the_full_precision_file_comes_first(tmp_path: Path, present: list[str], taken: int) -> None:
    for name in present:
        (tmp_path / name).touch()
    assert weight_files(tmp_path) == [tmp_path / present[taken]]


def test_shards_are_found_by_their_index(tmp_path: Path) -> None:
    shards = ["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"]
    index = {"weight_map": {"a": shards[1], "b": shards[0], "c": shards[1]}}
    write_json(tmp_path / "model.safetensors.index.json", index)
    (tmp_path / shards[0]).touch()
    with pytest.raises(WeightsError, match=r"00002-of-00002.*this shard is missing"):
        weight_files(tmp_path)
    (tmp_path / shards[1]).touch()
    assert weight_files(tmp_path) == [tmp_path / name for name in shards]


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "..", "", "a\\b"])
def test_a_shard_cannot_lie_elsewhere(tmp_path: Path, name: str) -> None:
    write_json(tmp_path / "model.safetensors.index.json", {"weight_map": {"a": name}})
    with pytest.raises(ConfigError, match="not a plain name"):
        weight_files(tmp_path)


def test_a_pickle_alone_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "diffusion_pytorch_model.bin").touch()
    with pytest.raises(WeightsError, match="this is a pickle"):
        weight_files(tmp_path)
    with pytest.raises(WeightsError, match="is the model complete"):
        weight_files(tmp_path / "none")


def test_a_variant_is_the_only_one_that_is_taken(tmp_path: Path) -> None:
    for name in ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"):
        (tmp_path / name).touch()
    assert weight_files(tmp_path, "fp16") == [tmp_path / "diffusion_pytorch_model.fp16.safetensors"]
    with pytest.raises(WeightsError, match="of the variant bf16"):
        weight_files(tmp_path, "bf16")
    for name in ("../x", "a/b", ".hidden"):
        with pytest.raises(ConfigError, match="cannot be a variant"):
            weight_files(tmp_path, name)


def test_shards_of_two_variants_never_mix(tmp_path: Path) -> None:
    names = ["model.fp16-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for name in names:
        (tmp_path / name).touch()
    write_json(tmp_path / "model.safetensors.index.json", {"weight_map": {"a": names[0], "b": names[1]}})
    with pytest.raises(ConfigError, match=r"several variants.*never mix"):
        weight_files(tmp_path)
    write_json(tmp_path / "model.safetensors.index.json", {"weight_map": {"a": names[0]}})
    with pytest.raises(ConfigError, match="several variants"):
        weight_files(tmp_path)
    write_json(tmp_path / "model.safetensors.index.fp16.json", {"weight_map": {"a": names[0], "b": names[1]}})
    with pytest.raises(ConfigError, match="several variants"):
        weight_files(tmp_path, "fp16")
    write_json(tmp_path / "model.safetensors.index.fp16.json", {"weight_map": {"a": names[0]}})
    assert weight_files(tmp_path, "fp16") == [tmp_path / names[0]]


def test_pickles_are_found_only_with_permission(tmp_path: Path) -> None:
    (tmp_path / "diffusion_pytorch_model.bin").touch()
    assert weight_files(tmp_path, pickles=True) == [tmp_path / "diffusion_pytorch_model.bin"]
    (tmp_path / "diffusion_pytorch_model.safetensors").touch()
    assert weight_files(tmp_path, pickles=True) == [tmp_path / "diffusion_pytorch_model.safetensors"]


def index_of(folder: Path) -> Path:
    folder.mkdir(parents=True)
    write_json(folder / "model_index.json", {"_class_name": "X"})
    return folder


def test_a_link_may_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    folder = index_of(tmp_path / "model")
    (folder / "unet").mkdir()
    (tmp_path / "secret").write_text("{}")
    (folder / "unet/config.json").symlink_to(tmp_path / "secret")
    with pytest.raises(WeightsError, match="leads out of the model's folder"):
        read_index(folder)
    (folder / "unet/config.json").unlink()
    (folder / "vae").symlink_to(tmp_path)
    with pytest.raises(WeightsError, match="leads out of the model's folder"):
        read_index(folder)


def test_links_inside_a_folder_and_to_it_are_followed(tmp_path: Path) -> None:
    folder = index_of(tmp_path / "model")
    (folder / "unet").mkdir()
    (folder / "unet/a.json").write_text("{}")
    (folder / "unet/b.json").symlink_to("a.json")
    (tmp_path / "alias").symlink_to(folder)
    assert read_index(tmp_path / "alias").pipeline == "X"


@pytest.mark.parametrize("below", ["", "sub"])
def test_in_the_hubs_cache_a_model_is_all_of_its_folder(tmp_path: Path, below: str) -> None:
    place = tmp_path / "models--org--name"
    (place / "blobs").mkdir(parents=True)
    (place / "blobs/abc").write_text("{}")
    folder = index_of(place / "snapshots/123" / below)
    (folder / "config.json").symlink_to(place / "blobs/abc")
    assert read_index(folder).pipeline == "X"
    (tmp_path / "models--org--other").mkdir()
    (tmp_path / "models--org--other/abc").write_text("{}")
    (folder / "other.json").symlink_to(tmp_path / "models--org--other/abc")
    with pytest.raises(WeightsError, match="leads out of the model's folder"):
        read_index(folder)


def test_what_came_with_the_program_may_be_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = index_of(tmp_path / "package/assets/model")
    (tmp_path / "store").write_text("{}")
    (folder / "config.json").symlink_to(tmp_path / "store")
    with pytest.raises(WeightsError, match="leads out of the model's folder"):
        read_index(folder)
    monkeypatch.setattr("safelight.weights.folder.PACKAGE", tmp_path / "package")
    assert read_index(folder).pipeline == "X"
