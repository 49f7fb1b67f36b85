"""Weights and long prompts of Stable Cascade: each rule by hand on the reference's encoder, told to its prior."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.schedulers import scheduling_ddpm_wuerstchen as wuerstchen
from torch import Tensor

from safelight.cli.main import main
from safelight.core.noise import start_noise
from safelight.encoders.emphasis import lay
from safelight.encoders.tokenizer import ClipTokenizer
from safelight.families.cascade import wiring
from safelight.families.family import Prompt
from safelight.generate.pipe import load
from safelight.generate.recipe import Recipe
from safelight.generate.reproduce import compare, load_for, request_of
from safelight.generate.request import Request
from tests.cascade import EDGE, combine, tiny_cascade
from tests.parity.cascades import EXACT, PROMPT, SEED, STEPS, asked, drawn, ours, references, steady
from tests.parity.networks import difference

TEXTS = {
    "a1111": "a (red hat:1.4) and [green] hair, (crown:-0.5)",
    "comfyui": "a (red hat:1.4) and (green:0.6) hair, (crown:-0.5)",
    "compel": "a (red hat)1.4 and green-- hair, (a crown)0.3",
}
LONG = "a person with green hair, " * 14 + "a (red:1.3) hat"
SHORT = "a [red] crown"
Patch = pytest.MonkeyPatch


def vectors(ids: list[int], used: int, unseen: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """What the reference's encoder says of a row, [L, C] before the last normalisation, and projected [P]."""
    seen = torch.tensor([[place < used and place not in unseen for place in range(len(ids))]])
    with torch.no_grad():
        read = references()[0].text_encoder(torch.tensor([ids]), attention_mask=seen.long(), output_hidden_states=True)
    return read.hidden_states[-1][0], read.text_embeds[0]


def by_hand(text: str, name: str) -> tuple[Tensor, Tensor]:
    """A prompt as the reference's prior can be told it: [1, M, C] and [1, 1, P], weighed by the rule of ``name``."""
    tokenizer = ClipTokenizer.from_folder(tiny_cascade() / "tokenizer")
    columns, pooled = [], None
    nothing, _ = vectors(list(tokenizer.row(())), 2)
    for chunk in lay(tokenizer, text, name).chunks:
        ids, used, weights = list(chunk.ids), len(chunk.tokens) + 2, torch.tensor(chunk.weights).double()[:, None]
        z, whole = vectors(ids, used)
        pooled = whole if pooled is None else pooled
        if name == "a1111":
            told = z * weights
            columns.append(told * (z.mean() / told.mean()) if chunk.weighted else z)
            continue
        mix = [(1.0, z)]
        if name == "compel":
            for weight in sorted({each for each in chunk.weights if each < 1.0}):
                unseen = tuple(place for place, each in enumerate(chunk.weights) if each == weight)
                mix.append((math.tan(math.pi / 2 * (1 - weight)), vectors(ids, used, unseen)[0]))
        total = sum((share * (nothing + weights * (each - nothing)) for share, each in mix), torch.zeros_like(z))
        columns.append(total / sum(share for share, _ in mix))
    assert pooled is not None
    return torch.cat(columns)[None], pooled[None, None]


def error(prompt: str, negative: str, name: str) -> float:
    """Of what the prior draws."""
    mine, noise = drawn(replace(asked(4.0, negative), prompt=prompt, emphasis=name, later=1))[0]
    told: dict[str, Any] = dict(zip(("prompt_embeds", "prompt_embeds_pooled"), by_hand(prompt, name)))
    told |= dict(zip(("negative_prompt_embeds", "negative_prompt_embeds_pooled"), by_hand(negative, name)))
    told |= {"height": EDGE, "width": EDGE, "num_inference_steps": STEPS, "guidance_scale": 4.0}
    with pytest.MonkeyPatch.context() as patch:
        draws = steady(noise)
        patch.setattr(wuerstchen, "randn_tensor", lambda *_, **__: next(draws))
        theirs = references()[0](**told, latents=start_noise(SEED, (16, 3, 3)).double()).image_embeddings
    return difference(mine, theirs)


