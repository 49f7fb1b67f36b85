"""CLIP's byte-pair tokenizer: a text to 77 numbers, and what did not fit said aloud.

The text is normalised (NFC, runs of white space to one space, lower case), cut into words, contractions, single digits
and runs of other signs, and each piece into byte pairs, its last one marked ``</w>``. Source: Radford et al. 2021,
"Learning Transferable Visual Models From Natural Language Supervision", section 2.4; Sennrich et al. 2016, "Neural
Machine Translation of Rare Words with Subword Units", algorithm 1.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

from safelight.errors import ConfigError
from safelight.weights.folder import read_json, read_text

LENGTH = 77
START, END = "<|startoftext|>", "<|endoftext|>"
PIECES = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")


class TokenIds(NamedTuple):
    """A text as an encoder reads it.

    Attributes:
        ids: exactly ``length`` numbers: start, text, end, padding.
        used: how many of them are not padding, start and end included.
        cut: the end of the text that did not fit, as it was written; empty when all of it did.
    """

    ids: tuple[int, ...]
    used: int
    cut: str


class ClipTokenizer:
    """Texts to rows of token numbers, as the text encoder of the same folder was trained to read them.

    Args:
        vocab: piece -> number. merges: pairs of pieces in the order in which they are joined.
        roles: the tokens for start (``bos_token``), end (``eos_token``), ``unk_token`` and ``pad_token``; those that
            are missing are CLIP's own. Stable Diffusion 2 pads with ``!``.
        added: further tokens, found in the text before it is cut into pieces.
        length: numbers in a row.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Iterable[tuple[str, str]],
        *,
        roles: Mapping[str, str | AddedToken] | None = None,
        added: Iterable[AddedToken] = (),
        length: int = LENGTH,
    ) -> None:
        tokens = {"bos_token": START, **dict.fromkeys(ROLES[1:], END), **(roles or {})}
        try:
            model = BPE(
                dict(vocab),
                list(merges),
                continuing_subword_prefix="",
                end_of_word_suffix="</w>",
                unk_token=str(_content(tokens["unk_token"])),
            )
        except Exception as error:  # the tokenizers package raises bare exceptions
            raise ConfigError(f"the vocabulary and merges of the tokenizer do not fit together ({error})") from error
        self._pieces = Tokenizer(model)
        self._pieces.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        )
        self._pieces.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(PIECES), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        known = list(added)
        names = {token.content for token in known}
        known += [_token(value) for value in tokens.values() if _content(value) not in names]
        self._pieces.add_tokens(known)
        self.length = length
        self._learned: re.Pattern[str] | None = None
        self._words: dict[str, tuple[int, int]] = {}
        self.start, self.end, _, self.pad = (self._number(_content(tokens[role])) for role in ROLES)

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str], *, pad: str = "") -> ClipTokenizer:
        """Read a released tokenizer folder: ``tokenizer.json``, or ``merges.txt`` with or without ``vocab.json``.

        Start, end and padding come from ``tokenizer_config.json`` and ``special_tokens_map.json`` where they are.

        Args:
            pad: the token to fill up with, whatever the folder says: encoders with the same vocabulary differ in it.

        Raises:
            WeightsError: a file is missing or unreadable. ConfigError: one says what cannot be.
        """
        folder = Path(folder)
        config = _optional(folder / "tokenizer_config.json")
        whole = _optional(folder / "tokenizer.json")
        vocab, merges = _pieces_of(whole) if whole else _pieces_in(folder)
        added = _added(config, whole, _optional(folder / "added_tokens.json"))
        roles = {**config}
        if "added_tokens_decoder" not in config:
            roles.update(_optional(folder / "special_tokens_map.json"))
        taken = {role: _role(roles[role]) for role in ROLES if roles.get(role) is not None}
        if pad:
            taken["pad_token"] = pad
        length = config.get("model_max_length", LENGTH)
        usable = isinstance(length, int) and 2 < length <= 4096  # files without a limit say 10^30
        tokenizer = cls(vocab, merges, roles=taken, added=added.values(), length=length if usable else LENGTH)
        for number, token in added.items():
            if tokenizer._number(token.content) != number:
                raise ConfigError(f"{folder}: the added token {token.content!r} should be number {number}")
        return tokenizer

    def encode(self, text: str) -> TokenIds:
        """A text of any length, the empty one included; see `TokenIds`."""
        found = self.pieces(text)
        kept = [number for number, _, _ in found[: self.room]]
        cut = text[found[self.room][1] :] if len(found) > self.room else ""
        return TokenIds(self.row(kept), len(kept) + 2, cut)

    def pieces(self, text: str) -> list[tuple[int, int, int]]:
        """Every token of a text of any length: its number, and where its letters begin and end in the text."""
        found: list[tuple[int, int, int]] = []
        last = 0
        for hit in self._learned.finditer(text) if self._learned else ():
            found += self._plain(text[last : hit.start()], last)
            first, count = self._words[hit[0].lower()]
            found += [(number, hit.start(), hit.end()) for number in range(first, first + count)]
            last = hit.end()
        return found + self._plain(text[last:], last)

    def taught(self, words: Mapping[str, int], first: int) -> ClipTokenizer:
        """The same tokenizer, which also knows words that were learned; this one does not change.

        Args:
            words: word -> how many numbers it is read as, whatever its case; the longest word that fits is meant.
            first: the numbers count from here, in the order of the words.
        """
        other = copy.copy(self)
        other._words = {}
        for word, count in words.items():
            other._words[word.lower()] = (first, count)
            first += count
        longest = sorted(other._words, key=len, reverse=True)
        other._learned = re.compile("|".join(map(_alone, longest)), re.IGNORECASE)
        return other

    def together(self, number: int) -> int:
        """How many numbers in a row begin with this one and belong to one learned word; 1 for all others."""
        return next((count for first, count in self._words.values() if first == number), 1)

    def _plain(self, text: str, shift: int) -> list[tuple[int, int, int]]:
        found = self._pieces.encode(text, add_special_tokens=False)
        return [(number, begin + shift, end + shift) for number, (begin, end) in zip(found.ids, found.offsets)]

    def row(self, ids: Sequence[int]) -> tuple[int, ...]:
        """At most ``room`` numbers between start and end, filled up with padding to ``length``."""
        return (self.start, *ids, self.end, *[self.pad] * (self.room - len(ids)))

    @property
    def room(self) -> int:
        """Tokens of a text that fit into one row."""
        return self.length - 2

    @property
    def comma(self) -> int:
        """The number of a comma; -1 where the vocabulary has none."""
        number = self._pieces.token_to_id(",</w>")
        return -1 if number is None else number

    @property
    def highest(self) -> int:
        """The highest number that a row can hold."""
        return max(self._pieces.get_vocab(with_added_tokens=True).values())

    def _number(self, token: str) -> int:
        number = self._pieces.token_to_id(token)
        if number is None:
            raise ConfigError(f"the tokenizer's vocabulary lacks {token!r}")
        return number


