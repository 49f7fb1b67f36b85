"""What a score is worth: true renders above it, and below it pictures that know nothing of the prompt.

A floor is measured against whole descriptions, everything that shows, so that many attributes are counted often and a
figure that is wholly right by luck is next to impossible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image

from safelight.evaluate.figurines.pictures import Tell, compare, read_all
from safelight.evaluate.figurines.prompts import SPLIT, Prompt
from safelight.figurines.person import random_people, visible
from safelight.figurines.render import portrait
from safelight.figurines.scores import Scores
from safelight.figurines.splits import SEEDS
from safelight.generate import image as task
from safelight.generate.picture import to_picture, to_tensor
from safelight.generate.pipe import Pipe

SHIFTS = range(1, 11)
"""Every reading is held against the descriptions of ten other people: reading costs more than comparing."""
NOISES, STRANGERS, AVERAGED, OTHERS = 100, 1000, 500, 200


def ceilings(pipe: Pipe, prompts: Sequence[Prompt], workers: int, tell: Tell) -> dict[str, Scores]:
    """What a perfect model would score: true renders of the prompts' people, also through the model's autoencoder."""
    stated = [prompt.stated for prompt in prompts]
    true = [portrait(prompt.person) for prompt in prompts]
    through = [autoencoded(pipe, picture) for picture in true]
    return {
        "true renders": compare(read_all(true, workers, tell), stated),
        "true renders through the autoencoder": compare(read_all(through, workers, tell), stated),
    }


def floors(prompts: Sequence[Prompt], seen: Sequence[Mapping[str, str]], workers: int, tell: Tell) -> dict[str, Scores]:
    """Pictures that know nothing of the description that they are held against.

    Args:
        prompts: those of the trial. seen: what was read in the model's pictures of them.
    """
    rng = np.random.default_rng(SEEDS[SPLIT] + 1000)
    people = random_people(rng, STRANGERS, SPLIT)
    everybody = [visible(person) for person in people]
    noise = list(rng.integers(0, 256, (NOISES, 128, 128, 3), dtype=np.uint8))
    renders = [portrait(person) for person in people[:AVERAGED]]
    mean = np.mean(renders, axis=0).round().astype(np.uint8)
    gray = read_all([mean], 1, tell)
    return {
        "noise": crossed(read_all(noise, workers, tell), everybody),
        "the mean picture": compare(gray * len(everybody), everybody),
        "another person": crossed(read_all(renders[:OTHERS], workers, tell), everybody[:OTHERS]),
        "shuffled prompts": crossed(seen, [visible(prompt.person) for prompt in prompts]),
    }


def crossed(found: Sequence[Mapping[str, str]], described: Sequence[Mapping[str, str]]) -> Scores:
    """Reading i against descriptions i + 1 to i + 10, around the corner."""
    count = len(described)
    shifts = [shift for shift in SHIFTS if shift % count]
    return compare(
        [one for one in found for _ in shifts],
        [described[(i + shift) % count] for i in range(len(found)) for shift in shifts],
    )


@torch.no_grad()
def autoencoded(pipe: Pipe, picture: np.ndarray) -> np.ndarray:
    """A picture through the model's autoencoder and back."""
    height, width, _ = picture.shape
    colours = to_tensor(Image.fromarray(picture), (width, height))
    return np.asarray(to_picture(task.decode(pipe.model, task.encode(pipe.model, colours))))
