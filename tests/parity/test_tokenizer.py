"""The tokenizer equals transformers' CLIPTokenizer on any text, from any of the released kinds of folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

import safelight
from safelight.encoders.tokenizer import ClipTokenizer, laid_out
from safelight.encoders.vocabulary import save_tokenizer, vocabulary
from safelight.errors import ConfigError, WeightsError

WORDS = "a an and the person with red green blue hair hat wearing glasses who is 's , . ! " + "é日 naïve ﬁ 7"
PIECES = [
    *WORDS.split(),
    "RED",
    "Hair",
    "don't",
    "I'LL",
    "<|endoftext|>",
    "<|STARTOFTEXT|>",
    "e\u0301",
    "\u00a0",
    "\x00",
]
TEXTS = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from([*PIECES, " ", "  ", "\n\t", "\u2028", "😀", "_", "!!"]), max_size=40).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=90).map(" ".join),
)


def folder_with(folder: Path, **files: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(WORDS.split(), folder)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[ClipTokenizer, CLIPTokenizer]:
    folder = folder_with(tmp_path_factory.mktemp("tokenizer"))
    return ClipTokenizer.from_folder(folder), CLIPTokenizer.from_pretrained(str(folder))


def reference_ids(tokenizer: CLIPTokenizer, text: str) -> list[int]:
    return tokenizer(text, padding="max_length", truncation=True, max_length=77).input_ids


@settings(max_examples=400, deadline=None, derandomize=True)
@given(text=TEXTS)
@example("")
@example("a person with red hair, wearing glasses.")
@example("A  Person\n with\tRED hair!!")
@example("İstanbul ß ǅ ﬀ")
@example("x" * 300)
@example("red hair " * 60)
def test_any_text_gives_the_references_numbers(pair: tuple[ClipTokenizer, CLIPTokenizer], text: str) -> None:
    ours, theirs = pair
    assert list(ours.encode(text).ids) == reference_ids(theirs, text)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(text=TEXTS)
def test_a_padding_token_of_its_own_is_found_in_the_text_too(exclaiming: tuple[Any, Any], text: str) -> None:
    ours, theirs = exclaiming
    assert list(ours.encode(text).ids) == reference_ids(theirs, text)
    assert ours.pad != ours.end


@pytest.fixture(scope="module")
def exclaiming(tmp_path_factory: pytest.TempPathFactory) -> tuple[ClipTokenizer, CLIPTokenizer]:
    """As Stable Diffusion 2 is released: tables for start and end, a plain ``!`` for padding."""
    flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    roles = {
        "bos_token": {"content": "<|startoftext|>", **flags},
        "eos_token": {"content": "<|endoftext|>", **flags},
        "pad_token": "!",
        "unk_token": {"content": "<|endoftext|>", **flags},
    }
    config = {
        **{name: {"__type": "AddedToken", **row} for name, row in roles.items() if isinstance(row, dict)},
        "model_max_length": 77,
        "pad_token": "<|endoftext|>",
    }
    folder = tmp_path_factory.mktemp("exclaiming")
    folder_with(folder, special_tokens_map=roles, tokenizer_config=config)
    return ClipTokenizer.from_folder(folder), CLIPTokenizer.from_pretrained(str(folder))


def test_a_folder_written_by_the_reference_reads_the_same(
    pair: tuple[ClipTokenizer, CLIPTokenizer], tmp_path: Path
) -> None:
    ours, theirs = pair
    theirs.save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").exists()
    assert not (tmp_path / "vocab.json").exists()
    again = ClipTokenizer.from_folder(tmp_path)
    for text in ("a person with red hair", "Naïve 日 <|endoftext|> !!", "red " * 100):
        assert again.encode(text) == ours.encode(text)


def test_added_words_keep_their_numbers(tmp_path: Path) -> None:
    size = len(vocabulary(WORDS.split())[0])
    folder = folder_with(tmp_path, added_tokens={"<cat-toy>": size, "<dog-toy>": size + 1})
    ours, theirs = ClipTokenizer.from_folder(folder), CLIPTokenizer.from_pretrained(str(folder))
    text = "a <dog-toy> with a <CAT-TOY>"
    assert size + 1 in ours.encode(text).ids
    assert list(ours.encode(text).ids) == reference_ids(theirs, text)


def test_what_is_cut_off_is_said_as_it_was_written(pair: tuple[ClipTokenizer, CLIPTokenizer]) -> None:
    ours, _ = pair
    text = "A  Red hat " * 30
    read = ours.encode(text)
    assert len(read.ids) == read.used == 77
    kept = text[: len(text) - len(read.cut)]
    assert text.endswith(read.cut)
    assert ours.encode(kept).ids == read.ids
    assert ours.encode(kept).cut == ""
    fits = ours.encode("red " * 75)
    assert (fits.used, fits.cut) == (77, "")
    assert ours.encode("red " * 76).cut.strip() == "red"


def test_the_empty_text_is_start_end_and_padding(pair: tuple[ClipTokenizer, CLIPTokenizer]) -> None:
    ours, _ = pair
    read = ours.encode("")
    assert read.ids == (ours.start, ours.end, *[ours.pad] * 75)
    assert (read.used, read.cut) == (2, "")


def test_every_given_word_is_one_token_and_any_other_is_spelled() -> None:
    vocab, merges = vocabulary(WORDS.split())
    tokenizer = ClipTokenizer(vocab, merges)
    assert all(tokenizer.encode(word).used == 3 for word in WORDS.split() if word != "naïve")
    assert tokenizer.encode("zebra").used == 7
    assert vocabulary(reversed(WORDS.split())) == (vocab, merges)


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("vocab.json", "{", ConfigError, "not valid JSON"),
        ("vocab.json", "[]", ConfigError, "not a table"),
        ("vocab.json", '{"a": "b"}', ConfigError, "do not fit together"),
        ("vocab.json", '{"a": 0}', ConfigError, "do not fit together"),
        ("vocab.json", None, WeightsError, "vocab.json"),
        ("merges.txt", None, WeightsError, "merges.txt"),
        ("merges.txt", "a b c\n", ConfigError, "two pieces"),
        ("merges.txt", "q zz\n", ConfigError, "do not fit together"),
        ("tokenizer.json", '{"model": {"type": "Unigram"}}', ConfigError, "no byte-pair model"),
        ("tokenizer.json", '{"model": {"type": "BPE", "vocab": {}}}', ConfigError, "damaged"),
        ("added_tokens.json", '{"<x>": "y"}', ConfigError, "damaged"),
        ("added_tokens.json", '{"<x>": 7}', ConfigError, "should be number 7"),
        ("special_tokens_map.json", '{"bos_token": 5}', ConfigError, "a text is expected"),
    ],
)
def test_a_damaged_folder_is_refused_by_name(
    tmp_path: Path, name: str, content: str | None, error: type[Exception], message: str
) -> None:
    folder = folder_with(tmp_path)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(error, match=message):
        ClipTokenizer.from_folder(folder)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", (49406, 49407)),
        ("hello world", (49406, 3306, 1002, 49407)),
        ("a photo of a cat", (49406, 320, 1125, 539, 320, 2368, 49407)),
    ],
)
def test_the_vocabulary_that_came_with_the_program_is_clips(text: str, numbers: tuple[int, ...]) -> None:
    # The numbers are those that CLIP's authors and users have printed since 2021.
    tokenizer = ClipTokenizer.from_folder(Path(safelight.__file__).parent / "assets/clip")
    assert tokenizer.encode(text).ids[: len(numbers)] == numbers
    assert tokenizer.highest == 49407


def test_a_folder_of_merges_alone_is_numbered_as_with_its_vocabulary(tmp_path: Path) -> None:
    vocab, merges = vocabulary(WORDS.split())
    assert laid_out(merges) == vocab