@pytest.mark.parametrize("name", TEXTS)
def test_weights_do_in_the_prior_what_the_rule_says(name: str, monkeypatch: Patch) -> None:
    assert error(TEXTS[name], "", name) < EXACT
    right = wiring._read
    monkeypatch.setattr(wiring, "_read", lambda stage, chunk, ids, seen: right(stage, chunk, chunk.ids, seen))
    weighed = error(TEXTS[name], "", name)
    assert weighed < EXACT if name == "a1111" else weighed > 1e3 * EXACT, "the empty prompt is asked for, and its mask"


def test_a_long_prompt_is_all_of_its_chunks() -> None:
    assert len(lay(ClipTokenizer.from_folder(tiny_cascade() / "tokenizer"), LONG, "a1111").chunks) == 2
    assert error(LONG, f"{LONG} (with a crown)", "a1111") < EXACT


def test_a_shorter_prompt_says_the_same_whatever_it_is_filled_up_to(monkeypatch: Patch) -> None:
    model = ours().model
    x, t = torch.randn(1, 16, 3, 3, generator=torch.Generator().manual_seed(0)).double(), torch.tensor([0.5]).double()
    short, long = (model.encode(Prompt(text, (EDGE, EDGE), emphasis="a1111")) for text in (SHORT, LONG))
    assert (short.chunks, long.chunks) == (1, 2)
    alone = [model.predict(x, t, words.cond) for words in (short, long)]
    both = model.predict(x.repeat(2, 1, 1, 1), t.repeat(2), short.cond.stretch(2).cat([long.cond]))
    assert difference(both, torch.cat(alone)) < 1e-12
    over = replace(short.cond, text=short.cond.text.repeat(1, 2, 1), heard=short.cond.heard.repeat(1, 2))
    assert difference(model.predict(x, t, over), alone[0]) > 1e-4, "told twice it would count twice"


@pytest.mark.parametrize("name", ["a1111", "comfyui", "compel"])
def test_plain_words_keep_every_bit_and_signs_change_the_picture(name: str) -> None:
    pipe = load(str(tiny_cascade()), device="cpu", threads=1)
    small = Request(PROMPT, steps=2, later=2, seed=SEED, size=(EDGE, EDGE))
    plain, named = (pipe.draw(replace(small, emphasis=each))[0].latents for each in ("none", name))
    assert torch.equal(plain, named)
    weighed, bare = (
        replace(small, prompt=text, emphasis=name) for text in (TEXTS[name], "a red hat and green hair, crown")
    )
    assert not torch.equal(pipe.draw(weighed)[0].latents, pipe.draw(bare)[0].latents)


def test_the_decoder_is_told_the_first_chunk_in_which_no_weight_shows() -> None:
    second = ours().model.after
    assert second is not None
    told = second.encode(Prompt("a (red:1.3) hat BREAK a crown", (EDGE, EDGE), emphasis="a1111"))
    plain = second.encode(Prompt("a red hat", (EDGE, EDGE)))
    assert told.chunks == 1
    assert torch.equal(told.cond.pooled, plain.cond.pooled) and torch.equal(told.cond.text, plain.cond.text)


@pytest.mark.parametrize("prompt", [LONG, "a [red:green:0.5] hat BREAK a (crown:1.2)"])
def test_long_and_changing_prompts_are_drawn_again_from_their_recipes(prompt: str) -> None:
    pipe = load(str(tiny_cascade()), device="cpu", threads=1)
    small = Request(prompt, negative=SHORT, steps=2, later=2, seed=SEED, size=(EDGE, EDGE), emphasis="a1111")
    (first,) = pipe.draw(small)
    assert first.cut == ()
    recipe = Recipe.from_json(first.recipe.json())
    assert compare(first.image, load_for(recipe, str(pipe.folder)).draw(request_of(recipe))[0].image).equal


@pytest.mark.parametrize("folder", [tiny_cascade, lambda: None])
def test_explain_shows_how_the_prior_reads(
    folder: Callable[[], Path | None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = folder() or combine(tmp_path / "both")
    assert main(["explain", LONG, "-m", str(place), "--emphasis", "a1111", "--json"]) == 0
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    (chunks,) = [each["chunks"] for each in stage["encoders"].values()]
    assert [*stage["encoders"]] == ["prior_text_encoder"]
    assert len(chunks) == 2 and {token["weight"] for token in chunks[1]["tokens"]} == {1.0, 1.3}
