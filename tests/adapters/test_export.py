"""Written in another dialect, an adapter is the same; several are their sum; extracted, it is what was learned."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from safelight.adapters.lora.attach import attach, merge
from safelight.adapters.lora.export import DIALECTS, LYCORIS, Part, changes, export, write
from safelight.adapters.lora.extract import extract
from safelight.adapters.lora.file import Lora, made, targets
from safelight.errors import RequestError, WeightsError
from safelight.families.family import Model
from tests.adapters.kin import KIN, dora
from tests.adapters.made import Tensors, drawn, kohya, lora, matrices, model, networks, weights
from tests.adapters.test_forms import some

FC = "text_model.encoder.layers.0.mlp.fc1"
FC_ = FC.replace(".", "_")
LDM_ = "lora_unet_input_blocks_0_0.lora_up.weight"
LDM = "diffusion_model.input_blocks.0.0.lora_up.weight"
CLIP = "text_encoders.clip_{}.transformer." + FC + ".alpha"
WORDS = {
    "kohya": {
        "sd1": ("lora_unet_conv_in.lora_up.weight", f"lora_te_{FC_}.alpha"),
        "sdxl": (LDM_, f"lora_te2_{FC_}.alpha"),
    },
    "diffusers": {
        "sd1": ("unet.conv_in.lora_B.weight", f"text_encoder.{FC}.lora_A.weight"),
        "sdxl": ("unet.conv_in.lora_B.weight", f"text_encoder_2.{FC}.lora_A.weight"),
    },
    "comfyui": {"sd1": (LDM, CLIP.format("l")), "sdxl": (LDM, CLIP.format("g"))},
}


def xl_names(file: Tensors, kind: str) -> Tensors:
    return {name.replace("lora_te_", "lora_te1_") if kind == "sdxl" else name: t for name, t in file.items()}


def whole(base: Model, kind: str) -> Lora:
    layers = {part: matrices(lora) for part in networks(base)}
    file = kohya(base, lambda dice, w: layers["unet"](dice, w.float()), *layers)
    file = {name: t.float() for name, t in file.items() if "embedding" not in name or "time_embedding" in name}
    return made(xl_names(file, kind), "it")


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
@pytest.mark.parametrize("dialect", WORDS)
def test_a_dialect_has_its_own_words_and_the_same_numbers(dialect: str, kind: str) -> None:
    base = model(kind, torch.float64)
    it = whole(base, kind)
    written = export(it, targets(base), dialect)
    assert set(WORDS[dialect][kind]) <= written.keys()
    one, other = model(kind, torch.float64), model(kind, torch.float64)
    attach(one, it, 0.5)
    there = made(written, "there")
    assert there.fit(other).dialects == (dialect,)
    attach(other, there, 0.5)
    assert (drawn(one, kind) - drawn(other, kind)).abs().max() <= 1e-6 * drawn(one, kind).abs().max()
    back, own = (export(each, targets(base), "kohya") for each in (there, it))
    assert back.keys() == own.keys()
    if dialect != "diffusers":  # which has no word for alpha
        assert all(torch.equal(tensor, own[name]) for name, tensor in back.items())


def test_peft_has_one_network_in_a_file() -> None:
    base = model()
    it = made(some(base, KIN["DoRA out"], torch.float32)[0], "it")
    written = export(it, targets(base), "peft")
    stem = "base_model.model.down_blocks.0.resnets.0.conv1"
    assert {f"{stem}.lora_A.weight", f"{stem}.lora_B.weight", f"{stem}.lora_magnitude_vector"} <= written.keys()
    one, other = model(), model()
    attach(one, it)
    attach(other, made(written, "there"))
    assert torch.allclose(drawn(one), drawn(other), rtol=1e-5, atol=1e-5)
    with pytest.raises(RequestError, match="is of one network, this is of text_encoder and unet"):
        export(whole(base, "sd1"), targets(base), "peft")


@pytest.mark.parametrize("kin", KIN)
def test_forms_that_a_dialect_has_no_words_for_are_refused_not_dropped(kin: str) -> None:
    base = model(dtype=torch.float64)
    it = made(some(base, KIN[kin])[0], "it")
    numbers = {t.numel() for name, t in it.tensors.items() if not name.endswith("alpha")}
    speaking = DIALECTS if kin == "DoRA out" else LYCORIS
    for dialect in set(DIALECTS) - set(speaking):
        with pytest.raises(RequestError, match=r"ha(s|ve) no words for"):
            export(it, targets(base), dialect)
    attach(base, it)
    for dialect in speaking:
        written = export(it, targets(base), dialect)
        assert {t.numel() for name, t in written.items() if not name.endswith("alpha")} == numbers
        other = model(dtype=torch.float64)
        attach(other, made(written, "there"))
        assert (drawn(base) - drawn(other)).abs().max() <= 1e-6 * drawn(base).abs().max()


def test_several_are_written_as_their_sum() -> None:
    base = model(dtype=torch.float64)
    every = [made(some(base, KIN[kin], seed=n)[0], kin) for n, kin in enumerate(("LoHa", "DoRA out", "BOFT", "IA3 in"))]
    every += [whole(base, "sd1"), whole(base, "sd1")]
    parts = [Part(it, 0.3 + 0.2 * n, {} if n else {"down_blocks": 0.5}) for n, it in enumerate(every)]
    one, other = model(dtype=torch.float64), model(dtype=torch.float64)
    for n, part in enumerate(parts):
        attach(one, part.lora, part.scale, part.blocks, name=str(n))
    plain = {
        (row := f"{part}.{name}".removeprefix("unet.")): w for (part, name), w in weights(base, *networks(base)).items()
    }
    assert row
    with pytest.raises(RequestError, match="depends on the model"):
        changes(parts, targets(base))
    merge(other, made(write(changes(parts, targets(base), plain), targets(base), "kohya"), "sum"))
    assert (drawn(one) - drawn(other)).abs().max() <= 1e-6 * drawn(one).abs().max()


def test_plain_loras_are_summed_by_their_ranks() -> None:
    base = model(dtype=torch.float64)
    one, two = whole(base, "sd1"), made(kohya(base, matrices(lora), seed=4), "two")
    written = write(changes([Part(one, 0.5), Part(two, -1.0)], targets(base)), targets(base), "diffusers")
    assert tuple(written["unet.conv_in.lora_A.weight"].shape) == (4, 4, 3, 3)
    other = model(dtype=torch.float64)
    attach(base, one, 0.5)
    attach(base, two, -1.0)
    attach(other, made(written, "sum"))
    assert (drawn(base) - drawn(other)).abs().max() <= 1e-6 * drawn(base).abs().max()


def tensors(of: Model) -> dict[str, dict[str, Tensor]]:
    return {part: dict(module.state_dict()) for part, module in networks(of).items()}


def test_what_was_merged_is_extracted_to_rounding() -> None:
    base, tuned = model(dtype=torch.float64), model(dtype=torch.float64)
    merge(tuned, whole(base, "sd1"), 0.8)
    found = extract(tensors(base), tensors(tuned), targets(base), rank=2)
    assert max(found.errors.values()) <= 1e-6
    assert not found.left_out
    other = model(dtype=torch.float64)
    attach(other, made(write(found.changes, targets(base), "kohya"), "found"))
    assert (drawn(tuned) - drawn(other)).abs().max() <= 1e-5 * drawn(tuned).abs().max()
    assert found.errors.keys() > {"conv_in", "text_encoder.text_model.encoder.layers.0.mlp.fc1"}


def test_an_extracted_change_is_the_nearest_of_its_rank_and_keeps_an_error() -> None:
    base, tuned = model(dtype=torch.float64), model(dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    for p in tuned.network.parameters():
        p.data += torch.randn(p.shape, generator=generator, dtype=torch.float64) * 0.05
    there = targets(base)
    found = extract(tensors(base), tensors(tuned), there, rank=4)
    for change in found.changes:
        name = f"{change.layer.name}.weight"
        learned = (tensors(tuned)["unet"][name] - tensors(base)["unet"][name]).flatten(1)
        lengths = torch.linalg.svdvals(learned)
        best = float(lengths[4:].pow(2).sum().sqrt() / lengths.pow(2).sum().sqrt())
        assert abs(found.errors[change.layer.full] - best) <= 1e-7
    assert any(name.endswith("norm1.weight") for name in found.left_out)
    near = extract(tensors(base), tensors(tuned), there, rank=None, error=0.3)
    assert max(near.errors.values()) <= 0.3
    ranks = {change.layer.full: change.tensors["down"].shape[0] for change in near.changes}
    assert len(set(ranks.values())) > 3
    again = extract(tensors(base), tensors(tuned), there, rank=None, error=0.0, rest=True)
    other = model(dtype=torch.float64)
    attach(other, made(write(again.changes, there, "kohya"), "all"))
    assert not again.left_out
    assert (drawn(tuned) - drawn(other)).abs().max() <= 1e-5 * drawn(tuned).abs().max()


def test_nothing_to_extract_is_an_error() -> None:
    base = model()
    with pytest.raises(RequestError, match="same to the last bit"):
        extract(tensors(base), tensors(model()), targets(base))
    with pytest.raises(WeightsError, match="of two kinds of model"):
        extract(tensors(base), tensors(model("sdxl")), targets(base))
    for rank, error in ((0, None), (None, None), (4, 1.0), (None, -0.1)):
        with pytest.raises(RequestError):
            extract(tensors(base), tensors(model()), targets(base), rank=rank, error=error)


def test_a_magnitude_of_channels_in_has_no_word_in_diffusers() -> None:
    base = model()
    with pytest.raises(RequestError, match="no words for a magnitude of each channel in"):
        export(made(some(base, dora(1), torch.float32)[0], "it"), targets(base), "diffusers")
