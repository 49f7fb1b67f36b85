"""``safelight convert``: writes a model in the other layout, a released folder as one file or one file as a folder."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from safelight.cli import source
from safelight.errors import ExistsError, RequestError

if TYPE_CHECKING:
    from safelight.generate.source import Source
    from safelight.weights.save import Written

PREDICTIONS = {"eps": "epsilon", "v": "v_prediction"}
SUFFIX = ".safetensors"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``convert``."""
    parser.add_argument("source", metavar="SRC", help="a released folder, the folder of one part, or a single file")
    parser.add_argument("target", metavar="DST", help="a name that ends in .safetensors for one file; else a folder")
    parser.add_argument("--prediction", choices=PREDICTIONS, help="what the U-Net predicts, where a file does not say")
    parser.add_argument("--averaged", action="store_true", help="take the averaged weights (EMA) of a training file")
    parser.add_argument("--force", action="store_true", help="replace a file that exists")
    parser.add_argument("--json", action="store_true", help="print one JSON object: files, tensors, unread")
    source.arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Convert and say what was written."""
    from safelight.generate.source import locate

    how = source.source(args)
    origin, target = locate(args.source, how), Path(args.target)
    written = _folder(origin, target, args, how) if target.suffix != SUFFIX else _file(origin, target, args, how)
    if args.json:
        said = {"files": [str(file) for file in written.files], "tensors": written.tensors, "unread": written.unread}
        print(json.dumps(said))
        return 0
    print(f"{target}: {written.tensors} tensors in {len(written.files)} files")
    if written.unread:
        print(f"  left behind, since they say nothing of the model: {len(written.unread)} ({written.unread[0]} ...)")
    return 0


def _file(origin: Path, target: Path, args: argparse.Namespace, how: Source) -> Written:
    from safelight.families.cascade import convert as cascade
    from safelight.families.sd.convert import part_to_file, to_file
    from safelight.weights.folder import Index, check_links, read_index, read_json

    if not origin.is_dir():
        raise RequestError(f"{origin} is one file already; name a folder as the target")
    if args.prediction or args.averaged or how.tokenizer:
        raise RequestError(
            "--prediction, --averaged and --tokenizer are for single files; a folder says all that itself"
        )
    if target.exists() and not args.force:
        raise ExistsError(f"{target}: exists; --force replaces it")
    if (origin / "model_index.json").is_file():
        index = read_index(origin, how.variant, pickles=how.pickles)
        if index.pipeline.startswith("StableCascade"):
            raise RequestError(f"{origin}: each stage of Stable Cascade is a file of its own; name a part's folder")
        return to_file(index, target)
    check_links(origin)
    ours = read_json(origin / "config.json").get("_class_name") in cascade.CLASSES
    write = cascade.part_to_file if ours else part_to_file
    return write(origin, target, Index(origin, "", {}, {}, how.variant, how.pickles))


def _folder(origin: Path, target: Path, args: argparse.Namespace, how: Source) -> Written:
    from safelight.families.cascade import convert as cascade
    from safelight.families.cascade import single
    from safelight.families.sd.convert import to_folder
    from safelight.families.sd.single import understand
    from safelight.generate.models import vocabularies
    from safelight.weights.container import read_any
    from safelight.weights.detect import detect
    from safelight.weights.folder import Index

    if origin.is_dir():
        raise RequestError(f"{origin} is a folder already; name a target that ends in {SUFFIX}")
    if args.force or how.variant:
        raise RequestError("--force and --variant are for writing one file; a folder that exists is never replaced")
    if detect(read_any(origin, pickles=how.pickles)).family == "cascade":
        if args.prediction or args.averaged or how.tokenizer:
            raise RequestError("--prediction, --averaged and --tokenizer are for files of Stable Diffusion")
        return cascade.to_folder(single.understand(origin, pickles=how.pickles), target, pickles=how.pickles)
    told = understand(origin, pickles=how.pickles, prediction=PREDICTIONS.get(args.prediction, ""))
    places = vocabularies(origin, how, told.variant.family)
    return to_folder(
        told, target, Index(origin, "", {}, {}, pickles=how.pickles, tokenizers=places), averaged=args.averaged
    )
