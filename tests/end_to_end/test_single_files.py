"""Models that are one file: converted there and back to the bit, drawn from, inspected, and refused when wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from safelight.weights.header import Header
from safelight.weights.load import read
from safelight.weights.safetensors import read_header
from safelight.weights.save import save
from tests.end_to_end.shell import Shell, wrong
from tests.models import tiny

KINDS = ("sd1", "sd2", "sdxl", "inpaint")
MORE = ("depth", "x4", "lcm")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def single(shell: Shell, kind: str = "sd1", *, beside: bool = True) -> Path:
    """A tiny model as one file in the shell's folder, its vocabulary beside it."""
    said = shell.run("convert", str(tiny(kind)), f"{kind}.safetensors")
    assert said.code == 0, said.err
    if beside:
        for name in ("tokenizer", "tokenizer_2"):
            if (tiny(kind) / name).is_dir():
                shutil.copytree(tiny(kind) / name, shell.folder / name, dirs_exist_ok=True)
    return shell.folder / f"{kind}.safetensors"


def changed(path: Path, change: Callable[[dict[str, Tensor]], Any], **metadata: str) -> Path:
    """The file with other tensors or metadata."""
    header, tensors = read_header(path), {name: tensor.clone() for name, tensor in read(path).items()}
    change(tensors)
    save(tensors, path, {**header.metadata, **metadata})
    return path


@pytest.mark.parametrize("kind", [*KINDS, *MORE])
def test_there_and_back_every_byte_is_the_same(kind: str, shell: Shell) -> None:
    path = single(shell, kind)
    assert shell.run("convert", path.name, "back").code == 0
    assert shell.run("convert", "back", "again.safetensors").code == 0
    assert digest(path) == digest(Path("again.safetensors"))
    files = [file.relative_to(tiny(kind)) for file in tiny(kind).rglob("*") if file.is_file()]
    for file in files:
        if file.suffix == ".safetensors":
            assert digest(tiny(kind) / file) == digest("back" / file), file
        else:
            ours, theirs = (
                json.loads(p.read_text()) if p.suffix == ".json" else p.read_text()
                for p in (tiny(kind) / file, "back" / file)
            )
            assert ours == theirs, file


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_file_draws_what_its_folder_draws(kind: str, shell: Shell) -> None:
    how = ["--guidance", "2", "--steps", "2"]
    if kind == "inpaint":
        from tests.generate.scenes import mask, picture

        picture().save("start.png")
        mask().save("mask.png")
        how += ["--image", "start.png", "--mask", "mask.png"]
    shell.drawn(*how, "-o", "a.png", model=tiny(kind))
    before = shell.pixels
    path = single(shell, kind)
    recipe = shell.drawn(*how, "-o", "b.png", model=path)
    assert shell.pixels == before
    assert recipe.model["name"] == kind
    assert recipe.model["files"][path.name] == digest(path)
    assert shell.run("reproduce", "b.png", "-m", str(path), *(how[4:] if kind == "inpaint" else [])).code == 0


def test_a_vocabulary_can_be_named(shell: Shell) -> None:
    path = single(shell, beside=False)
    assert "up to 49407" in wrong(shell.generate(model=path), 1), "CLIP's own is not for so small an encoder"
    shell.drawn("--tokenizer", str(tiny() / "tokenizer"), "-o", "a.png", model=path)
    shell.drawn("--tokenizer", str(tiny()), "-o", "b.png", model=path)
    assert "no such folder" in wrong(shell.generate("--tokenizer", "none", model=path))
    assert "has its own tokenizer" in wrong(shell.generate("--tokenizer", str(tiny())))


