"""The text encoder equals transformers' on tiny random weights: every layer, the pooled text, the projection."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from safelight.encoders.checkpoints import released
from safelight.encoders.clip import ClipText, ClipTextConfig
from safelight.errors import ConfigError, RequestError
from tests.parity.networks import BARS, CLIP, CLIPS, clip_ids, clips, difference, randomise


@pytest.mark.parametrize("dtype", BARS, ids=str)
@pytest.mark.parametrize("name", CLIPS)
def test_every_layer_and_the_pooled_text_equal_the_reference(name: str, dtype: torch.dtype) -> None:
    ours, theirs = clips(CLIPS[name], dtype)
    ids = clip_ids()
    with torch.no_grad():
        got, wanted = ours(ids), theirs(ids, output_hidden_states=True)
        assert len(got.hidden) == len(wanted.hidden_states) == 4
        for mine, reference in zip(got.hidden, wanted.hidden_states, strict=True):
            assert difference(mine, reference) <= BARS[dtype]
        assert difference(got.last, wanted.last_hidden_state) <= BARS[dtype]
        if ours.text_projection is None:
            assert got.projected is None
            assert difference(got.pooled, wanted.pooler_output) <= BARS[dtype]
        else:
            assert got.projected is not None
            assert difference(got.projected, wanted.text_embeds) <= BARS[dtype]


@pytest.mark.parametrize("skip", [1, 2])
def test_skipping_last_layers_normalises_an_earlier_one(skip: int) -> None:
    ours, theirs = clips(CLIPS["ViT-L"])
    ids = clip_ids()
    with torch.no_grad():
        earlier = theirs(ids, output_hidden_states=True).hidden_states[-(skip + 1)]
        assert difference(ours.normed(ours(ids).hidden[-(skip + 1)]), theirs.final_layer_norm(earlier)) <= 1e-9


def test_the_pooled_text_is_at_the_first_end_even_when_padding_ends_too() -> None:
    ours, _ = clips(CLIPS["ViT-L"])
    assert ours.ends(clip_ids()).tolist() == [5, 8, 11]


def test_legacy_files_pool_at_the_highest_number() -> None:
    ours, _ = clips(CLIPS["legacy end token"])
    ids = clip_ids()
    ids[1, 3] = 2
    assert ours.ends(ids).tolist() == [5, 8, 11]


def test_later_tokens_do_not_change_earlier_vectors() -> None:
    ours, _ = clips(CLIPS["OpenCLIP-H"])
    ids = clip_ids()
    other = ids.clone()
    other[:, 6:] = 7
    with torch.no_grad():
        assert torch.equal(ours(ids).last[:, :6], ours(other).last[:, :6])


@pytest.mark.parametrize("name", CLIPS)
def test_tokens_that_are_not_seen_are_those_of_the_references_mask(name: str) -> None:
    ours, theirs = clips(CLIPS[name])
    ids = clip_ids()
    seen = torch.rand(ids.shape, generator=torch.Generator().manual_seed(0)) < 0.6
    seen[:, 0] = True
    with torch.no_grad():
        wanted = theirs(ids, attention_mask=seen.long()).last_hidden_state
        assert difference(ours(ids, seen).last, wanted) <= 1e-9
        assert difference(ours(ids).last, wanted) > 1e-3


def test_names_are_the_released_ones_with_the_prefix() -> None:
    ours, theirs = clips(CLIPS["OpenCLIP-bigG"])
    assert set(ours.state_dict()) == set(theirs.state_dict())
    assert "text_model.encoder.layers.0.self_attn.q_proj.weight" in ours.state_dict()


def test_both_ways_of_naming_are_read() -> None:
    assert released("embeddings.token_embedding.weight") == "text_model.embeddings.token_embedding.weight"
    assert released("text_model.final_layer_norm.bias") == "text_model.final_layer_norm.bias"
    assert released("text_projection.weight") == "text_projection.weight"
    assert released("text_model.embeddings.position_ids") is None


def test_every_parameter_learns_and_starts_as_the_paper_says() -> None:
    torch.manual_seed(0)
    config = ClipTextConfig.from_dict({**CLIP, "hidden_size": 64, "architectures": ["CLIPTextModelWithProjection"]})
    network = ClipText(config)
    output = network(clip_ids())
    assert output.projected is not None
    (output.projected.square().mean() + output.last[:, 3].sum()).backward()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for n, p in network.named_parameters() if "k_proj.b" not in n
    )
    layer = network.text_model.encoder.layers[0]
    stds = {
        network.text_model.embeddings.token_embedding.weight: 0.02,
        network.text_model.embeddings.position_embedding.weight: 0.01,
        layer.self_attn.q_proj.weight: 64**-0.5,
        layer.self_attn.out_proj.weight: 64**-0.5 * 6**-0.5,
        layer.mlp.fc1.weight: 128**-0.5,
        layer.mlp.fc2.weight: 64**-0.5 * 6**-0.5,
    }
    for weight, std in stds.items():
        assert float(weight.detach().std()) == pytest.approx(std, rel=0.1)


def test_more_tokens_than_positions_are_refused() -> None:
    ours, _ = clips(CLIPS["ViT-L"])
    with pytest.raises(RequestError, match="17 tokens; the encoder reads 16"):
        ours(torch.zeros(1, 17, dtype=torch.long))


def test_float32_equals_the_reference_with_its_own_attention_too() -> None:
    settings = transformers.CLIPTextConfig(**CLIP)
    settings._attn_implementation = "eager"
    theirs = transformers.CLIPTextModel(settings).eval()
    randomise(theirs)
    ours = ClipText(ClipTextConfig.from_dict(settings.to_dict()))
    ours.load_state_dict({f"text_model.{name}": value for name, value in theirs.state_dict().items()})
    with torch.no_grad():
        assert difference(ours(clip_ids()).last, theirs(clip_ids()).last_hidden_state) <= 1e-5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["T5EncoderModel"]}, "T5EncoderModel"),
        ({"model_type": "clip"}, "model_type"),
        ({"hidden_act": "relu6"}, "relu6"),
        ({"num_attention_heads": 5}, "5 heads"),
        ({"layer_norm_epsilon": 1e-5}, "did you mean 'layer_norm_eps'"),
    ],
)
def test_a_configuration_of_another_network_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClipTextConfig.from_dict({**CLIP, **change})
