"""The union network equals diffusers' on tiny random weights: one hint, several, each of its kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn

from safelight.adapters.controlnet.checkpoints import load_controlnet
from safelight.adapters.controlnet.model import Residuals, weighed
from safelight.adapters.controlnet.union import ControlNetUnion, Shown, UnionConfig, Values, Weighing
from safelight.errors import ConfigError, RequestError, WeightsError
from safelight.families.sd.model import Added
from safelight.weights.load import Unfilled, read
from safelight.weights.save import save
from tests.parity.networks import BARS, SDXL, random, randomise, unet_inputs
from tests.parity.test_controlnet import apart, beside_config
from tests.parity.test_counts import SDXL as FULL

UNION = beside_config(SDXL, num_trans_channel=32, num_trans_head=4, num_proj_channel=32, num_control_type=6)
NETS: dict[str, dict[str, Any]] = {
    "one layer": UNION,
    "two layers, eight kinds": {**UNION, "num_trans_layer": 2, "num_control_type": 8},
}


def nets(config: dict[str, Any], dtype: torch.dtype = torch.float64) -> tuple[ControlNetUnion, nn.Module]:
    theirs = diffusers.ControlNetUnionModel(**config)
    randomise(theirs)
    ours = ControlNetUnion(UnionConfig.from_dict(dict(theirs.config)))
    ours.load_state_dict(theirs.state_dict())
    return ours.to(dtype).eval(), theirs.to(dtype).eval()


def hints(count: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Two rows that are shown the same, as the reference's pipelines do: it attends over the rows of a call."""
    return [random(1, 3, 32, 32, seed=30 + index, dtype=dtype).sigmoid().repeat(2, 1, 1, 1) for index in range(count)]


def say(
    ours: ControlNetUnion, kinds: list[int], strengths: list[float], dtype: torch.dtype = torch.float64, **o: Any
) -> Residuals:
    asked = unet_inputs(SDXL, dtype)
    shown = zip(kinds, hints(len(kinds), dtype), strengths, strict=True)
    seen = [Shown(kind, ours.look(hint), strength) for kind, hint, strength in shown]
    added = Added(asked["pooled"], asked["times"])
    return weighed(
        ours(asked["x"], asked["t"], asked["context"], seen, added=added), strengths[0] if len(kinds) == 1 else 1.0, **o
    )


def say_reference(
    theirs: nn.Module,
    kinds: list[int],
    strengths: list[float],
    dtype: torch.dtype = torch.float64,
    *,
    guess: bool = False,
) -> Residuals:
    asked = unet_inputs(SDXL, dtype)
    flags = torch.zeros(2, theirs.config.num_control_type)
    flags[:, kinds] = 1.0
    told = {"text_embeds": asked["pooled"], "time_ids": asked["times"]}
    x, t, context = asked["x"], asked["t"], asked["context"]
    options = {"conditioning_scale": strengths, "added_cond_kwargs": told, "guess_mode": guess}
    said = theirs(x, t, context, hints(len(kinds), dtype), flags, kinds, **options)
    return Residuals(tuple(said.down_block_res_samples), said.mid_block_res_sample)


@pytest.mark.parametrize("dtype", BARS, ids=str)
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(
    ("kinds", "strengths"), [([3], [0.7]), ([1, 4], [0.7, 1.2]), ([5, 0, 2], [1.0, 0.5, 0.0])], ids=["1", "2", "3"]
)
def test_what_it_says_equals_the_reference(
    name: str, kinds: list[int], strengths: list[float], dtype: torch.dtype
) -> None:
    ours, theirs = nets(NETS[name], dtype)
    with torch.no_grad():
        assert apart(say(ours, kinds, strengths, dtype), say_reference(theirs, kinds, strengths, dtype)) <= BARS[dtype]


@pytest.mark.parametrize(("kinds", "strengths"), [([3], [0.7]), ([1, 4], [0.7, 1.2])], ids=["1", "2"])
def test_guessing_equals_the_reference(kinds: list[int], strengths: list[float]) -> None:
    ours, theirs = nets(UNION)
    with torch.no_grad():
        said = say(ours, kinds, strengths, guess=True)
        assert apart(said, say_reference(theirs, kinds, strengths, guess=True)) <= 1e-9


