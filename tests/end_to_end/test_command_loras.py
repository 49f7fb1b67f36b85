"""``safelight adapters``, ``merge`` and ``extract``, as a user runs them; every flag changes what comes out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from safelight.adapters.lora.attach import merge
from safelight.adapters.lora.file import load
from safelight.adapters.lora.targets import released
from safelight.families.sd.convert import to_file
from safelight.families.sd.wiring import load as load_sd
from safelight.weights.folder import read_index
from safelight.weights.load import read
from safelight.weights.save import save
from tests.adapters.made import Dice, bits, kohya, lora, matrices, model, same_bits, write
from tests.architecture.source import ROOT
from tests.end_to_end.shell import Shell
from tests.models import tiny


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA for a tiny model."""
    tensors = kohya(model(), matrices(lora), "unet", "text_encoder")
    kept = {name: tensor for name, tensor in tensors.items() if "position" not in name and "token" not in name}
    return write(kept, tmp_path_factory.mktemp("lora") / "it.safetensors", {"ss_output_name": "mine"})


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small LoRA of the sizes of Stable Diffusion XL, in kohya's names."""
    layers = next(each for each in released() if each.title.endswith("XL")).layers["unet"]
    dice, made = Dice(), {}
    for name in ("down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k", "mid_block.attentions.0.proj_in"):
        out, into = layers[name].weight
        stem = name.replace(".", "_")
        made |= {f"lora_unet_{stem}.lora_down.weight": dice(2, into), f"lora_unet_{stem}.lora_up.weight": dice(out, 2)}
    return write(made, tmp_path_factory.mktemp("xl") / "xl.safetensors")