def _alone(word: str) -> str:
    """A pattern for a word that is not a piece of a longer one."""
    before, after = (r"\b" if re.match(r"\w", sign) else "" for sign in (word[0], word[-1]))
    return before + re.escape(word) + after


def _content(value: str | AddedToken) -> str:
    return value if isinstance(value, str) else value.content


def _token(value: str | AddedToken) -> AddedToken:
    if isinstance(value, str):
        return AddedToken(value, special=True)
    value.special = True
    return value


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _pieces_of(whole: Mapping[str, Any]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a ``tokenizer.json``; the merges are pairs, or texts in older files."""
    model = whole.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        raise ConfigError("tokenizer.json: holds no byte-pair model")
    try:
        pairs = [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in model["merges"]]
        return dict(model["vocab"]), [(first, second) for first, second in pairs]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"tokenizer.json: its vocabulary or merges are damaged ({error})") from error


def _pieces_in(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of ``vocab.json`` and ``merges.txt``, or of the merges alone."""
    lines = read_text(folder / "merges.txt").split("\n")
    pairs = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    if any(len(pair) != 2 for pair in pairs):
        raise ConfigError(f"{folder / 'merges.txt'}: every line must hold two pieces")
    merges = [(first, second) for first, second in pairs]
    alone = not any(folder.glob("*.json"))  # a released folder that lacks its vocab.json is a damaged one
    return laid_out(merges) if alone else read_json(folder / "vocab.json"), merges


def laid_out(merges: Iterable[tuple[str, str]]) -> dict[str, int]:
    """The numbers that CLIP gives: 256 bytes, 256 bytes that end a word, what the merges make, start and end."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = (first + second for first, second in merges)
    pieces = [*letters, *(letter + "</w>" for letter in letters), *made, START, END]
    return {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}


def _added(config: Mapping[str, Any], whole: Mapping[str, Any], names: Mapping[str, Any]) -> dict[int, AddedToken]:
    """Tokens beyond the vocabulary by number, from the newest kind of file that lists them."""
    try:
        if "added_tokens_decoder" in config:
            found = {int(number): AddedToken(**row) for number, row in config["added_tokens_decoder"].items()}
        else:
            found = {int(number): AddedToken(name, normalized=True) for name, number in names.items()}
            for row in whole.get("added_tokens", ()):
                found[row["id"]] = AddedToken(**{key: value for key, value in row.items() if key != "id"})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"the tokenizer's added tokens are damaged ({error})") from error
    return dict(sorted(found.items()))


def _role(value: Any) -> str | AddedToken:
    """A token is a text, or a table of a text and how it is matched."""
    if isinstance(value, dict) and isinstance(value.get("content"), str):
        flags = {key: bool(value[key]) for key in ("single_word", "lstrip", "rstrip", "normalized") if key in value}
        return AddedToken(value["content"], special=True, **flags)
    if isinstance(value, str):
        return value
    raise ConfigError(f"a special token of the tokenizer is {value!r}; a text is expected")
