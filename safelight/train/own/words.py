"""Teach a new word: vectors of the text encoders that stand for it in prompts, everything else as it is.

Axes: [n, C] vectors for each text encoder. Source: Gal et al. 2022 (2208.01618, section 3). The file holds one tensor
under the word, which diffusers, A1111 and ComfyUI read; for XL's two encoders ``clip_l`` and ``clip_g``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

import torch
from torch import Tensor, nn

from safelight.adapters.textual_inversion import ENCODERS, load_embedding
from safelight.adapters.use import Use
from safelight.encoders.clip import ClipText
from safelight.encoders.learned import Learned
from safelight.errors import RequestError
from safelight.families.family import Model, Prompt
from safelight.generate.pipe import Pipe
from safelight.generate.wardrobe import applied
from safelight.train.own.lesson import Lesson
from safelight.train.own.pictures import Entry
from safelight.train.own.plan import WordsPlan
from safelight.weights.save import save


class Naming:
    """The task: prompts with the word should say what is under the noise of its pictures."""

    suffix = ".safetensors"

    def __init__(self, plan: WordsPlan, lesson: Lesson) -> None:
        self.plan, self.lesson, self.model = plan, lesson, lesson.model
        vectors = tuple(nn.Parameter(start) for start in starts(self.model, plan))
        self.module = nn.ParameterDict(dict(zip(ENCODERS, vectors)))
        self.learned = Learned(plan.word, vectors)
        lesson.encode = self.encode

    def loss(self, step: int, part: slice) -> Tensor:
        """The weighted error of the prediction."""
        batch = self.lesson.draw(step, part)
        return self.lesson.error(self.model.predict(batch.x, batch.t, batch.told), batch)

    def encode(self, prompt: Prompt) -> object:
        """A prompt that may hold the word."""
        return self.model.encode(prompt._replace(learned=(*self.model.learned, self.learned))).cond

    def export(self, tensors: Mapping[str, Tensor], path: Path, told: Mapping[str, str]) -> None:
        """Write the word's file; FileError where it cannot be written."""
        alone = {self.plan.word: tensors[ENCODERS[0]]} if len(tensors) == 1 else dict(tensors)
        save(alone, path, told)

    @contextmanager
    def used(self, pipe: Pipe, path: Path, count: int) -> Iterator[Sequence[tuple[Use, ...]]]:
        """The pipe knows the word of the exported file meanwhile; requests ask for nothing."""
        with applied(pipe, load_embedding(path, self.plan.word)):
            yield [()] * count


def check(plan: WordsPlan, model: Model, entries: Sequence[Entry]) -> None:
    """Refuse early.

    Raises:
        RequestError: the model reads no such words, knows the word already, or a caption lacks it.
    """
    if not model.tokenizers:
        raise RequestError(f"no words can be learned for this model ({model.family}); train a LoRA")
    if any(len(tokenizer.pieces(plan.word)) == 1 for tokenizer in model.tokenizers):
        raise RequestError(f"the model knows {plan.word!r} already; take another, such as <{plan.word.strip('<>')}-1>")
    for entry in entries:
        if plan.word.lower() not in entry.caption.lower():
            raise RequestError(
                f"{entry.path}: its caption does not hold the word {plan.word}; write it there, or give "
                f"--set data.trigger={plan.word}"
            )


def starts(model: Model, plan: WordsPlan) -> Iterator[Tensor]:
    """What the vectors begin as for each encoder: the tokens of the plan's words, over and over again."""
    for encoder, tokenizer in zip(model.encoders, model.tokenizers, strict=True):
        assert isinstance(encoder, ClipText)
        known = [number for number, _, _ in tokenizer.pieces(plan.start)]
        table = encoder.text_model.embeddings.token_embedding.weight
        yield table[torch.tensor(list(islice(cycle(known), plan.vectors)))].detach().clone()
