"""``inspect`` says what files, adapters and folders are, and what is wrong with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from safelight.weights.load import read
from safelight.weights.save import save
from tests.end_to_end.shell import Shell, wrong
from tests.end_to_end.test_single_files import hub, single
from tests.models import tiny


def test_inspect_tells_what_a_file_is(shell: Shell) -> None:
    path = single(shell, "sdxl")
    said = json.loads(shell.run("inspect", path.name, "--json").out)
    assert (said["family"], said["variant"], said["layout"], said["task"]) == ("sd", "sdxl", "ldm", "text")
    assert sorted(said["components"]) == ["text_encoder", "text_encoder_2", "unet", "vae"]
    assert said["parameters"] == sum(tensor.numel() for tensor in read(path).values())
    assert said["left"] == [] and said["dtypes"] == {"F32": said["parameters"]}
    text = shell.run("inspect", path.name).out
    assert "Stable Diffusion XL, text: a single file" in text
    for part in ("unet", "vae"):
        told = shell.run("inspect", str(tiny("sdxl") / part / "diffusion_pytorch_model.safetensors")).out
        assert "of a released folder" in told and f"{part} " in told


def test_inspect_tells_what_a_folder_is(shell: Shell) -> None:
    shutil.copytree(tiny("sdxl"), "m")
    said = json.loads(shell.run("inspect", "m", "--json").out)
    assert (said["pipeline"], said["layout"], said["task"]) == ("StableDiffusionXLPipeline", "folder", "text")
    assert sorted(name for name, part in said["components"].items() if part["files"]) == [
        *("text_encoder", "text_encoder_2", "unet", "vae")
    ]
    files = Path("m").rglob("*.safetensors")
    assert said["parameters"] == sum(tensor.numel() for file in files for tensor in read(file).values())
    Path("m/vae/diffusion_pytorch_model.safetensors").rename("m/vae/diffusion_pytorch_model.fp16.safetensors")
    Path("m/unet/diffusion_pytorch_model.safetensors").rename("m/unet/diffusion_pytorch_model.bin")
    text = shell.run("inspect", "m").out
    assert "a released folder of a StableDiffusionXLPipeline" in text
    assert "scheduler       DDIMScheduler, epsilon" in text
    assert "this is a pickle" in text and "not taken: 1: unet/diffusion_pytorch_model.bin" in text
    assert "of the variant fp16" in shell.run("inspect", "m", "--variant", "fp16").out
    assert "cut off" in wrong(shell.run("inspect", cut(tiny("sdxl"), "vae")), 1)


def cut(model: Path, part: str) -> str:
    """A copy of a folder, one file of its weights cut off."""
    shutil.copytree(model, "cut")
    with Path("cut", part, "diffusion_pytorch_model.safetensors").open("rb+") as file:
        file.truncate(2000)
    return "cut"


def test_inspect_takes_every_name_of_a_model_and_folders_of_parts(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub(shell.folder)
    monkeypatch.setenv("HF_HUB_CACHE", str(shell.folder / "hub"))
    assert "a released folder of a StableDiffusionPipeline" in shell.run("inspect", "org/name").out
    assert "StableDiffusionPipeline" in shell.run("inspect", "figurines").out
    assert "autoencoder" not in (said := shell.run("inspect", "org/name:vae")).err and "AutoencoderKL" in said.out
    assert "--download fetches it" in wrong(shell.run("inspect", "org/other"))
    assert "HF_HUB_OFFLINE is set" in wrong(shell.run("inspect", "org/other", "--download"))
    Path("loras").mkdir()
    for name in "ab":
        save({"emb_params": torch.ones(2, 768)}, f"loras/{name}.safetensors")
    text = shell.run("inspect", "loras").out
    assert text.count("textual inversion for Stable Diffusion 1") == 2 and "loras/b.safetensors" in text
    assert len(json.loads(shell.run("inspect", "loras", "--json").out)["files"]) == 2
    torch.save({"emb_params": torch.ones(2, 768)}, "loras/c.pt")
    assert shell.run("inspect", "loras", "--allow-pickle").out.count("textual inversion") == 3
    monkeypatch.setattr("safelight.weights.survey.FILES", 2)
    assert "no more than 2 of its files" in shell.run("inspect", "loras", "--allow-pickle").err


def test_inspect_tells_what_an_adapter_is_for(shell: Shell) -> None:
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    weights = {f"{name}.lora_down.weight": torch.ones(4, 768), f"{name}.lora_up.weight": torch.ones(8, 4)}
    save({**weights, "lora_te_x.lora_down.weight": torch.ones(8, 3)}, "a.safetensors", {"ss_network_dim": "4"})
    text = shell.run("inspect", "a.safetensors").out
    assert "lora for Stable Diffusion 1, rank 4 to 8, named like kohya" in text
    assert "changes     unet, text_encoder" in text and "ss_network_dim = 4" in text
    said = json.loads(shell.run("inspect", "a.safetensors", "--json").out)
    assert said["adapter"]["rank"] == [4, 8] and said["layout"] == "adapter" and said["variant"] == "sd1"


def test_inspect_tells_what_is_wrong_with_a_file_of_the_released_size(shell: Shell) -> None:
    from safelight.evaluate import hollow

    rows = hollow.single("sd1")
    rows["first_stage_model.quant_conv.bias"] = (9,)
    rows["model.diffusion_model.out.2.weightz"] = rows.pop("model.diffusion_model.out.2.weight")
    rows |= {f"junk.{i}": (1,) for i in range(20)} | {"model_ema.diffusion_modelout2weight": (1,), "betas": (3,)}
    hollow.write_file(shell.folder / "m.safetensors", rows)
    text = shell.run("inspect", "m.safetensors").out
    assert "missing: 1: conv_out.weight\n" in text and "unexpected: 1: conv_out.weightz\n" in text
    assert "other shape: 1: quant_conv.bias\n" in text and "(EMA) lie beside" in text
    assert "left over: 20: junk.0, junk.1" in text and "and 12 more" in text
    assert "says nothing: 2:" in text


def test_inspect_names_the_presets_of_models_of_views(shell: Shell) -> None:
    from safelight.evaluate import hollow

    hollow.write_file(shell.folder / "m.safetensors", hollow.single("imagedream"))
    text = shell.run("inspect", "m.safetensors").out
    assert "ImageDream, views: a single file" in text and "left over" not in text and "unexpected" not in text
    assert "preset      imagedream or imagedream-local, which have the same layout; safelight" in text
    said = json.loads(shell.run("inspect", "m.safetensors", "--json").out)
    assert said["presets"] == ["imagedream", "imagedream-local"]
    hollow.write_folder(shell.folder / "m", "zero123pp")
    text = shell.run("inspect", "m").out
    assert "zero123pp-1.1 or zero123pp-1.2, which have the same layout; safelight.multiview.zero123plus" in text
    assert len(json.loads(shell.run("inspect", "m", "--json").out)["presets"]) == 2
    for name in ("unet", "vae"):
        shutil.copytree(tiny() / name, f"own/{name}")
    notes = {"card": {}, "views": "figurines-views", "changes": {}, "made_by": "safelight"}
    Path("own/safelight.json").write_text(json.dumps(notes))
    text = shell.run("inspect", "own").out
    assert "a model of views of the preset figurines-views; 'safelight views -m own' draws with it" in text
    assert "own/unet/" in text and "own/vae/" in text
    said = json.loads(shell.run("inspect", "own", "--json").out)
    assert said["presets"] == ["figurines-views"] and len(said["files"]) == 2
    Path("own/safelight.json").unlink()
    assert json.loads(shell.run("inspect", "own", "--json").out)["presets"] == []
