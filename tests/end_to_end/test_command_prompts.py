"""``--emphasis`` and ``safelight explain``, as a user runs them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.end_to_end.shell import Shell, wrong
from tests.models import tiny

WEIGHTED = {"a1111": "a [red] (hat:1.4)", "comfyui": "a red (hat:1.4)", "compel": "a red hat++"}
LONG = "red " * 75 + "crown"


@pytest.mark.parametrize("name", WEIGHTED)
def test_emphasis_changes_what_signs_mean_and_the_picture(name: str, shell: Shell) -> None:
    assert shell.drawn("-o", "plain.png", prompt=WEIGHTED[name]).emphasis == "none"
    before = shell.pixels
    assert shell.drawn("--emphasis", name, "-o", "weighted.png", prompt=WEIGHTED[name]).emphasis == name
    assert shell.pixels != before
    said = shell.run("reproduce", "weighted.png", "-m", str(tiny()))
    assert said.code == 0 and "bit-equal" in said.out


def test_a_prompt_that_seems_weighted_is_told_of_once_while_nothing_reads_it(shell: Shell) -> None:
    said = shell.generate("-n", "2", "-o", "x.png", prompt="a (red:1.2) hat")
    told = "the prompt seems to give weights or steps; --emphasis a1111 reads them"
    assert said.code == 0 and said.err.count(told) == 1
    assert told in shell.generate("--negative", "((red))", "-o", "y.png").err
    assert "--emphasis compel" in shell.generate("-o", "z.png", prompt="a red++ hat").err
    for words in (["--emphasis", "a1111"], ["--emphasis", "comfyui"]):
        assert "seems" not in shell.generate(*words, "-o", "w.png", "--force", prompt="a (red:1.2) hat").err
    assert "seems" not in shell.generate("-o", "v.png").err


def test_what_was_cut_is_told_with_what_reads_on(shell: Shell) -> None:
    said = shell.generate("-o", "x.png", prompt=LONG)
    assert said.err.endswith("text encoder (--emphasis a1111 reads on); this was cut off: 'crown'\n")
    assert "reads on" not in shell.generate("-o", "z.png", "--emphasis", "compel", prompt=LONG).err
    assert "cut off" not in shell.generate("-o", "y.png", "--emphasis", "a1111", prompt=LONG).err


def test_a_weight_or_a_name_that_cannot_be_is_one_line(shell: Shell) -> None:
    assert "nearest known: a1111" in wrong(shell.generate("--emphasis", "a111"))
    assert "cannot be the weight" in wrong(shell.generate("--emphasis", "a1111", prompt="a (red:nan) hat"))
    assert shell.names() == []


def explained(shell: Shell, *words: str, model: str | Path | None = None) -> str:
    said = shell.run("explain", *words, "-m", str(model or tiny()))
    assert said.code == 0, said.err
    return said.out


def test_explain_shows_steps_tokens_weights_borders_and_what_is_cut(shell: Shell) -> None:
    out = explained(shell, "a (red:1.2) [hat:crown:0.5] BREAK green", "--emphasis", "a1111", "--steps", "6")
    assert out.splitlines()[1:7] == [
        "steps 1 to 3: 'a (red:1.2) hat BREAK green'",
        "  text_encoder: 4 tokens in 2 chunks of 75",
        "    chunk 1: 3 tokens, to BREAK",
        "      1      a",
        "      1.2    red",
        "      1      hat",
    ]
    assert "steps 4 to 6: 'a (red:1.2) crown BREAK green'" in out and "chunk 2: 1 token, to the end" in out
    out = explained(shell, LONG)
    assert "every step: " in out and "until it is full" in out and "cut off: 'crown'" in out
    out = explained(shell, "[red|green]", "--emphasis", "a1111", "--steps", "40")
    assert "steps 1, 3, 5, 7, 9, 11, 13, 15 and 12 more: 'red'" in out
    assert "to the last comma before it is full" in explained(
        shell, "red " * 60 + ", " + "hat " * 20, "--emphasis", "a1111"
    )
    assert "to a part that is kept whole" in explained(shell, "red " * 73 + "(a red hat:2)", "--emphasis", "comfyui")


def test_every_flag_of_explain_changes_what_it_says(shell: Shell) -> None:
    prompt = "[red:green:0.5] hat"
    plain = explained(shell, prompt)
    changes = [explained(shell, "a hat"), explained(shell, prompt, "--emphasis", "a1111")]
    changes += [explained(shell, prompt, "--emphasis", "a1111", "--steps", "7"), explained(shell, prompt, "--json")]
    changes += [explained(shell, prompt, model=tiny("sdxl"))]
    assert "text_encoder, text_encoder_2: " in changes[-1]
    assert len({plain, *changes}) == len(changes) + 1
    assert "4 steps" in plain, "the model's own"
    assert "seems" in shell.run("explain", "a (red:1.2) hat", "-m", str(tiny())).err
    assert "seems" not in shell.run("explain", "a red hat", "-m", str(tiny())).err


def test_explain_tells_all_of_it_in_json(shell: Shell) -> None:
    told = json.loads(explained(shell, "a red++ hat", "--emphasis", "compel", "--json"))
    assert (told["model"], told["emphasis"], told["steps"], told["prompt"]) == ("sd1", "compel", 4, "a red++ hat")
    (stage,) = told["stages"]
    assert stage["text"] == "a red++ hat" and stage["steps"] == [1, 2, 3, 4]
    (chunk,) = stage["encoders"]["text_encoder"]["chunks"]
    assert [token["text"] for token in chunk["tokens"]] == ["a", "red", "hat"]
    assert [round(token["weight"], 9) for token in chunk["tokens"]] == [1.0, 1.21, 1.0]
    assert len(chunk["ids"]) == 77 and chunk["border"] == "end" and stage["encoders"]["text_encoder"]["cut"] == ""


def test_explain_loads_no_network(shell: Shell) -> None:
    shutil.copytree(tiny(), "model")
    for part in ("unet", "vae", "text_encoder"):
        shutil.rmtree(Path("model") / part)
    assert "a | red | hat" in explained(shell, "a red hat", model="model")


def test_explain_refuses_what_generate_would(shell: Shell) -> None:
    def said(*words: str) -> str:
        return wrong(shell.run("explain", *words))

    assert "nearest known: a1111" in said("a", "--emphasis", "a111", "-m", str(tiny()))
    assert "cannot be the weight" in said("(a:inf)", "--emphasis", "comfyui", "-m", str(tiny()))
    assert "between 1 and 1000, not 0" in said("a", "--steps", "0", "-m", str(tiny()))
    assert "unknown model" in said("a", "-m", "figurine5")
    assert "leave out --tokenizer" in said("a", "--tokenizer", ".", "-m", str(tiny()))
