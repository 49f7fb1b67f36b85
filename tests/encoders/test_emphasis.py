"""What weights do to the vectors of a random encoder, number by number in float64, against each rule written out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from safelight.encoders.checkpoints import load_clip_text
from safelight.encoders.emphasis import EMPHASES, lay
from safelight.encoders.tokenizer import ClipTokenizer
from safelight.encoders.vocabulary import save_tokenizer
from safelight.families.family import Prompt
from safelight.families.sd.parts import Reader
from safelight.families.sd.wiring import Text, read_text
from tests.models import tiny

CPU = torch.device("cpu")
TEXTS = {
    "a1111": "a (red hat:1.4) and [green] hair, (crown:-0.5)",
    "comfyui": "a (red hat:1.4) and (green:0.6) hair, (crown:-0.5)",
    "compel": "a (red hat)1.4 and green-- hair, (a crown)0.3",
}


@cache
def readers(kind: str = "sd1") -> tuple[Reader, ...]:
    """The text encoders of a tiny model, in float64."""
    names = ["text_encoder"] + (["text_encoder_2"] if kind == "sdxl" else [])
    return tuple(
        Reader(
            ClipTokenizer.from_folder(tiny(kind) / name.replace("text_encoder", "tokenizer")),
            load_clip_text(tiny(kind) / name).double(),
        )
        for name in names
    )


def read(text: str, name: str, kind: str = "sd1", skip: int = 0) -> Text:
    return read_text(readers(kind), Prompt(text, (32, 32), skip, emphasis=name), xl=kind == "sdxl", device=CPU)


def vectors(ids: list[int], seen: list[bool] | None = None) -> Tensor:
    """[L, C] of one row, as the network is told it."""
    with torch.no_grad():
        mask = None if seen is None else torch.tensor([seen])
        return readers()[0].encoder(torch.tensor([ids]), mask).last[0]


def rows(name: str) -> tuple[list[int], list[float], list[int]]:
    """Numbers and weights of the one chunk of a text, and the empty row."""
    (chunk,) = lay(readers()[0].tokenizer, TEXTS[name], name).chunks
    return list(chunk.ids), list(chunk.weights), list(readers()[0].tokenizer.row(()))


def a1111() -> Tensor:
    ids, weights, _ = rows("a1111")
    z = vectors(ids)
    told = torch.stack([vector * weight for vector, weight in zip(z, weights)])
    return told * (z.sum() / told.sum())


def comfyui() -> Tensor:
    ids, weights, empty = rows("comfyui")
    z, nothing = vectors(ids), vectors(empty)
    return torch.stack([none + weight * (vector - none) for vector, weight, none in zip(z, weights, nothing)])


def compel() -> Tensor:
    ids, weights, empty = rows("compel")
    nothing = vectors(empty)

    def scaled(z: Tensor) -> Tensor:
        return torch.stack([none + weight * (vector - none) for vector, weight, none in zip(z, weights, nothing)])

    mix = [(1.0, scaled(vectors(ids)))]
    for weight in (0.81, 0.3):
        places = [place for place, each in enumerate(weights) if math.isclose(each, weight)]
        assert len(places) == (1 if weight == 0.81 else 2)
        mix.append((math.tan(math.pi / 2 * (1 - weight)), scaled(vectors(ids, [at not in places for at in range(77)]))))
    return sum((share * z for share, z in mix), torch.zeros_like(nothing)) / sum(share for share, _ in mix)


@pytest.mark.parametrize("rule", [a1111, comfyui, compel])
def test_weights_do_what_the_rule_says(rule: Callable[[], Tensor]) -> None:
    name = rule.__name__
    told, wanted = read(TEXTS[name], name).context[0], rule()
    assert (told - wanted).abs().max() < 1e-12
    plain = vectors(rows(name)[0])
    assert (told - plain).abs().max() > 0.1, "and they do something"


def test_the_rules_differ() -> None:
    told = [read("a (red hat:1.4) crown", name).context for name in ("a1111", "comfyui")]
    told.append(read("a (red hat)1.4 crown", "compel").context)
    assert (told[0] - told[1]).abs().max() > 0.1
    assert (told[1] - told[2]).abs().max() < 1e-12, "above 1 compel does what ComfyUI does"
    assert (read("a (red hat:0.6)", "comfyui").context - read("a (red hat)0.6", "compel").context).abs().max() > 0.01


@pytest.mark.parametrize("name", EMPHASES)
@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_plain_words_keep_every_bit(name: str, kind: str) -> None:
    for text in ("", "a person with green hair and a red hat"):
        told, plain = read(text, name, kind), read(text, "none", kind)
        assert torch.equal(told.context, plain.context) and told.chunks == 1
        assert kind == "sd1" or torch.equal(told.pooled, plain.pooled)  # type: ignore[arg-type]


def test_the_mean_of_a_chunk_is_as_before_with_a1111_and_that_of_each_chunk_alone() -> None:
    long = "(red:1.5) " * 70 + ", " + "hat [green] " * 10
    told, plain = read(long, "a1111"), read("red " * 70 + ", " + "hat green " * 10, "a1111")
    assert told.chunks == plain.chunks == 2
    for place in (0, 77):
        there = slice(place, place + 77)
        assert math.isclose(told.context[:, there].mean(), plain.context[:, there].mean(), rel_tol=1e-9)
    assert not math.isclose(told.context[:, :77].std(), plain.context[:, :77].std(), rel_tol=1e-3)


def test_weight_0_is_the_empty_prompt_there_with_comfyui_and_the_prompt_without_the_words_with_compel() -> None:
    nothing = vectors(rows("comfyui")[2])
    told = read("a (red:0) hat", "comfyui").context[0]
    assert (told[2] - nothing[2]).abs().max() < 1e-12 and (told[3] - nothing[3]).abs().max() > 0.01
    ids = list(lay(readers()[0].tokenizer, "a red hat", "none").chunks[0].ids)
    unseen = vectors(ids, [at != 2 for at in range(77)])
    told = read("a (red)0 hat", "compel").context[0]
    keep = [at for at in range(77) if at != 2]
    assert (told[keep] - unseen[keep]).abs().max() < 1e-3, "the share of the whole prompt is 1 in 60 000"


def test_tokens_that_nobody_sees_change_nothing_but_themselves() -> None:
    ids = list(lay(readers()[0].tokenizer, "a red hat", "none").chunks[0].ids)
    other = [*ids[:2], ids[1], *ids[3:]]
    seen = [at != 2 for at in range(77)]
    a, b = vectors(ids, seen), vectors(other, seen)
    assert torch.equal(a[[0, 1, *range(3, 77)]], b[[0, 1, *range(3, 77)]]) and not torch.equal(a[2], b[2])
    assert (vectors(ids, [True] * 77) - vectors(ids)).abs().max() < 1e-12
    assert not torch.equal(vectors(ids)[3], vectors(other)[3])


@pytest.mark.parametrize("name", ["a1111", "comfyui"])
@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_a_long_prompt_is_its_chunks_one_after_the_other(name: str, kind: str) -> None:
    first, second = "red " * 75, "a green crown"
    told = read(f"{first} {second}", name, kind)
    parts = [read(first, "none", kind), read(second, "none", kind)]
    assert told.chunks == 2 and told.cut == ()
    assert torch.equal(told.context, torch.cat([part.context for part in parts], dim=1))
    if kind == "sdxl":
        assert told.pooled is not None and parts[0].pooled is not None and parts[1].pooled is not None
        assert torch.equal(told.pooled, parts[0].pooled), "the pooled text is that of the first chunk"
        assert not torch.equal(told.pooled, parts[1].pooled)


def test_an_encoder_that_spells_more_is_waited_for(tmp_path: Path) -> None:
    one, two = readers("sdxl")
    save_tokenizer(["a"], tmp_path)
    spells = replace(two, tokenizer=ClipTokenizer.from_folder(tmp_path))
    told = read_text((one, spells), Prompt("red " * 40, (32, 32), emphasis="a1111"), xl=True, device=CPU)
    assert told.chunks == 2 and told.context.shape == (1, 154, 32)
    assert torch.equal(told.context[:, :77, :16], read("red " * 40, "a1111", "sdxl").context[:, :, :16])
    assert torch.equal(told.context[:, 77:, :16], read("", "none", "sdxl").context[:, :, :16])