def test_a_vocabulary_in_the_hubs_cache_is_found(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    path = single(shell, beside=False)
    hub, commit = shell.folder / "home/hub", "a" * 40
    place = hub / "models--openai--clip-vit-large-patch14"
    (place / "refs").mkdir(parents=True)
    (place / "refs/main").write_text(commit)
    shutil.copytree(tiny() / "tokenizer", place / "snapshots" / commit)
    monkeypatch.setenv("HF_HOME", str(shell.folder / "home"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    shell.drawn("-o", "a.png", model=path)


@pytest.fixture
def wide(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that differs from the released one in width and depth only, as one file that says nothing of itself."""
    from tests import models

    unet = {**models.SD1, "block_out_channels": (32, 64), "attention_head_dim": 8, "norm_num_groups": 32}
    monkeypatch.setitem(models.UNETS, "wide", {**unet, "sample_size": 64})
    kl = {"block_out_channels": (32, 32, 64), "norm_num_groups": 32, "sample_size": 512, "scaling_factor": 0.18215}
    monkeypatch.setattr(models, "KL", {**models.KL, **kl})
    models.write_tiny(shell.folder / "wide", "wide")
    config = shell.folder / "wide/text_encoder/config.json"
    config.write_text(config.read_text().replace('"num_attention_heads": 2', '"num_attention_heads": 1'))
    (shell.folder / "wide/safelight.json").unlink()
    assert shell.run("convert", "wide", "wide.safetensors").code == 0
    save(read("wide.safetensors"), "bare.safetensors")
    shutil.copytree(tiny() / "tokenizer", "tokenizer")
    return shell.folder / "bare.safetensors"


def test_a_vocabulary_of_the_comfyui_that_the_file_lies_in_is_found(shell: Shell) -> None:
    path = single(shell, beside=False)
    place = shell.folder / "ComfyUI/models/checkpoints"
    place.mkdir(parents=True)
    shutil.copytree(tiny() / "tokenizer", shell.folder / "ComfyUI/comfy/sd1_tokenizer")
    shell.drawn("-o", "a.png", model=path.rename(place / path.name))


def test_a_file_that_says_nothing_is_worked_out_from_its_shapes(wide: Path, shell: Shell) -> None:
    shell.drawn("--size", "32x32", "--guidance", "2", "-o", "a.png", model="wide")
    before = shell.pixels
    assert shell.drawn("--size", "32x32", "--guidance", "2", "-o", "b.png", model=wide).model["name"] == "bare"
    assert shell.pixels == before


def test_a_file_alone_is_read_with_the_vocabulary_that_came_with_the_program(wide: Path, shell: Shell) -> None:
    shutil.rmtree("tokenizer")
    name = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    tensors = dict(read(wide))
    tensors[name] = torch.randn(49408, tensors[name].shape[1], generator=torch.Generator().manual_seed(0))
    save(tensors, "alone.safetensors")
    recipe = shell.drawn("--size", "32x32", "-o", "a.png", model=shell.folder / "alone.safetensors")
    assert list(recipe.model["files"]) == ["alone.safetensors", "clip/merges.txt"]


MUTATIONS: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "a name changed": (
        lambda t: t.update({"model.diffusion_model.out.0.weightz": t.pop("model.diffusion_model.out.0.weight")}),
        "1 missing",
    ),
    "a name of no part": (lambda t: t.update({"junk": torch.ones(1)}), "junk"),
    "a tensor less": (lambda t: t.pop("first_stage_model.quant_conv.bias"), "1 missing"),
    "another shape": (
        lambda t: t.update({"model.diffusion_model.out.0.weight": torch.ones(7)}),
        "of another shape",
    ),
    "a block of no level": (
        lambda t: t.update({"model.diffusion_model.input_blocks.77.0.in_layers.0.weight": torch.ones(1)}),
        "belong to nothing",
    ),
    "a text encoder cut off": (
        lambda t: [t.pop(name) for name in list(t) if name.startswith("cond_stage_model.transformer.text_model.emb")],
        "belong to nothing",
    ),
    "no autoencoder": (
        lambda t: [t.pop(name) for name in list(t) if name.startswith("first_stage_model")],
        "lacks vae",
    ),
    "an adapter": (lambda t: (t.clear(), t.update({"lora_unet_mid_q.lora_down.weight": torch.ones(4, 8)})), "--lora"),
    "nothing known": (lambda t: (t.clear(), t.update({"a": torch.ones(1)})), "no model that is known"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_file_with_one_thing_wrong_is_refused_with_a_table(name: str, shell: Shell) -> None:
    change, words = MUTATIONS[name]
    said = shell.generate(model=changed(single(shell), change))
    assert said.code == 1 and said.out == ""
    assert any(word in said.err for word in words.split("|")), said.err


def test_what_says_nothing_is_passed_over_and_averaged_weights_can_be_taken(shell: Shell) -> None:
    path, stem = single(shell), "model.diffusion_model."

    def add(tensors: dict[str, Tensor]) -> None:
        for name in [name for name in tensors if name.startswith(stem)]:
            tensors["model_ema.diffusion_model" + name.removeprefix(stem).replace(".", "")] = tensors[name] + 1
        tensors |= {"betas": torch.ones(1000), "model_ema.decay": torch.ones(()), "loss.logvar": torch.ones(())}
        tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]

    changed(path, add)
    assert shell.run("convert", path.name, "plain").code == 0
    assert digest(Path("plain/unet/diffusion_pytorch_model.safetensors")) == digest(
        tiny() / "unet/diffusion_pytorch_model.safetensors"
    )
    said = shell.run("convert", path.name, "mean", "--averaged", "--json")
    told = json.loads(said.out)
    assert "betas" in told["unread"] and len(told["files"]) == 13
    plain, mean = (read(f"{name}/unet/diffusion_pytorch_model.safetensors") for name in ("plain", "mean"))
    assert all(torch.equal(plain[name] + 1, mean[name]) for name in plain)
    assert "no averaged weights" in wrong(shell.run("convert", str(single(shell, "sd2")), "x", "--averaged"), 1)
    assert not Path("x").exists()


def test_prefixes_may_be_missing(shell: Shell) -> None:
    path = single(shell)
    unet = {n.removeprefix("model.diffusion_model."): t for n, t in read(path).items() if n.startswith("model.")}
    save(unet, "unet.safetensors", dict(read_header(path).metadata))
    assert shell.run("convert", "unet.safetensors", "unet").code == 0
    assert digest(Path("unet/diffusion_pytorch_model.safetensors")) == digest(
        tiny() / "unet/diffusion_pytorch_model.safetensors"
    )
    assert "lacks text_encoder, vae" in wrong(shell.generate(model=Path("unet.safetensors")), 1)


def test_the_prediction_can_be_said(shell: Shell) -> None:
    path = single(shell)
    for word, name in (("v", "v_prediction"), ("eps", "epsilon")):
        assert shell.run("convert", path.name, word, "--prediction", word).code == 0
        assert json.loads(Path(word, "scheduler/scheduler_config.json").read_text())["prediction_type"] == name
    assert "invalid choice" in wrong(shell.run("convert", path.name, "x", "--prediction", "x0"))


def test_a_pickle_is_read_only_with_permission(wide: Path, shell: Shell) -> None:
    torch.save({"state_dict": {n: t.clone() for n, t in read(wide).items()}, "global_step": 1}, "m.ckpt")
    assert "this is a pickle" in wrong(shell.generate(model=Path("m.ckpt")), 1)
    assert "this is a pickle" in wrong(shell.run("inspect", "m.ckpt"), 1)
    assert "this is a pickle" in wrong(shell.run("convert", "m.ckpt", "x"), 1)
    assert "Stable Diffusion 1" in shell.run("inspect", "m.ckpt", "--allow-pickle").out
    assert shell.run("convert", "m.ckpt", "x", "--allow-pickle").code == 0
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert digest(Path("x", weights)) == digest(Path("wide", weights))
    shell.drawn("--allow-pickle", "--size", "32x32", "-o", "a.png", model=Path("m.ckpt"))


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (("convert", "m.safetensors", "n.safetensors"), "is one file already", 2),
        (("convert", "{tiny}", "x"), "is a folder already", 2),
        (("convert", "{tiny}", "m.safetensors"), "--force replaces it", 1),
        (("convert", "{tiny}", "n.safetensors", "--averaged"), "are for single files", 2),
        (("convert", "{tiny}", "n.safetensors", "--variant", "fp8"), "of the variant fp8", 1),
        (("convert", "m.safetensors", "tokenizer"), "exists; choose another name", 1),
        (("convert", "m.safetensors", "x", "--force"), "are for writing one file", 2),
        (("convert", "none", "x"), "unknown model", 2),
        (("inspect", "none"), "unknown model", 2),
        (("inspect", "m.safetensors", "--variant", "fp16"), "has no variants", 2),
        (("inspect", "{tiny}/scheduler"), "holds neither a model_index.json nor files of weights", 1),
    ],
)
def test_what_cannot_be_converted_is_one_line(words: tuple[str, ...], message: str, code: int, shell: Shell) -> None:
    single(shell).rename("m.safetensors")
    before = shell.names()
    assert message in wrong(shell.run(*(word.format(tiny=tiny()) for word in words)), code)
    assert shell.names() == before


def test_force_replaces_a_file(shell: Shell) -> None:
    path = single(shell)
    path.write_bytes(b"x")
    assert shell.run("convert", str(tiny()), path.name, "--force").code == 0
    assert isinstance(read_header(path), Header)


def hub(folder: Path, commit: str = "b" * 40) -> Path:
    """A model in a hub's cache: blobs, and a folder of links to them."""
    place = folder / "hub/models--org--name"
    (place / "refs").mkdir(parents=True)
    (place / "refs/main").write_text(commit)
    shutil.copytree(tiny(), place / "blobs")
    for file in sorted(tiny().rglob("*")):
        if file.is_file():
            link = place / "snapshots" / commit / file.relative_to(tiny())
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(place / "blobs" / file.relative_to(tiny()))
    return place


def test_a_model_of_the_hub_is_read_from_its_cache_and_fetched_only_when_asked(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = hub(shell.folder)
    monkeypatch.setenv("HF_HUB_CACHE", str(shell.folder / "hub"))
    for name in ("org/name", "org/name@" + "b" * 40):
        recipe = shell.drawn("-o", f"{len(name)}.png", model=name)
        assert recipe.model["name"] == name
    assert "--download fetches it" in wrong(shell.generate(model="org/other"))
    assert "HF_HUB_OFFLINE is set" in wrong(shell.generate("--download", model="org/other"))
    assert "no '..'" in wrong(shell.generate(model="org/name:../../x".replace(":../", ":a/../")))
    secret = shell.folder / "secret.json"
    secret.write_text("{}")
    (place / "snapshots" / ("b" * 40) / "unet/extra.json").symlink_to(secret)
    assert "leads out of the model's folder" in wrong(shell.generate(model="org/name"), 1)


def test_a_variant_is_taken_or_missed(shell: Shell) -> None:
    shutil.copytree(tiny(), "both")
    for part in ("unet", "vae", "text_encoder"):
        (file,) = Path("both", part).glob("*.safetensors")
        half = {name: tensor.half() for name, tensor in read(file).items()}
        save(half, file.with_suffix(".fp16.safetensors"))
    shell.drawn("-o", "a.png", model="both")
    before = shell.pixels
    recipe = shell.drawn("--variant", "fp16", "-o", "b.png", model="both")
    assert shell.pixels != before and any(".fp16." in name for name in recipe.model["files"])
    Path("both/vae/diffusion_pytorch_model.fp16.safetensors").unlink()
    assert "of the variant fp16" in wrong(shell.generate("--variant", "fp16", model="both"), 1)
    assert "has no variants" in wrong(shell.generate("--variant", "fp16", model=single(shell)))


def test_checkpoints_of_other_programs_are_listed_and_drawn_from_by_name(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = shell.folder / "ComfyUI/models/checkpoints/mine"
    room.mkdir(parents=True)
    single(shell).rename(room / "best.safetensors")
    shutil.move("tokenizer", room / "tokenizer")
    (shell.folder / "ComfyUI/models/loras").mkdir()
    (shell.folder / "ComfyUI/models/loras/style.safetensors").touch()
    (shell.folder / "safelight").mkdir()
    (shell.folder / "safelight/config.toml").write_text(f'[models]\nfolders = ["{shell.folder}/ComfyUI/models"]')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(shell.folder))
    listed = shell.run("models").out
    assert "checkpoint      mine/best" in listed and "lora            style" in listed
    said = json.loads(shell.run("models", "--json").out)
    assert said["mine/best"]["kind"] == "checkpoint" and "figurines" in said
    assert shell.drawn("-o", "a.png", model="mine/best").model["name"] == "best"
    (shell.folder / "safelight/config.toml").write_text("[models")
    assert "config.toml: cannot be read" in wrong(shell.run("models"), 1)


@pytest.mark.parametrize(
    "name", ["model.diffusion_model.out.0.weight", "first_stage_model.decoder.conv_in.bias", "cond_stage_model"]
)
def test_weights_that_are_no_numbers_are_named(name: str, shell: Shell) -> None:
    def spoil(tensors: dict[str, Tensor]) -> None:
        tensors[next(each for each in tensors if each.startswith(name))].view(-1)[0] = float("nan")

    said = shell.generate(model=changed(single(shell), spoil))
    assert said.code == 1 and "holds what is no number" in said.err and said.err.count("\n") == 1
    assert not [each for each in shell.names() if each.endswith(".png")]


def test_parts_of_different_models_do_not_fit(shell: Shell) -> None:
    """An autoencoder of other latents, in one file with the rest."""
    path = single(shell)

    def swap(tensors: dict[str, Tensor]) -> None:
        for place in ("encoder.conv_out", "quant_conv", "decoder.conv_in", "post_quant_conv"):
            for name in [each for each in tensors if place in each and each.startswith("first_stage_model")]:
                shape = [2 * size if size in (4, 8) else size for size in tensors[name].shape]
                tensors[name] = torch.zeros(shape)

    assert "first_stage" not in (said := shell.generate(model=changed(path, swap))).err
    assert said.code == 1 and "vae: the file does not fit AutoencoderKL" in said.err
