"""Words that a model learned from pictures: vectors from a file, laid over a model under a word of its prompts.

The word stands in prompts and negative prompts, may have a weight, and takes as many tokens as it has vectors. Nothing
of the model changes: its tokenizer and its table of tokens are looked past, where the word stands.
Source: Gal et al. 2208.01618 (textual inversion); the files that A1111's web UI and diffusers write.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from safelight.encoders.clip import ClipText
from safelight.encoders.learned import Learned
from safelight.errors import RequestError, WeightsError
from safelight.families.family import Model
from safelight.weights.hash import sha256
from safelight.weights.load import read

A1111 = "string_to_param."
PLACES = "string_to_token."
"""Which token stood for the word while it was learned; says nothing afterwards."""
ENCODERS = ("clip_l", "clip_g")
"""The text encoders of Stable Diffusion XL, in their order, as files call them."""
WIDTHS = {(768,): "Stable Diffusion 1", (1024,): "Stable Diffusion 2", (768, 1280): "Stable Diffusion XL"}
LONGEST = 100
"""Letters of a word."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """A loaded file; a ``Wearable``.

    Attributes:
        path: the file. word: what it is called in prompts. vectors: [n, C] for each text encoder, in their order.
    """

    path: Path
    word: str
    vectors: tuple[Tensor, ...]

    @property
    def widths(self) -> tuple[int, ...]:
        """C of each encoder."""
        return tuple(each.shape[1] for each in self.vectors)

    @property
    def taught(self) -> tuple[str, ...]:
        """The word."""
        return (self.word,)

    @cached_property
    def sha256(self) -> str:
        """Of the file's bytes."""
        return sha256(self.path)

    def called(self, word: str) -> Embedding:
        """The same under another word.

        Raises:
            RequestError: it cannot be a word.
        """
        return replace(self, word=checked(word))

    def put_on(self, model: Model, scale: float = 1.0) -> WornWord:
        """Lay the word over a model.

        Args:
            scale: 1, or 0 for a word that is read as if it had not been learned.

        Raises:
            WeightsError: it is for another model, or has more vectors than a row has room for.
            RequestError: the word means something already, prompts of this model are not read through CLIP's tokens, or
                another scale.
        """
        if scale not in (0.0, 1.0):
            raise RequestError(
                f"a learned word has no strength such as {scale:g}; weigh it in the prompt: ({self.word}:{scale:g})"
            )
        if not model.tokenizers:
            raise RequestError(f"no words can be learned for this model ({model.family}); leave {self.path.name} out")
        widths = tuple(each.config.hidden_size for each in model.encoders if isinstance(each, ClipText))
        if self.widths != widths:
            raise WeightsError(f"{self.path}: is for {_named(self.widths)}; this model is {_named(widths)}")
        room = min(each.room for each in model.tokenizers)
        if len(self.vectors[0]) > room:
            raise WeightsError(f"{self.path}: has {len(self.vectors[0])} vectors; a prompt has room for {room} at once")
        known = any(len(each.pieces(self.word)) == 1 for each in model.tokenizers)
        if known or any(each.word.lower() == self.word.lower() for each in model.learned):
            who = "the model's vocabulary" if known else "another file"
            raise RequestError(f"{self.path}: {who} has the word {self.word!r} already; give this one another name")
        return WornWord(self, scale)


@dataclass(frozen=True, eq=False)
class WornWord:
    """A word that lies over a model; a ``Worn``."""

    embedding: Embedding
    scale: float

    def over(self, model: Model) -> Model:
        """The model that knows the word too."""
        if not self.scale:
            return model
        word = Learned(self.embedding.word, self.embedding.vectors)
        return replace(model, learned=(*model.learned, word))

    def told(self) -> Mapping[str, Any]:
        """What a recipe says of it."""
        files = {self.embedding.path.name: self.embedding.sha256}
        return {"kind": "embedding", "name": self.embedding.word, "files": files, "scale": self.scale}

    def take_off(self) -> None:
        """Nothing was changed."""


def load_embedding(path: Path, word: str = "", *, pickles: bool = False) -> Embedding:
    """Read a file of A1111 (``string_to_param`` or ``emb_params``), of diffusers (its word), or for XL's two encoders.

    Args:
        word: what it is called in prompts. Empty for the name that diffusers' files hold, and for the others, as in
            A1111, for the file's own name without its ending.
        pickles: whether a file of torch.save (``.pt``, ``.bin``) may be read; it is never run.

    Raises:
        WeightsError: the file is unreadable, or holds anything else; says what. RequestError: the word cannot be one.
    """
    tensors = read(path, rename=lambda name: None if name.startswith(PLACES) else name, pickles=pickles)
    names = list(tensors)
    if set(names) == set(ENCODERS):
        found, own = [tensors[name] for name in ENCODERS], path.stem
    elif len(names) == 1:
        plain = names[0] == "emb_params" or names[0].startswith(A1111)
        found, own = [tensors[names[0]]], path.stem if plain else names[0]
    else:
        listed = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
        raise WeightsError(
            f"{path}: holds {len(names)} tensors ({listed}); a learned word has one, or {' and '.join(ENCODERS)}"
        )
    vectors = tuple(each[None] if each.ndim == 1 else each for each in found)
    for name, each in zip(names, vectors):
        if each.ndim != 2 or not each.numel() or not each.is_floating_point():
            raise WeightsError(f"{path}: {name} is of shape {list(each.shape)}; vectors of a word are expected")
        if not each.isfinite().all():
            raise WeightsError(f"{path}: {name} holds what is no number; the file is damaged, download it again")
    if len({len(each) for each in vectors}) > 1:
        counts = " and ".join(str(len(each)) for each in vectors)
        raise WeightsError(f"{path}: holds {counts} vectors for the two encoders; a word has as many for each")
    return Embedding(path, checked(word or own), vectors)


def checked(word: str) -> str:
    """A word that a prompt can hold.

    Raises:
        RequestError: it is empty, too long, or begins or ends with white space.
    """
    if not word or len(word) > LONGEST or word != word.strip() or re.search(r"[\x00-\x1f]", word):
        raise RequestError(f"{word[:40]!r} cannot be a word of a prompt; give one of up to {LONGEST} letters")
    return word


def _named(widths: tuple[int, ...]) -> str:
    sizes = " and ".join(map(str, widths))
    return f"{WIDTHS[widths]} (width {sizes})" if widths in WIDTHS else f"a model whose text is of width {sizes}"