def test_a_file_is_explained_with_no_torch(real: Path) -> None:
    code = "import sys\nfrom safelight.cli.main import main\nmain(sys.argv[1:])\nassert 'torch' not in sys.modules"
    run = subprocess.run([sys.executable, "-c", code, "adapters", str(real)], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "2 × lora; named like kohya" in run.stdout
    assert "for         Stable Diffusion XL: 2 of 2 changes fit" in run.stdout
    assert "alpha       is not said for 2 layers" in run.stdout


def test_a_file_is_explained_beside_a_model(shell: Shell, file: Path) -> None:
    said = shell.run("adapters", str(file), "-m", str(tiny("sd1")))
    assert said.code == 0, said.err
    assert "text_encoder             18 layers" in said.out
    assert "ss_output_name           mine" in said.out
    table = json.loads(shell.run("adapters", str(file), "-m", str(tiny("sd1")), "--json").out)
    assert table["dialects"] == ["kohya"]
    assert table["layers"]["conv_in"] == {"form": "lora", "rank": 2}
    assert not table["misses"]
    wrong = shell.run("adapters", str(file), "-m", str(tiny("sdxl")))
    assert wrong.code == 1
    assert "unmatched" in wrong.out


def test_what_is_no_adapter_is_refused_in_one_table(shell: Shell, file: Path) -> None:
    save({"lllite_unet.x": torch.zeros(1)}, shell.folder / "odd.safetensors")
    said = shell.run("adapters", "odd.safetensors")
    assert (said.code, "seems to be a ControlNet-LLLite" in said.err) == (1, True)
    assert shell.run("adapters", ".").code == 2
    assert "name it with -m" in shell.run("adapters", str(file), "--variant", "fp16").err
    (shell.folder / "old.pt").write_bytes(b"PK\x03\x04")
    assert "--allow-pickle" in shell.run("adapters", "old.pt").err


@pytest.mark.parametrize("whole", ["folder", "file"])
def test_loras_are_written_into_a_checkpoint(shell: Shell, file: Path, whole: str) -> None:
    index, origin = read_index(tiny("sd1")), tiny("sd1")
    if whole == "file":
        origin = shell.folder / "model.safetensors"
        to_file(index, origin)
    out = "out.safetensors" if whole == "file" else "out"
    tokenizer = ["--tokenizer", str(tiny("sd1") / "tokenizer")] if whole == "file" else []
    said = shell.run("merge", f"{file}:0.5:mid_block=2", str(file), "-m", str(origin), "-o", out, *tokenizer)
    assert said.code == 0, said.err
    wanted = model()
    merge(wanted, load(file), 0.5, {"mid_block": 2.0}, name="1 it")
    merge(wanted, load(file), 1.0, name="2 it")
    if whole == "folder":
        assert same_bits(bits(load_sd(read_index(shell.folder / "out"))), bits(wanted))
        assert {f.relative_to(tiny("sd1")) for f in tiny("sd1").rglob("*")} == {
            f.relative_to(shell.folder / "out") for f in (shell.folder / "out").rglob("*")
        }
    else:
        before, after = read(origin), read(shell.folder / out)
        assert before.keys() == after.keys()
        found = {name for name in before if not torch.equal(before[name], after[name])}
        assert "model.diffusion_model.input_blocks.0.0.weight" in found
        assert not [name for name in found if name.startswith("first_stage_model.")]
        assert torch.equal(after["model.diffusion_model.input_blocks.0.0.weight"], wanted.network.conv_in.weight)
    again = shell.run("merge", str(file), "-m", str(origin), "-o", out, *tokenizer)
    assert (again.code, "exists" in again.err) == (1, True)


def test_loras_are_written_as_one_and_in_other_names(shell: Shell, file: Path) -> None:
    target = ["--for", str(tiny("sd1"))]
    assert shell.run("merge", str(file), f"{file}:-0.5", "-o", "sum.safetensors", *target).code == 0
    both = read(shell.folder / "sum.safetensors")
    assert tuple(both["lora_unet_conv_in.lora_down.weight"].shape) == (4, 4, 3, 3)
    assert shell.run("merge", str(file), "-o", "named.safetensors", "--dialect", "diffusers", *target).code == 0
    assert "unet.conv_in.lora_A.weight" in read(shell.folder / "named.safetensors")
    assert shell.run("merge", str(file), "-o", "named.safetensors", *target).code == 1
    assert shell.run("merge", str(file), "-o", "named.safetensors", "--force", *target).code == 0
    same = read(shell.folder / "named.safetensors")
    assert all(torch.equal(tensor, same[name]) for name, tensor in load(file).tensors.items())
    assert shell.run("merge", f"{file}:0", "-o", "none.safetensors", *target).code == 2
    assert shell.run("merge", str(file), "-o", "none", *target).code == 2
    assert shell.run("merge", str(file), "-m", str(tiny("sd1")), "-o", "x", "--dialect", "kohya").code == 2
    assert shell.run("merge", f"{file}:loud", "-o", "x.safetensors").code == 2
    assert "0 of" in shell.run("merge", str(file), "-o", "x.safetensors").err, "no released model has these sizes"


def test_what_was_merged_is_extracted(shell: Shell, file: Path) -> None:
    origin = str(tiny("sd1"))
    assert shell.run("merge", str(file), "-m", origin, "-o", "tuned").code == 0
    said = shell.run("extract", origin, "tuned", "-o", "found.safetensors", "--rank", "2")
    assert said.code == 0, said.err
    assert "rank 2\n" in said.out
    assert "at most 0.0% of what a layer learned is left out" in said.out
    assert shell.run("extract", origin, "tuned", "-o", "found.safetensors").code == 1
    near = shell.run("extract", origin, "tuned", "-o", "found.safetensors", "--error", "0.5", "--force")
    assert "rank 1 to 2" in near.out or "rank 1\n" in near.out
    assert load(shell.folder / "found.safetensors").fit(model()).ranks[0] == 1
    assert shell.run("extract", origin, "tuned", "-o", "d.safetensors", "--dialect", "diffusers", "--rest").code == 0
    assert "unet.conv_in.lora_A.weight" in read(shell.folder / "d.safetensors")
    assert "same to the last bit" in shell.run("extract", origin, origin, "-o", "n.safetensors").err
    assert shell.run("extract", origin, "tuned", "-o", "n.safetensors", "--rank", "0").code == 2


def test_what_no_lora_holds_is_told_and_written_when_asked(shell: Shell) -> None:
    tuned = model()
    for p in (tuned.network.conv_in.bias, tuned.network.conv_in.weight, tuned.network.conv_norm_out.weight):
        p.data += 1
    from safelight.adapters.lora.checkpoint import write_checkpoint

    write_checkpoint(tuned, read_index(tiny("sd1")), shell.folder / "tuned")
    said = shell.run("extract", str(tiny("sd1")), "tuned", "-o", "a.safetensors")
    assert "not in it, since a LoRA cannot hold it: 2 (conv_in.bias ...); --rest adds it" in said.out
    assert shell.run("extract", str(tiny("sd1")), "tuned", "-o", "b.safetensors", "--rest").code == 0
    assert {"lora_unet_conv_in.diff_b", "lora_unet_conv_norm_out.w_norm"} <= read(shell.folder / "b.safetensors").keys()
