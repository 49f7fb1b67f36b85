"""The steps of a picture as files: a PNG for each in a folder, or one GIF for each picture."""

from __future__ import annotations

import glob
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safelight.cli.output import free, numbered, png, put, reachable
from safelight.errors import RequestError
from safelight.weights.folder import typed

if TYPE_CHECKING:
    from PIL.Image import Image

    from safelight.generate.pipe import Shown

STEP_MS, LAST_MS = 120, 1500
DIGITS = 4
"""Of the numbers of steps where nobody knows before how many there will be."""


class Frames:
    """Keeps what the network believes each picture, or each view, to be after every evaluation.

    Args:
        place: ``FILE.gif``, numbered where there are several pictures, or a folder, made if missing.
        stems: a name for each picture, for the files in a folder: ``NAME-step-01.png``.
        totals: evaluations of each picture; None where nobody knows before.
        force: replace files; None for commands that never do.

    Raises:
        RequestError: a file that is no GIF. ExistsError, FileError: files are there, or cannot be.
    """

    def __init__(self, place: str, stems: Sequence[str], totals: Sequence[int | None], force: bool | None) -> None:
        from safelight.weights.save import make_folder

        path, self.force = typed(place), bool(force)
        instead = {} if force is not None else {"instead": "name another with --every-step"}
        self.strips: dict[int, list[Image]] = {}
        self.gifs: list[Path] = []
        self.steps: list[tuple[Path, int]] = []
        if path.suffix.lower() == ".gif" and not path.is_dir():
            self.gifs = numbered(path, len(totals))
            reachable(path.parent)
            free(self.gifs, self.force, **instead)
            return
        if path.suffix and not path.is_dir() and not place.endswith("/"):
            raise RequestError(f"{place}: --every-step takes a folder or a file that ends in .gif")
        make_folder(path)
        reachable(path)
        taken: list[Path] = []
        for stem, total in zip(stems, totals):
            self.steps.append((path / stem, DIGITS if total is None else len(str(total))))
            if total is None:
                taken += sorted(path.glob(f"{glob.escape(stem)}-step-*.png"))
            else:
                taken += [self._step(len(self.steps) - 1, index) for index in range(1, total + 1)]
        free(taken, self.force, **instead)

    def _step(self, picture: int, index: int) -> Path:
        stem, digits = self.steps[picture]
        return stem.with_name(f"{stem.name}-step-{index:0{digits}}.png")

    def add(self, shown: Shown) -> None:
        """Keep one evaluation, decoded in full, or by a tiny autoencoder."""
        glance = shown.preview() if shown.pipe.tiny else None
        picture = shown.drawn.image if shown.drawn else glance or shown.decode()
        self.keep(shown.picture, shown.index, picture, last=shown.drawn is not None)

    def keep(self, place: int, index: int, picture: Image, *, last: bool) -> None:
        """Keep evaluation ``index``, from 1, of the picture at a place in the order; its last one writes its GIF."""
        if self.steps:
            put(self._step(place, index), png(picture), self.force)
            return
        strip = self.strips.setdefault(place, [])
        strip.append(picture)
        if last:
            put(self.gifs[place], gif(self.strips.pop(place)), self.force)


def gif(pictures: Sequence[Image]) -> bytes:
    """Pictures as an endless film of 256 colours each; the last one stays for a while."""
    data = io.BytesIO()
    times = [STEP_MS] * (len(pictures) - 1) + [LAST_MS]
    pictures[0].save(data, "GIF", save_all=True, append_images=pictures[1:], duration=times, loop=0)
    return data.getvalue()
