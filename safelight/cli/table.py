"""The one table of commands: a row says what a command is called and where it lives, and imports nothing.

A command is one file, ``cli/<command>.py``, with two functions. ``arguments(parser)`` adds its flags; it runs for
``safelight <command> --help`` too, so the module itself imports only what is light (a test holds it to that), and
names of samplers and the like come from modules without torch or are checked later. ``run(args) -> int`` does the
work, imports what it needs inside, and returns the exit code. A new command is a new file and a new row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Command:
    """One row of the table.

    Args:
        name: what the user types.
        help: one line for ``safelight --help``, a verb first, no full stop.
        arguments: where the function lives that adds the flags to a parser, as ``"module:function"`` below
            ``safelight.cli``.
        run: where the function lives that does the work, in the same form; it takes the parsed arguments and
            returns the exit code.
    """

    name: str
    help: str
    arguments: str
    run: str


COMMANDS: tuple[Command, ...] = (
    Command("generate", "draw pictures from a prompt", "generate:arguments", "generate:run"),
    Command("reproduce", "draw a picture again and compare every bit", "reproduce:arguments", "reproduce:run"),
    Command("info", "print what a picture was drawn from", "info:arguments", "info:run"),
    Command("explain", "say how a prompt is read, token by token", "explain:arguments", "explain:run"),
    Command("models", "list the models that came along, and those in named folders", "models:arguments", "models:run"),
    Command("samplers", "list the samplers, draw one, or measure them", "samplers:arguments", "samplers:run"),
    Command("inspect", "say what a file or folder of weights holds, from headers", "inspect:arguments", "inspect:run"),
    Command("convert", "write a model in the other layout", "convert:arguments", "convert:run"),
    Command("adapters", "say what an adapter's file holds and what it would change", "fits:arguments", "fits:run"),
    Command("merge", "write LoRAs into a checkpoint, or several as one", "merge:arguments", "merge:run"),
    Command("extract", "find the LoRA from one checkpoint to another", "extract:arguments", "extract:run"),
    Command("verify", "compare a model with the reference, block by block", "verify:arguments", "verify:run"),
    Command("train", "make the default model, or an adapter from pictures", "train:arguments", "train:run"),
    Command("figurines", "draw the people that the default model learned from", "figurines:arguments", "figurines:run"),
    Command("views", "draw views of a person from a portrait", "views:arguments", "views:run"),
    Command("cameras", "list rigs, print and export the cameras of views", "cameras:arguments", "cameras:run"),
    Command("bench", "measure speed and memory against other programs", "bench:arguments", "bench:run"),
    Command("doctor", "say what this machine has and whether it computes rightly", "doctor:arguments", "doctor:run"),
    Command("evaluate", "score a model on prompts that it was never trained on", "evaluate:arguments", "evaluate:run"),
)


def find(place: str) -> Callable[..., Any]:
    """The function at ``place``, ``"module:function"`` below ``safelight.cli``; imports its module."""
    module, _, function = place.partition(":")
    found: Callable[..., Any] = getattr(import_module(f"safelight.cli.{module}"), function)
    return found