def test_rows_shown_different_hints_are_as_each_alone_which_in_the_reference_they_are_not() -> None:
    ours, theirs = nets(UNION)
    asked, hint = unet_inputs(SDXL), random(2, 3, 32, 32, seed=30).sigmoid()

    def ask(rows: slice, *, reference: bool = False) -> Residuals:
        x, t, context = (asked[name][rows] for name in ("x", "t", "context"))
        pooled, times = asked["pooled"][rows], asked["times"][rows]
        if not reference:
            return ours(x, t, context, [Shown(3, ours.look(hint[rows]))], added=Added(pooled, times))
        flags, told = torch.tensor([[0.0, 0, 0, 1, 0, 0]] * len(x)), {"text_embeds": pooled, "time_ids": times}
        said = theirs(x, t, context, [hint[rows]], flags, [3], conditioning_scale=[1.0], added_cond_kwargs=told)
        return Residuals(tuple(said.down_block_res_samples), said.mid_block_res_sample)

    with torch.no_grad():
        both = ask(slice(2))
        for row in (slice(1), slice(1, 2)):
            mine = Residuals(tuple(each[row] for each in both.skips), both.middle[row])
            assert apart(mine, ask(row, reference=True)) <= 1e-9
        assert apart(both, ask(slice(2), reference=True)) > 1e-6


def test_a_file_is_read_with_and_without_its_configuration(tmp_path: Path) -> None:
    config = {**UNION, "cross_attention_dim": 2048, "addition_time_embed_dim": 256, "attention_head_dim": (1, 1)}
    config["projection_class_embeddings_input_dim"] = 16 + 6 * 256
    theirs = diffusers.ControlNetUnionModel(
        **{
            **config,
            "num_trans_head": 8,
            "block_out_channels": (64, 64),
            "num_trans_channel": 64,
            "num_proj_channel": 64,
        }
    )
    randomise(theirs)
    theirs.save_pretrained(tmp_path / "net")
    stored = tmp_path / "net" / "diffusion_pytorch_model.safetensors"
    save(read(stored), tmp_path / "alone.safetensors")
    for place in (tmp_path / "net", tmp_path / "alone.safetensors"):
        loaded = load_controlnet(place)
        assert isinstance(loaded, ControlNetUnion)
        assert loaded.config.num_control_type == 6
        assert loaded.state_dict().keys() == theirs.state_dict().keys()
        assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    tensors = dict(read(stored))
    tensors["transformer_layes.0.attn.in_proj"] = tensors.pop("transformer_layes.0.attn.in_proj_weight")
    save(tensors, stored)
    with pytest.raises(WeightsError, match=r"missing +transformer_layes\.0\.attn\.in_proj_weight"):
        load_controlnet(tmp_path / "net")
    (tmp_path / "bent").mkdir()
    tensors["task_embedding"] = tensors["task_embedding"].flatten()
    save(tensors, tmp_path / "alone.safetensors")
    with pytest.raises((ConfigError, WeightsError), match="alone"):
        load_controlnet(tmp_path / "alone.safetensors")


def test_the_full_size_network_has_the_released_counts() -> None:
    raw = {name: value for name, value in FULL.items() if name not in ("sample_size", "up_block_types")}
    with torch.device("meta"), Unfilled():
        network = ControlNetUnion(UnionConfig.from_dict(raw))
    with torch.device("meta"):
        theirs = diffusers.ControlNetUnionModel(**raw)
    assert {k: v.shape for k, v in network.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    assert sum(p.numel() for p in network.parameters()) == 1_257_287_280


@pytest.mark.parametrize("kinds", [[], [6], [-1], [2, 2]], ids=str)
def test_a_kind_that_it_does_not_know_is_refused(kinds: list[int]) -> None:
    ours, _ = nets(UNION)
    with pytest.raises(RequestError, match="knows 0 to 5"):
        say(ours, kinds, [1.0] * len(kinds))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"num_trans_channel": 64}, "must be 32"),
        ({"num_proj_channel": 16}, "must be 32"),
        ({"num_trans_head": 5}, "num_trans_head"),
        ({"num_control_type": 0}, "num_control_type"),
        ({"controlnet_conditioning_channel_order": "bgr"}, "must be rgb"),
        ({"_class_name": "UNet2DConditionModel"}, "is expected"),
    ],
)
def test_a_configuration_that_means_another_network_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        UnionConfig.from_dict({**UNION, **changed})


@pytest.mark.parametrize(
    ("where", "name", "wrong"),
    [
        (ControlNetUnion, "told", lambda net, x, kinds: 0.0),
        (Weighing, "forward", lambda layer, x: x),
        (ControlNetUnion, "fused", lambda net, seen: sum(each.seen for each in seen)),
        (Values, "forward", lambda layer, x: layer.out_proj(x)),
    ],
    ids=["kinds untold", "no transformer", "hints unweighed", "values unprojected"],
)
def test_a_mistake_turns_the_comparison_red(
    monkeypatch: pytest.MonkeyPatch, where: type, name: str, wrong: Any
) -> None:
    ours, theirs = nets(UNION)
    monkeypatch.setattr(where, name, wrong)
    with torch.no_grad():
        assert apart(say(ours, [1, 4], [0.7, 1.2]), say_reference(theirs, [1, 4], [0.7, 1.2])) > 1e-6
