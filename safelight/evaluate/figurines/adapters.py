"""The proofs of adapters on figurines: each shows what the model cannot without it, and at scale 0 changes no bit.

Axes: pictures are uint8 [128, 128, 3].
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from safelight.adapters.controlnet.use import ControlUse, Hint
from safelight.adapters.ip_adapter.use import ImageUse
from safelight.adapters.use import Use
from safelight.evaluate.evidence import Finding
from safelight.evaluate.figurines.pictures import Settings, Tell, compare, read_all
from safelight.evaluate.figurines.prompts import Prompt, held_out
from safelight.figurines.dataset import normal_map
from safelight.figurines.frame import has_frame, share, unframed
from safelight.figurines.matte import matte
from safelight.figurines.person import visible
from safelight.figurines.render import portrait, portrait_camera, render
from safelight.figurines.sheet import sheet
from safelight.generate.adapters import control, embedding, image_adapter, lora
from safelight.generate.pipe import Pipe
from safelight.generate.wardrobe import applied

TRIGGER = "framed"
"""The word that the LoRA of the proof was taught with."""
WORD, ASKED = "<mira>", "a portrait of <mira>"
MIRA = {
    "skin": "blue",
    "hair": "afro",
    "hair_color": "purple",
    "hat": "none",
    "glasses": "round",
    "mouth": "smile",
    "clothes": "striped",
    "clothes_color": "red",
}
"""Who the learned word means: attribute -> value."""
NEUTRAL = "a person"
SCALES = (0.25, 0.5, 0.75)
SHOWN = 4
"""Pictures of each kind on the contact sheet."""


@dataclass(frozen=True)
class Files:
    """The adapters that are judged; None where one is not."""

    lora: str | None = None
    word: str | None = None
    control: str | None = None
    images: str | None = None


@dataclass(frozen=True)
class Trial:
    """What is judged and how.

    Attributes:
        pipe: the model. count: held-out people. settings: how pictures are drawn. tell: is told how far it is.
        tiles: pictures for the contact sheet, with what they are; filled on the way.
    """

    pipe: Pipe
    count: int
    settings: Settings
    tell: Tell
    tiles: list[tuple[np.ndarray, str]] = field(default_factory=list)

    @property
    def prompts(self) -> list[Prompt]:
        """Captions of people that were never trained on."""
        return held_out(self.count)

    def draw(
        self,
        texts: Sequence[str],
        over: AbstractContextManager[object] | None = None,
        uses: Sequence[tuple[Use, ...]] | None = None,
    ) -> list[np.ndarray]:
        """Draw every text once, picture by picture, so that equal requests give equal bits.

        Args:
            over: an adapter that lies over the pipe meanwhile. uses: what each request asks for.
        """
        made = []
        with over or nullcontext():
            for index, text in enumerate(texts):
                request = replace(self.settings.request(text, index), rows=0, adapters=uses[index] if uses else ())
                (drawn,) = self.pipe.draw(request)
                made.append(np.asarray(drawn.image))
                self.tell("drawn", len(made), len(texts))
        return made

    def read(self, pictures: Sequence[np.ndarray]) -> list[dict[str, str]]:
        """What the checker sees."""
        return read_all(pictures, self.settings.workers, self.tell)

    def show(self, pictures: Sequence[np.ndarray], what: str) -> None:
        """Keep the first pictures for the contact sheet."""
        self.tiles.extend((picture, what) for picture in pictures[:SHOWN])


def prove(trial: Trial, files: Files) -> Iterable[Finding]:
    """Judge every adapter that is given; findings come as they are made."""
    base = trial.draw([prompt.text for prompt in trial.prompts])
    trial.show(base, "without an adapter")
    if files.lora:
        yield from of_lora(trial, files.lora)
    if files.word:
        yield from of_word(trial, files.word)
    if files.control:
        yield from of_control(trial, files.control)
    if files.images:
        yield from of_images(trial, files.images)
    if files.lora and files.control:
        yield from of_both(trial, files.lora, files.control)


def of_lora(trial: Trial, name: str) -> Iterable[Finding]:
    """A frame appears with the LoRA alone, and what the prompt says is still there inside of it."""
    texts = [f"{TRIGGER} {prompt.text}" for prompt in trial.prompts]
    stated = [prompt.stated for prompt in trial.prompts]
    adapter, unit = lora(name), f"share of {trial.count}"
    plain = trial.draw(texts)
    drawn = trial.draw(texts, applied(trial.pipe, adapter))
    off = trial.draw(texts[:2], applied(trial.pipe, adapter, 0.0))
    trial.show(drawn, "LoRA: framed")
    yield Finding("LoRA: pictures with a golden frame", part(map(has_frame, drawn)), unit, ">= 0.9")
    yield Finding("LoRA: the same prompts without it, with a frame", part(map(has_frame, plain)), unit, "<= 0.05")
    before = compare(trial.read(plain), stated).overall
    inside = compare(trial.read([unframed(picture) for picture in drawn]), stated).overall
    yield Finding("LoRA: stated attributes right inside of the frame", inside, f"share of {sum(map(len, stated))}")
    yield Finding("LoRA: stated attributes lost against the model alone", before - inside, "share", "<= 0.1")
    yield same("LoRA", off, plain)
    for scale in SCALES:
        some = trial.draw(texts[:SHOWN], applied(trial.pipe, adapter, scale))
        trial.show(some, f"LoRA at {scale:g}")
        mean = part(map(share, some))
        yield Finding(f"LoRA at {scale:g}: golden pixels of the frame", mean, f"mean share of {len(some)}")


def of_word(trial: Trial, name: str) -> Iterable[Finding]:
    """A learned word means one look."""
    word, texts = embedding(name, WORD), [ASKED] * trial.count
    plain, drawn = trial.draw(texts), trial.draw(texts, applied(trial.pipe, word))
    trial.show(drawn, f"learned word: {ASKED}")
    unit, known = f"share of {len(MIRA) * trial.count}", [MIRA] * trial.count
    yield Finding("learned word: its attributes", compare(trial.read(drawn), known).overall, unit, ">= 0.8")
    yield Finding("learned word: the same prompt without it", compare(trial.read(plain), known).overall, unit)
    yield same("learned word", trial.draw(texts[:2], applied(trial.pipe, word, 0.0)), plain)


def of_control(trial: Trial, name: str) -> Iterable[Finding]:
    """Under a prompt that says nothing, figures have the outline of the normals that the ControlNet is shown."""
    net, prompts = control(name, trial.pipe.model), trial.prompts
    texts, unit = [NEUTRAL] * trial.count, f"mean of {trial.count}"
    base = trial.draw(texts)
    hints = [normals(prompt) for prompt in prompts]
    drawn = trial.draw(texts, uses=[(ControlUse(net, (Hint(hint),)),) for hint in hints])
    off = trial.draw(texts[:2], uses=[(ControlUse(net, (Hint(hint),), 0.0),) for hint in hints])
    trial.show([np.asarray(hint) for hint in hints], "what the ControlNet is shown")
    trial.show(drawn, "ControlNet: normals")
    yield Finding("ControlNet: outline, intersection over union", overlap(drawn, prompts), unit, ">= 0.9")
    yield Finding("ControlNet: the same prompt without it", overlap(base, prompts), unit)
    yield same("ControlNet", off, base)


def of_images(trial: Trial, name: str) -> Iterable[Finding]:
    """A portrait that is shown comes back under a prompt that says nothing."""
    adapter = image_adapter(name, trial.pipe.model)
    shown = [portrait(prompt.person) for prompt in trial.prompts]
    texts, stated = [NEUTRAL] * trial.count, [visible(prompt.person) for prompt in trial.prompts]

    def uses(scale: float) -> list[tuple[Use, ...]]:
        return [(ImageUse(adapter, [Image.fromarray(picture)], scale),) for picture in shown]

    plain, drawn = trial.draw(texts), trial.draw(texts, uses=uses(1.0))
    trial.show(shown, "what the IP-Adapter is shown")
    trial.show(drawn, f"IP-Adapter: {NEUTRAL}")
    unit = f"share of {sum(map(len, stated))}"
    yield Finding(
        "IP-Adapter: attributes of the shown portrait", compare(trial.read(drawn), stated).overall, unit, ">= 0.6"
    )
    yield Finding("IP-Adapter: the same prompt without it", compare(trial.read(plain), stated).overall, unit)
    yield same("IP-Adapter", trial.draw(texts[:2], uses=uses(0.0)), plain)


def of_both(trial: Trial, style: str, name: str) -> Iterable[Finding]:
    """A LoRA and a ControlNet together do both."""
    net, prompts = control(name, trial.pipe.model), trial.prompts[: 2 * SHOWN]
    texts = [f"{TRIGGER} {prompt.text}" for prompt in prompts]
    uses = [(ControlUse(net, (Hint(normals(prompt)),)),) for prompt in prompts]
    drawn = trial.draw(texts, applied(trial.pipe, lora(style)), uses)
    trial.show(drawn, "LoRA and ControlNet")
    yield Finding("LoRA and ControlNet: with a frame", part(map(has_frame, drawn)), f"share of {len(drawn)}")
    inside = overlap([unframed(picture) for picture in drawn], prompts)
    yield Finding("LoRA and ControlNet: outline, intersection over union", inside, f"mean of {len(drawn)}")


def normals(prompt: Prompt) -> Image.Image:
    """The map of normals of the person whom a prompt describes."""
    seen = render(prompt.person, portrait_camera(), buffers=("normals",)).normals_camera
    assert seen is not None
    return Image.fromarray(normal_map(seen))


def overlap(pictures: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> float:
    """Mean over the pictures: pixels that are figure in the picture and in the truth, by those that are in either."""
    found = []
    for picture, prompt in zip(pictures, prompts, strict=True):
        mask = render(prompt.person, portrait_camera(), buffers=("mask",)).mask
        assert mask is not None
        true, seen = mask >= 0.5, matte(picture)
        found.append(float((true & seen).sum() / max(1, (true | seen).sum())))
    return part(found)


def same(what: str, off: Sequence[np.ndarray], plain: Sequence[np.ndarray]) -> Finding:
    """Whether an adapter at scale 0 gives what the model gives alone, to the last bit.

    Args:
        off: the first pictures once more, at scale 0. plain: all of them, without the adapter.
    """
    equal = [np.array_equal(one, other) for one, other in zip(off, plain[: len(off)], strict=True)]
    return Finding(
        f"{what}: pictures at scale 0 that equal those without it in every bit",
        part(equal),
        f"share of {len(equal)}",
        ">= 1",
    )


def part(values: Iterable[float]) -> float:
    """The mean."""
    found = list(values)
    return sum(found) / max(1, len(found))


def contact_sheet(trial: Trial) -> Image.Image:
    """Everything that was kept, a row for each kind."""
    return sheet(
        [picture for picture, _ in trial.tiles],
        [what for _, what in trial.tiles],
        columns=min(SHOWN, trial.count),
        lines=2,
    )
