"""The pages that say how to extend the program do what they say: their code runs, and what it makes obeys the laws."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from safelight.core.guidance import begin
from safelight.core.guides.apg import APG
from safelight.core.samplers.table import SAMPLERS
from tests.docs.pages import ROOT, run
from tests.laws import test_samplers as laws


def test_no_page_needs_more_than_three_steps() -> None:
    for page in sorted((ROOT / "docs/extend").glob("*.md")):
        steps = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("## ")]
        assert 1 <= len(steps) <= 3, page.name
        assert [step[3] for step in steps] == ["1", "2", "3"][: len(steps)], page.name


def test_the_sampler_of_the_page_obeys_the_laws(monkeypatch: pytest.MonkeyPatch) -> None:
    page = run("docs/extend/sampler.md")
    name = page["row"].name
    monkeypatch.setitem(SAMPLERS, name, page["row"])
    monkeypatch.setitem(laws.CEILING, name, page["ceiling"][name])
    laws.test_a_constant_denoiser_is_solved_exactly(name)
    laws.test_the_ode_is_solved_at_the_declared_order(name)
    laws.test_one_step_from_an_exact_history_has_the_declared_order(name)
    laws.test_mean_and_variance_converge_at_the_declared_order(name)
    laws.test_few_steps_are_finite_and_end_at_the_last_prediction(name, "zero snr")
    laws.test_only_stochastic_rows_ask_for_noise(name)
    laws.test_the_same_picture_is_drawn_in_every_chart(name, 0.0)


def test_the_guidance_of_the_page_is_a_fixed_point_and_asks_what_it_says() -> None:
    page = run("docs/extend/guidance.md")
    rule = page["Composed"](page["CFG"](7.5), until=0.0)
    levels = page["karras"](page["path"], 8)[:-1]
    early = [level for level in levels if level.lam <= 0.0]
    assert 0 < len(early) < len(levels)
    x, same = torch.randn(2, 1, 1, 2, 2, dtype=torch.float64)
    for level in levels:
        branches = rule.branches(level)
        assert branches == ("first" if level in early else "cond", "uncond")
        torch.testing.assert_close(rule.combine(x, level, dict.fromkeys(branches, same)).x0, same)
    conds = [conds for _, conds in page["asked"][len(levels) :]]
    assert conds == [[2.0 if level in early else 1.0, 0.5] for level in levels]
    assert torch.equal(page["plain"], torch.full_like(page["plain"], 0.5 + 3 * 0.5))
    assert torch.equal(page["composed"], page["plain"]), "the last step follows the prompt itself"
    waiting = page["Composed"](APG(7.5, momentum=0.5), until=0.0)
    assert begin(waiting) is not waiting, "what the inside remembers begins anew"


def test_the_port_of_the_page_changes_the_output_and_its_default_does_not() -> None:
    page = run("docs/extend/adapter.md")
    unet, ports, asked = page["unet"], page["Ports"], (page["x"], page["t"], page["context"])
    assert not torch.equal(page["plain"], page["weaker"])
    with torch.no_grad():
        same = unet(*asked, ports=ports(override=lambda name, layer, x: layer(x)))
        assert torch.equal(unet(*asked), page["plain"])
    assert torch.equal(same, page["plain"])


def write_part(folder: Path, module: torch.nn.Module, config: dict[str, object]) -> None:
    from safelight.weights.save import save

    folder.mkdir(parents=True)
    save(module.state_dict(), folder / "diffusion_pytorch_model.safetensors")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def test_the_autoencoder_of_the_page_is_read_from_a_folder(tmp_path: Path) -> None:
    page = run("docs/extend/vae.md")
    config = page["PatchConfig"]()
    made = page["AutoencoderPatch"](config)
    write_part(tmp_path / "vae", made, {"_class_name": "AutoencoderPatch", "patch_size": 4})
    read = page["load_patch"](tmp_path / "vae")
    x = torch.rand(1, 3, 16, 8) * 2 - 1
    with torch.no_grad():
        z = read.encode(x).mode()
        assert z.shape[1:] == config.latent().shape(width=8, height=16)
        assert torch.equal(read.decode(z), made.decode(made.encode(x).mode()))


def test_the_family_of_the_page_draws_every_task_and_keeps_the_seed_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    from safelight.generate import models, pipe
    from safelight.generate.request import Request
    from safelight.vae.kl import AutoencoderKL, KLConfig

    monkeypatch.setattr(models, "FAMILIES", models.FAMILIES)  # what the page adds is taken back
    page = run("docs/extend/family.md")
    torch.manual_seed(0)
    write_part(tmp_path / "transformer", page["Tint"](page["TintConfig"]()), {"_class_name": "TintModel"})
    kl = {"block_out_channels": [8, 8], "layers_per_block": 1, "norm_num_groups": 4, "sample_size": 8}
    write_part(tmp_path / "vae", AutoencoderKL(KLConfig.from_dict(kl)), {"_class_name": "AutoencoderKL", **kl})
    index = {
        "_class_name": "TintPipeline",
        "transformer": ["diffusers", "TintModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (tmp_path / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    tint = pipe.load(str(tmp_path), device="cpu", threads=1)
    image, mask = Image.new("RGB", (8, 8), "teal"), Image.new("L", (8, 8), 255)
    text = Request("a red hat", steps=3, guidance=2.0, seed=5)
    tasks = [text, Request("a hat", steps=3, image=image), Request("a hat", steps=3, image=image, mask=mask)]
    alone = [tint.draw(request)[0] for request in tasks]
    together = tint.draw_many(tasks)
    for one, other in zip(alone, together, strict=True):
        assert one.image.size == (8, 8)
        assert torch.equal(one.latents, other.latents)
    assert alone[0].recipe.model["family"] == "tint"
