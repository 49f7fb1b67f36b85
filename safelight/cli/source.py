"""The flags that say how a model's files are taken where there is a choice, the same for every command that loads."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from safelight.generate.source import Source


def arguments(parser: argparse.ArgumentParser, *, vocabulary: bool = True) -> None:
    """Add the flags; ``vocabulary``: whether a single file's is needed."""
    files = parser.add_argument_group("its files").add_argument
    files("--variant", metavar="NAME", default="", help="of a folder's weights, such as fp16")
    if vocabulary:
        where = "by default beside it or in hub's cache"
        files("--tokenizer", metavar="DIR", help=f"the vocabulary of a single file; {where}")
    files("--allow-pickle", action="store_true", help="read .ckpt, .pt and .bin too; nothing in them is run")
    files("--download", action="store_true", help="fetch a model of the hub, org/name[@revision][:folder]")


def source(args: argparse.Namespace) -> Source:
    """What they say."""
    from safelight.generate.source import Source
    from safelight.weights.folder import typed

    named = getattr(args, "tokenizer", None)
    tokenizer = None if named is None else typed(named)
    return Source(args.variant, args.allow_pickle, tokenizer, args.download)
