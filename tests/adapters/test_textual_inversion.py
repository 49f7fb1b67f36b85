"""Learned words: every file that names them, where chunks end, and everything as it was when they are gone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import safelight
from safelight.adapters.textual_inversion import Embedding, load_embedding
from safelight.encoders.clip import LEGACY_EOS, ClipText
from safelight.encoders.emphasis import lay
from safelight.encoders.learned import Learned, table, taught
from safelight.errors import RequestError, WeightsError
from safelight.families.family import Model, Prompt
from safelight.generate.pipe import Pipe, load
from safelight.generate.request import Request
from safelight.weights.save import save
from tests.cascade import tiny_cascade
from tests.models import tiny
from tests.parity.networks import random

VECTORS = random(3, 16, seed=5, dtype=torch.float32)


def fresh(kind: str = "sd1") -> Pipe:
    return load(str(tiny(kind)), device="cpu", threads=1)


def made(place: Path, name: str = "style.safetensors", **tensors: Tensor) -> Path:
    save(tensors or {"emb_params": VECTORS}, place / name)
    return place / name


def embedding(place: Path, word: str = "") -> Embedding:
    return load_embedding(made(place), word)


def test_every_layout_gives_the_same_vectors_and_its_own_name(tmp_path: Path) -> None:
    beside = {"string_to_token": {"*": 265}, "name": "other", "step": 500, "sd_checkpoint": "0aff"}
    torch.save({"string_to_param": {"*": VECTORS}, **beside}, tmp_path / "a1111.pt")
    token = {**beside, "string_to_token": {"*": torch.tensor(265)}}
    torch.save({"string_to_param": {"*": nn.Parameter(VECTORS)}, **token}, tmp_path / "grown.pt")
    torch.save({"<toy>": VECTORS}, tmp_path / "learned_embeds.bin")
    made(tmp_path, "civitai.safetensors", emb_params=VECTORS)
    made(tmp_path, "mine.safetensors", **{"<toy>": VECTORS})
    made(tmp_path, "xl.safetensors", clip_g=VECTORS, clip_l=-VECTORS)
    found = {file.name: load_embedding(file, pickles=True) for file in sorted(tmp_path.iterdir())}
    words = {name: each.word for name, each in found.items()}
    assert words == {
        "a1111.pt": "a1111",
        "grown.pt": "grown",
        "learned_embeds.bin": "<toy>",
        "civitai.safetensors": "civitai",
        "mine.safetensors": "<toy>",
        "xl.safetensors": "xl",
    }
    first, second = found.pop("xl.safetensors").vectors
    assert torch.equal(first, -VECTORS) and torch.equal(second, VECTORS)
    assert all(torch.equal(each.vectors[0], VECTORS) for each in found.values())
    with pytest.raises(WeightsError, match="pickle"):
        load_embedding(tmp_path / "a1111.pt")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a": VECTORS, "b": VECTORS}, r"holds 2 tensors \(a, b\)"),
        ({"clip_l": VECTORS, "clip_g": VECTORS[:2]}, "3 and 2 vectors"),
        ({"a": VECTORS[None]}, r"a is of shape \[1, 3, 16\]"),
        ({"a": VECTORS.int()}, "vectors of a word are expected"),
        ({"a": VECTORS[:0]}, r"shape \[0, 16\]"),
        ({"a": VECTORS / 0}, "no number"),
    ],
)
def test_other_files_are_refused(tensors: dict[str, Tensor], message: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=message):
        load_embedding(made(tmp_path, **tensors))


def test_what_cannot_be_a_word_is_refused(tmp_path: Path) -> None:
    for word in (" ", "x" * 101, "a\nb", " a"):
        with pytest.raises(RequestError, match="cannot be a word"):
            embedding(tmp_path, word)


def test_another_models_word_a_known_word_and_a_strength_are_refused(tmp_path: Path) -> None:
    mine, model = embedding(tmp_path), fresh().model
    with pytest.raises(WeightsError, match=r"style.safetensors: is for .*width 16; this model is .*16 and 16"):
        mine.put_on(fresh("sdxl").model)
    wide = load_embedding(made(tmp_path, "w.safetensors", emb_params=random(1, 768, dtype=torch.float32)))
    with pytest.raises(WeightsError, match=r"Stable Diffusion 1 \(width 768\)"):
        wide.put_on(model)
    with pytest.raises(RequestError, match="vocabulary has the word 'Hat' already"):
        mine.called("Hat").put_on(model)
    with pytest.raises(RequestError, match="another file has the word 'STYLE' already"):
        mine.called("STYLE").put_on(mine.put_on(model).over(model))
    with pytest.raises(RequestError, match=r"no strength such as 0.5; weigh it in the prompt: \(style:0.5\)"):
        mine.put_on(model, 0.5)
    long = load_embedding(made(tmp_path, "long.safetensors", emb_params=random(76, 16, dtype=torch.float32)))
    with pytest.raises(WeightsError, match="has 76 vectors; a prompt has room for 75"):
        long.put_on(model)
    with pytest.raises(RequestError, match="no words can be learned"):
        mine.put_on(load(str(tiny_cascade()), device="cpu", threads=1).model)


def test_in_prompts_and_negative_prompts_and_gone_to_the_last_bit(tmp_path: Path) -> None:
    pipe, mine = fresh(), embedding(tmp_path)
    before = {name: tensor.clone() for name, tensor in pipe.model.encoders[0].state_dict().items()}
    tokens = pipe.model.tokenizers[0].pieces("a style hat")
    asked = [Request("a style hat", steps=2), Request("a hat", negative="style", steps=2), Request("a hat", steps=2)]
    plain = [drawn.latents for drawn in pipe.draw_many(asked)]
    with safelight.applied(pipe, mine):
        found = [drawn.latents for drawn in pipe.draw_many(asked)]
        (drawn,) = pipe.draw(asked[0])
    with safelight.applied(pipe, mine, 0.0):
        silent = [drawn.latents for drawn in pipe.draw_many(asked)]
    after = [drawn.latents for drawn in pipe.draw_many(asked)]
    assert [torch.equal(a, b) for a, b in zip(plain, found)] == [False, False, True]
    assert all(torch.equal(a, b) for a, b in zip(plain, after)) and all(map(torch.equal, plain, silent))
    assert pipe.model.tokenizers[0].pieces("a style hat") == tokens
    assert all(torch.equal(tensor, before[name]) for name, tensor in pipe.model.encoders[0].state_dict().items())
    assert drawn.recipe.adapters[0]["kind"] == "embedding" and drawn.recipe.adapters[0]["name"] == "style"


def test_two_words_at_once_and_either_may_go_first(tmp_path: Path) -> None:
    pipe = fresh()
    words = [embedding(tmp_path), load_embedding(made(tmp_path, "b.safetensors", **{"<b>": VECTORS[:1] * 2}))]
    request = Request("a style and <b>", steps=2)
    first = pipe.wardrobe.put_on(words[0])
    (one,) = pipe.draw(request)
    second = pipe.wardrobe.put_on(words[1])
    (both,) = pipe.draw(request)
    pipe.wardrobe.take_off(first)
    (other,) = pipe.draw(request)
    pipe.wardrobe.take_off(second)
    (plain,) = pipe.draw(request)
    assert len({each.latents.numpy().tobytes() for each in (one, both, other, plain)}) == 4
    turned = fresh()
    for each in words[::-1]:
        turned.wardrobe.put_on(each)
    assert torch.equal(turned.draw(request)[0].latents, both.latents)


def learned(model: Model, *counts: int) -> Model:
    words = tuple(Learned(f"w{n}x", (random(n, 16, seed=n, dtype=torch.float32),)) for n in counts)
    return replace(model, learned=words)


def context(model: Model, text: str, emphasis: str = "a1111") -> Tensor:
    found: Tensor = model.encode(Prompt(text, (32, 32), emphasis=emphasis, learned=model.learned)).cond.context
    return found


def test_a_words_vectors_carry_its_weight_and_its_place() -> None:
    model = learned(fresh().model, 3)
    tokenizer = taught(model.tokenizers[0], model.learned, 1000)
    (chunk,) = lay(tokenizer, "a (w3x:1.5) hat", "a1111").chunks
    assert chunk.ids[1:6][1:4] == (1000, 1001, 1002) and chunk.weights[:7] == (1.0, 1.0, 1.5, 1.5, 1.5, 1.0, 1.0)
    assert not torch.equal(context(model, "a (w3x:1.5) hat"), context(model, "a w3x hat"))
    assert [number for number, _, _ in tokenizer.pieces("W3X")] == [1000, 1001, 1002]


@pytest.mark.parametrize("text", ["aw3x", "w3xa", "w3x_1", "1w3x"])
def test_a_piece_of_a_longer_word_is_not_the_word(text: str) -> None:
    model = learned(fresh().model, 3)
    assert all(number < 1000 for number, _, _ in taught(model.tokenizers[0], model.learned, 1000).pieces(text))


def test_the_longest_word_that_fits_is_meant() -> None:
    words = tuple(Learned(word, (torch.zeros(1, 16),)) for word in ("<s>", "<s>-2", "<s>-20"))
    tokenizer = taught(fresh().model.tokenizers[0], words, 1000)
    assert [number for number, _, _ in tokenizer.pieces("<s>-20 <s>-2 <s>")] == [1002, 1001, 1000]


def test_a_word_that_does_not_fit_begins_the_next_chunk_as_in_a1111() -> None:
    model = learned(fresh().model, 8)
    tokenizer = taught(model.tokenizers[0], model.learned, 1000)
    laid = lay(tokenizer, "a " * 70 + "w8x hat", "a1111")
    assert [len(each.tokens) for each in laid.chunks] == [70, 9] and laid.chunks[0].border == "word"
    laid = lay(tokenizer, "a " * 67 + "w8x hat", "a1111")
    assert [len(each.tokens) for each in laid.chunks] == [75, 1]
    cut = lay(tokenizer, "a " * 70 + "w8x hat", "none")
    assert [len(each.tokens) for each in cut.chunks] == [75] and cut.cut.startswith("w8x")


def test_learned_words_are_not_the_end_of_files_with_the_old_end_token() -> None:
    encoder = fresh().model.encoders[0]
    assert isinstance(encoder, ClipText)
    model = learned(fresh().model, 2)
    encoder.config = replace(encoder.config, eos_token_id=LEGACY_EOS)
    end = encoder.config.vocab_size - 1
    ids = torch.tensor([[end - 1, end + 1, end + 2, 5, end, end, end]])
    assert encoder.ends(ids).tolist() == [4]
    extra = table(model.learned, 0, encoder.text_model.embeddings.token_embedding.weight)
    with torch.no_grad():
        found = encoder(ids, learned=extra)
    assert torch.equal(found.pooled, found.last[:, 4])


def test_a_word_reaches_every_place_where_a_prompt_is_read(tmp_path: Path) -> None:
    pipe = fresh()
    requests: list[dict[str, Any]] = [
        {"prompt": "[a hat:style:0.5]", "emphasis": "a1111"},
        {"prompt": "style++", "emphasis": "compel"},
        {"prompt": "(style)", "emphasis": "comfyui"},
        {"prompt": "a style", "skip": 1},
    ]
    for fields in requests:
        (plain,) = pipe.draw(Request(steps=2, **fields))
        with safelight.applied(pipe, embedding(tmp_path)):
            assert not torch.equal(pipe.draw(Request(steps=2, **fields))[0].latents, plain.latents), fields
