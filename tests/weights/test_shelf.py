"""Other programs' folders are listed where a configuration names them, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from safelight.errors import ConfigError
from safelight.weights.shelf import Shelved, model_folders, shelved


def test_a_configuration_names_folders(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    assert model_folders(config) == []
    config.write_text('[models]\nfolders = ["/a/b", "~/c"]')
    assert model_folders(config) == [Path("/a/b"), Path.home() / "c"]


@pytest.mark.parametrize(
    "text",
    [
        "[models",
        "[models]\nfolders = 5",
        "[models]\nfolders = [5]",
        "[modelz]\n",
        "[models]\nfolder = []",
        "models = 3",
    ],
)
def test_a_damaged_configuration_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.toml"):
        model_folders(tmp_path / "config.toml")


def test_files_are_listed_by_the_room_they_lie_in(tmp_path: Path) -> None:
    root = tmp_path / "models"
    files = {
        "checkpoints/sd/one.safetensors": "checkpoint",
        "Stable-diffusion/two.ckpt": "checkpoint",
        "Lora/three.safetensors": "lora",
        "unet/four.gguf": "diffusion model",
        "embeddings/five.pt": "embedding",
    }
    for name in (*files, "checkpoints/readme.txt", "elsewhere/six.safetensors"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (tmp_path / "secret.safetensors").touch()
    (root / "Lora/link.safetensors").symlink_to(tmp_path / "secret.safetensors")
    found = list(shelved(root))
    assert {str(each.path.relative_to(root)): each.kind for each in found} == files
    assert Shelved("sd/one", "checkpoint", root / "checkpoints/sd/one.safetensors") in found
    assert list(shelved(tmp_path / "none")) == []
