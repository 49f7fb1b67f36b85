"""What a run leaves behind while it goes: one line of JSON per report, and a picture of the loss."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from safelight.errors import FileError
from safelight.train.loop import Report
from safelight.weights.save import make_folder
from safelight.weights.save import write as write_file


class Journal:
    """An append-only log of a run; lines of steps that a resumption will repeat are dropped when it opens.

    Args:
        path: the ``log.jsonl``; made if missing, with its folder.
        step: the step that the run stands at.

    Raises:
        FileError: it cannot be written.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        make_folder(path.parent)
        kept = [line for line in read(path) if line["step"] <= step]
        write_file(path, ["".join(json.dumps(line) + "\n" for line in kept).encode()])

    def write(self, report: Report) -> None:
        """Add one line.

        Raises:
            FileError: the disk is full, or the file cannot be written.
        """
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(report._asdict()) + "\n")
        except OSError as error:
            raise FileError(f"{self.path}: cannot be written ({error.strerror or error}); make room") from error


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, oldest first; empty where there is none. What follows a half-written line is left out."""
    lines: list[dict[str, Any]] = []
    for text in path.read_text("utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break
        if not isinstance(line, dict) or "step" not in line:
            break
        lines.append(line)
    return lines


def curve(log: Path, picture: Path, size: tuple[int, int] = (640, 320)) -> None:
    """Draw loss against step, both axes labelled at their ends, the loss on a logarithmic scale.

    Grey is every line of the log, red the mean of the last ten. Nothing is drawn from fewer than two lines.

    Raises:
        FileError: the picture cannot be written.
    """
    lines = [line for line in read(log) if line["loss"] > 0]
    if len(lines) < 2:
        return
    steps = np.array([line["step"] for line in lines], float)
    losses = np.log(np.array([line["loss"] for line in lines]))
    smooth = np.array([losses[max(0, i - 9) : i + 1].mean() for i in range(len(losses))])
    width, height = size
    left, top, right, bottom = 60, 16, width - 16, height - 28
    low, high = losses.min(), losses.max() + 1e-9

    def place(values: np.ndarray) -> list[tuple[float, float]]:
        x = left + (right - left) * (steps - steps[0]) / max(1.0, steps[-1] - steps[0])
        y = bottom - (bottom - top) * (values - low) / (high - low)
        return list(zip(x.tolist(), y.tolist(), strict=True))

    canvas = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(canvas)
    pen.rectangle((left, top, right, bottom), outline="black")
    pen.line(place(losses), fill=(200, 200, 210))
    pen.line(place(smooth), fill=(180, 30, 30), width=2)
    pen.text((4, top), f"{np.exp(high):.3g}", fill="black")
    pen.text((4, bottom - 10), f"{np.exp(low):.3g}", fill="black")
    pen.text((left, bottom + 6), f"step {int(steps[0])}", fill="black")
    pen.text((right - 70, bottom + 6), f"{int(steps[-1])}", fill="black")
    save_png(canvas, picture)


def save_png(picture: Image.Image, path: Path, texts: PngInfo | None = None) -> None:
    """Write a picture whole or not at all, so that who looks while the run goes never sees half of one.

    Args:
        texts: what is kept in the file, such as the recipe.

    Raises:
        FileError: it cannot be written.
    """
    data = io.BytesIO()
    picture.save(data, "PNG", pnginfo=texts)
    write_file(path, [data.getvalue()])
