"""What reads prompt and portrait for a network of views: the text encoder and CLIP's image encoder of its folder.

A released folder has ``text_encoder`` with ``tokenizer``, and ``image_encoder`` with ``feature_extractor``; which of
them is read follows from the preset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from safelight.encoders.checkpoints import load_clip_text
from safelight.encoders.emphasis import lay
from safelight.encoders.tokenizer import ClipTokenizer
from safelight.encoders.viewer import Viewer, load_viewer
from safelight.errors import ConfigError, WeightsError
from safelight.families.family import Prompt
from safelight.families.sd.parts import Reader, fitting
from safelight.families.sd.wiring import read_text
from safelight.multiview.presets import Preset
from safelight.multiview.unclip import Noising, load_noising
from safelight.weights.folder import weight_files

TEXT, WORDS, IMAGE, PIXELS = "text_encoder", "tokenizer", "image_encoder", "feature_extractor"


@dataclass(frozen=True)
class Readers:
    """The encoders beside a network of views.

    Attributes:
        text: of prompts; None where none is read. viewer: of the portrait; None where CLIP does not see it.
        noising: of CLIP's projection, where that is told beside the time.
        files: every file that was read.
    """

    text: Reader | None = None
    viewer: Viewer | None = None
    noising: Noising | None = None
    files: tuple[Path, ...] = ()

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """Every network."""
        encoders = [each.encoder for each in (self.text, self.viewer) if each is not None]
        return (*encoders, *([self.noising.normalizer] if self.noising else []))

    @torch.no_grad()
    def read(self, texts: Sequence[str]) -> Tensor:
        """What the network is told of texts: [n, M, X]; what does not fit into M tokens is cut off, see `cut`."""
        assert self.text is not None
        device = self.text.encoder.text_model.embeddings.token_embedding.weight.device
        each = (read_text((self.text,), Prompt(text, (1, 1)), xl=False, device=device).context for text in texts)
        return torch.cat(list(each))

    def cut(self, text: str) -> str:
        """The end of a text that does not fit; empty where all of it does. No network is asked."""
        return "" if self.text is None else lay(self.text.tokenizer, text, "none").cut


def load_readers(folder: Path, preset: Preset, width: int) -> Readers:
    """Read those that a preset needs, in evaluation mode, their tensors mapped, in the dtype of the file, on the CPU.

    Args:
        width: X of what the network reads.

    Raises:
        WeightsError: one is missing or damaged; the message says which. ConfigError: it is of another kind, or does
            not say what the network reads.
    """
    text = viewer = noising = None
    files: tuple[Path, ...] = ()
    if "text" in preset.inputs and not preset.figure:
        text = _text(folder, preset, width)
        words = sorted(file for file in (folder / WORDS).iterdir() if file.is_file())
        files += (folder / TEXT / "config.json", *weight_files(folder / TEXT), *words)
    if preset.tokens or preset.picture:
        viewer = _viewer(folder, preset, width)
        files += viewer.files
    if preset.picture == "time":
        noising = load_noising(folder, preset.hidden, preset.title)
        files += noising.files
    return Readers(text, viewer, noising, files)


def _text(folder: Path, preset: Preset, width: int) -> Reader:
    for part in (TEXT, WORDS):
        if not (folder / part).is_dir():
            raise WeightsError(f"{folder}: has no {part}, by which {preset.title} reads a text; is the model complete?")
    reader = fitting(ClipTokenizer.from_folder(folder / WORDS), load_clip_text(folder / TEXT), folder / WORDS)
    if reader.encoder.config.hidden_size != width:
        written = reader.encoder.config.hidden_size
        raise ConfigError(f"{folder}: the U-Net reads text of width {width}, the text encoder writes {written}")
    return reader


def _viewer(folder: Path, preset: Preset, width: int) -> Viewer:
    if not (folder / IMAGE).is_dir():
        raise WeightsError(f"{folder}: has no {IMAGE}, by which {preset.title} sees a picture; is the model complete?")
    beside = folder / PIXELS if (folder / PIXELS).is_dir() else folder / IMAGE
    viewer = load_viewer(folder / IMAGE, preprocessor=beside)
    config = viewer.encoder.config
    if preset.tokens:
        what, written, wanted = "states", config.hidden_size, preset.hidden
    else:
        what, written = "a projection", config.projection_dim if config.projection else 0
        wanted = preset.hidden if preset.picture == "time" else width
    if written != wanted:
        raise ConfigError(
            f"{folder}: {preset.title} is told {what} of width {wanted} of the picture, the image encoder writes "
            f"{written or 'none'}"
        )
    return viewer
