"""The stages of Stable Cascade as single files, beside each other in one folder with the text encoder's.

No file holds a whole model: the prior is stage C, the decoder stage B, the autoencoder stage A. Whichever is named, the
others are looked for beside it. None holds its configuration, which is worked out from the shapes (`shape`) or taken
from what `safelight convert` wrote into the metadata.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from safelight.encoders.checkpoints import load_clip_text
from safelight.encoders.tokenizer import ClipTokenizer
from safelight.errors import ConfigError, SafelightError, WeightsError
from safelight.families.cascade import shape
from safelight.families.cascade.model import CascadeConfig, CascadeUNet
from safelight.families.cascade.parts import DECODER, Stage, fitting, read_viewer
from safelight.families.cascade.ratio import Ratio
from safelight.vae.stage_a import StageA, StageAConfig
from safelight.weights.container import read_any
from safelight.weights.detect import Found, known
from safelight.weights.folder import Index, weight_files
from safelight.weights.load import fill, read, unfilled
from safelight.weights.moves import to_ours

CONFIGS = "safelight.configs"
"""Where `safelight convert` puts the configuration of a part into the metadata of a file."""
STAGES = {"prior": "c", "decoder": "b", "vqgan": "a"}
WHAT = {"prior": "the prior", "decoder": "the decoder", "vqgan": "the autoencoder"}
PAD = "<|endoftext|>"
TOKENIZER_FILES = ("tokenizer.json", "merges.txt")

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class StageFile:
    """One stage's file, understood but not loaded.

    Attributes:
        path: where it lies. part: ``prior``, ``decoder`` or ``vqgan``. found: what its header says.
        config: as its ``config.json`` would say.
    """

    path: Path
    part: str
    found: Found
    config: Mapping[str, Any]


def understand(path: Path, *, pickles: bool = False) -> StageFile:
    """Read a header and work out which stage the file is.

    Raises:
        WeightsError: it is unreadable, no stage of Stable Cascade, or holds names that belong to nothing; says which.
        ConfigError: its metadata is damaged, or its sizes cannot be read.
    """
    header = read_any(path, pickles=pickles)
    found, variant = known(header, path)
    if found.family != "cascade" or len(found.components) != 1:
        raise WeightsError(f"{path}: is {found.title}; a stage of Stable Cascade is expected")
    (component,) = found.components
    if left := sorted({*found.left, *component.plan.left}):
        rows = "\n".join(f"  unexpected  {name}" for name in left[:8])
        more = f"\n  … and {len(left) - 8} more" if len(left) > 8 else ""
        raise WeightsError(f"{path}: {len(left)} tensors belong to nothing that is known here\n{rows}{more}")
    try:
        said = json.loads(header.metadata.get(CONFIGS, "{}"))
        config = said.get(component.part, {})
        if not isinstance(config, dict):
            raise ValueError("not a table of tables")
    except (AttributeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: its {CONFIGS} are damaged ({error}); convert it again") from None
    facts = variant.config.get(component.part, {})
    return StageFile(path, component.part, found, config or shape.config(component.part, component.shapes, facts))


def stage_index(path: Path, pickles: bool = False, tokenizers: tuple[Path, ...] = ()) -> Index:
    """What ``model_index.json`` would say of a stage and those beside it.

    Raises:
        WeightsError: it is no stage, or something that drawing needs is not beside it; says what and where.
    """
    found = beside(path, understand(path, pickles=pickles).part)
    parts = dict.fromkeys(found, ("diffusers", "")) | {"text_encoder": ("transformers", "")}
    return Index(path, DECODER, parts, {}, pickles=pickles, tokenizers=tokenizers)


def beside(path: Path, part: str) -> dict[str, Path]:
    """Part -> file, for all three stages: the one that was named and those that go with it.

    Of several files of a stage the one whose name ends as the named one's does, else the one that is called plainly.

    Raises:
        WeightsError: one is missing, or the folder of the text encoder; the message says what and where.
    """
    ending = path.stem.removeprefix(f"stage_{STAGES[part]}") + path.suffix
    files, lacking = {part: path}, []
    for other, letter in STAGES.items():
        if other == part:
            continue
        names = (f"stage_{letter}{ending}", f"stage_{letter}{path.suffix}")
        there = [path.with_name(name) for name in names if path.with_name(name).is_file()]
        there += sorted(path.parent.glob(f"stage_{letter}*{path.suffix}"))[:1]
        if there:
            files[other] = there[0]
        else:
            lacking.append(f"{WHAT[other]} (stage_{letter}{path.suffix})")
    if not (path.parent / "text_encoder" / "config.json").is_file():
        lacking.append("the text encoder (the folder text_encoder of the released model)")
    if lacking:
        raise WeightsError(f"{path}: is {WHAT[part]} of Stable Cascade; beside it, {' and '.join(lacking)} is missing")
    return files


def read_files(index: Index) -> tuple[Stage, Stage, StageA, tuple[Path, ...]]:
    """The prior, the decoder, stage A and its file, for an index that was made by `stage_index`.

    Raises:
        WeightsError: a tensor is missing, of another shape, or belongs to nothing. ConfigError: sizes of no network
            that is known, parts that do not fit together, or no vocabulary.
    """
    path, pickles = index.folder, index.pickles
    files = beside(path, understand(path, pickles=pickles).part)
    told = {part: understand(file, pickles=pickles) for part, file in files.items()}
    for part, file in told.items():
        if file.part != part:
            raise WeightsError(f"{file.path}: is {WHAT[file.part]}, not {WHAT[part]}, as its name says; rename it")
    folder = path.parent / "text_encoder"
    text, words, place = load_clip_text(folder, pickles=pickles), *_tokenizer(index)
    read_too = [folder / "config.json", *weight_files(folder, pickles=pickles)]
    read_too += sorted(file for file in place.iterdir() if file.is_file() and file.suffix in (".json", ".txt"))
    stages = []
    for part in ("prior", "decoder"):
        unet = _loaded(told[part], lambda raw: CascadeUNet(CascadeConfig.from_dict(raw)), pickles)
        fitting(told[part].path, unet.config, text, words, place)
        viewer = None
        if part == "prior" and (path.parent / "image_encoder" / "config.json").is_file():
            viewer = read_viewer(index, path.parent, "", unet.config)
            read_too += viewer.files
        stages.append(Stage(unet, text, words, Ratio(), {}, (files[part], *read_too), viewer))
        read_too = []
    vae = _loaded(told["vqgan"], lambda raw: StageA(StageAConfig.from_dict(raw)), pickles)
    return stages[0], stages[1], vae, (files["vqgan"],)


def read_vocabulary(index: Index) -> dict[str, ClipTokenizer]:
    """The tokenizer of the prior, read without the networks; see `safelight.families.cascade.parts.read_tokenizers`."""
    return {"prior_text_encoder": _tokenizer(index)[0]}


def _tokenizer(index: Index) -> tuple[ClipTokenizer, Path]:
    for place in index.tokenizers:
        for folder in (place / "tokenizer", place):
            if any((folder / name).is_file() for name in TOKENIZER_FILES):
                return ClipTokenizer.from_folder(folder, pad="" if folder != place else PAD), folder
    raise ConfigError(
        f"{index.folder}: needs CLIP's vocabulary, and {', '.join(map(str, index.tokenizers))} holds none; name a "
        "folder with tokenizer.json or merges.txt (the folder tokenizer of the released model)"
    )


def _loaded(told: StageFile, build: Callable[[Mapping[str, Any]], Net], pickles: bool) -> Net:
    (component,) = told.found.components
    tensors: dict[str, Tensor] = to_ours(read(told.path, pickles=pickles), component.plan.moves, component.prefix)
    try:
        module = unfilled(told.config, build)
        fill(module, tensors)
    except SafelightError as error:
        raise type(error)(f"{told.path}: {error}") from error
    return module.eval()
