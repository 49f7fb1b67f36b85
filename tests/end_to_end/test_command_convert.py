"""``convert`` makes either layout of whole models, parts, and mixtures of both; what cannot be drawn from is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel

from safelight.core.path import vp_scaled_linear
from safelight.families.sd.single import CONFIGS
from safelight.generate.file import open_picture
from safelight.generate.pipe import load
from safelight.generate.recipe import recipe_in
from safelight.generate.request import Request
from safelight.generate.source import shipped
from safelight.weights.detect import VARIANT
from safelight.weights.load import read
from safelight.weights.moves import to_theirs
from safelight.weights.safetensors import read_header
from safelight.weights.save import save
from safelight.weights.variants import tables_of
from tests.end_to_end.shell import Shell, wrong
from tests.end_to_end.test_single_files import changed, digest, single
from tests.models import NOTES, SD1, tiny
from tests.upscaler import tiny_upscaler

FIGURINES = shipped()["figurines"]
CONTROL = {key: value for key, value in SD1.items() if key not in ("sample_size", "up_block_types")}
CONTROL |= {"conditioning_embedding_out_channels": (4, 8, 8)}


@pytest.mark.parametrize(
    ("kind", "name", "ends"),
    [("sd1", "alphas_cumprod", (0.00085, 0.012)), ("x4", "low_scale_model.alphas_cumprod", (0.0001, 0.02))],
)
def test_a_file_of_another_noise_path_is_refused(kind: str, name: str, ends: tuple[float, float], shell: Shell) -> None:
    path, said = single(shell, kind), torch.tensor(vp_scaled_linear(*ends).alphas_cumprod)
    for sound in (said.clone(), said.half()):
        changed(path, lambda tensors, sound=sound: tensors.update({name: sound}))
        assert shell.run("convert", path.name, f"{sound.element_size()}").code == 0
    for strange in (said**0.9, said[1:].clone(), torch.full_like(said, float("nan"))):
        changed(path, lambda tensors, strange=strange: tensors.update({name: strange}))
        for words in (["convert", path.name, "x"], ["generate", "a", "-m", path.name, "--steps", "1"]):
            assert f"its {name} are not those of" in wrong(shell.run(*words), 1)
    assert not Path("x").exists()


def test_a_file_in_the_names_of_released_folders_is_converted_too(shell: Shell) -> None:
    """It was once written as a folder without a single tensor."""
    for part, stem in (("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"), ("text_encoder", "")):
        file = tiny() / part / f"{stem or 'model'}.safetensors"
        config = json.loads((tiny() / part / "config.json").read_text())
        named = {VARIANT: "sd1", CONFIGS: json.dumps({part: config})}
        tensors = dict(read(file))
        if part == "text_encoder":  # the newest files leave the first word out
            tensors = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
        save(tensors, f"{part}.safetensors", named)
        assert shell.run("convert", f"{part}.safetensors", part).code == 0
        assert digest(Path(part, file.name)) == digest(file)
        assert "lacks" in wrong(shell.generate(model=Path(f"{part}.safetensors")), 1)


def test_a_model_with_a_controlnet_beside_it_is_made_a_folder_of_both(shell: Shell) -> None:
    path = single(shell)
    rows = tables_of("sd").keys.parts["controlnet"]
    with torch.device("meta"):
        control = ControlNetModel(**CONTROL)
    ours = {name: torch.randn(tensor.shape) for name, tensor in control.state_dict().items()}
    theirs = to_theirs(ours, rows.to_theirs(ours).moves, "control_model.")
    changed(path, lambda tensors: tensors.update(theirs))
    assert "holds a ControlNet beside the model" in wrong(shell.generate(model=path), 1)
    assert "controlnet " in shell.run("inspect", path.name).out
    assert shell.run("convert", path.name, "both").code == 0
    back = read("both/controlnet/diffusion_pytorch_model.safetensors")
    assert back.keys() == ours.keys() and all(torch.equal(back[name], ours[name]) for name in ours)
    assert json.loads(Path("both/model_index.json").read_text())["controlnet"] == ["diffusers", "ControlNetModel"]
    shell.drawn("-o", "a.png", model="both")


def test_the_network_of_an_x2_upscaler_goes_there_and_back_and_the_whole_is_refused(shell: Shell) -> None:
    assert shell.run("convert", str(tiny_upscaler() / "unet"), "x2.safetensors").code == 0
    names = read("x2.safetensors").keys()
    assert "inner_model.u_net.d_blocks.2.2.qkv_proj.weight" in names and "inner_model.mapping_cond.weight" in names
    tensors = {f"model_ema.{name}": tensor for name, tensor in read("x2.safetensors").items()}
    save(tensors, "ema.safetensors", dict(read_header("x2.safetensors").metadata))
    for file in ("x2", "ema"):
        assert shell.run("convert", f"{file}.safetensors", f"{file}-back").code == 0
        weights = "diffusion_pytorch_model.safetensors"
        assert digest(Path(f"{file}-back", weights)) == digest(tiny_upscaler() / "unet" / weights)
    assert "lacks vae" in (said := wrong(shell.generate(model=Path("x2.safetensors")), 1)) and "convert" in said
    assert "no single file holds all" in wrong(shell.run("convert", str(tiny_upscaler()), "x.safetensors"), 1)
    assert "upscale: a single file" in shell.run("inspect", "x2.safetensors").out


def test_a_single_file_of_our_own_model_draws_as_its_folder_where_a_request_says_nothing(shell: Shell) -> None:
    """Guidance 3 of the default model was 7.5 once it was one file."""
    assert shell.run("convert", "figurines", "one.safetensors").code == 0
    assert shell.run("convert", "one.safetensors", "back", "--tokenizer", str(FIGURINES)).code == 0
    assert json.loads(Path("back/safelight.json").read_text()) == json.loads((FIGURINES / "safelight.json").read_text())
    told = []
    for name, more in (("figurines", []), ("one.safetensors", ["--tokenizer", str(FIGURINES)]), ("back", [])):
        steps = ["--steps", "2", "--threads", "1", "--seed", "5", "-o", f"{name}.png"]
        said = shell.run("generate", "a person with a purple elephant", "-m", name, *steps, *more)
        assert said.code == 0, said.err
        assert "elephant" in said.err, "the words that the model does not know are named"
        recipe = recipe_in(open_picture(Path(f"{name}.png")))
        told.append((recipe.guidance, recipe.camera, open_picture(Path(f"{name}.png")).tobytes()))
    assert told[0] == told[1] == told[2] and told[0][0] == 3 and told[0][1]


def test_the_steps_of_a_model_are_those_of_its_single_file(shell: Shell) -> None:
    pipe = load(str(single(shell)), device="cpu", threads=1)
    assert len(pipe.settle(Request("a person")).levels) == NOTES["defaults"]["steps"] + 1
    assert pipe.model.latent.preview and pipe.draw(Request("a person", steps=1))[0].recipe.camera is None


@pytest.mark.parametrize("text", ["{", "[]", '{"defaults": {"guidance": "x"}}', '{"preview": [[1]]}'])
def test_notes_that_are_damaged_in_a_file_are_named(text: str, shell: Shell) -> None:
    path = changed(single(shell), lambda tensors: None, **{"safelight.notes": text})
    for words in (["convert", path.name, "x"], ["generate", "a", "-m", path.name, "--steps", "1"]):
        line = wrong(shell.run(*words), 1)
        assert path.name in line and ("damaged" in line or "cannot be" in line)
    assert not Path("x").exists()
