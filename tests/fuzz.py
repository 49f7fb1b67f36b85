"""Damages files of weights at random and reads them: a typed error or a sound header, in bounded time and memory.

``python -m tests.fuzz --minutes 10`` does so for ten minutes and records what it saw in ``evidence/files.json``; the
tests do it 2,000 times. A seed and a number make the same damage again.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import re
import resource
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from safelight.errors import SafelightError
from safelight.evaluate.evidence import Finding, claim, record
from safelight.evaluate.origin import origin
from safelight.families.sd.shape import configs
from safelight.weights.container import read_any
from safelight.weights.detect import detect
from safelight.weights.load import read
from safelight.weights.variants import tables_of
from tests.architecture.source import ROOT

EVIDENCE = ROOT / "evidence/files.json"
NUMBERS = (0, 1, 2, 7, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
SMALL = 4 * 2**20
"""Numbers of a file whose tensors are looked at too, not only its header."""


@dataclass
class Seen:
    """What a run saw.

    Attributes:
        count: files read; refused: of them with a typed error. slowest: seconds of processor time of one.
        wrong: number and error of every file that was answered with anything else.
    """

    count: int = 0
    refused: int = 0
    slowest: float = 0.0
    wrong: list[str] = field(default_factory=list)


def seeds() -> dict[str, bytes]:
    """Good files of every container, small enough that damage hits what matters."""
    tensors = {
        "model.diffusion_model.time_embed.0.weight": torch.ones(4, 2),
        "b": torch.arange(6.0),
        "c": torch.ones(1),
    }
    rows, begin = {}, 0
    for name, tensor in tensors.items():
        end = begin + 4 * tensor.numel()
        rows[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps({"__metadata__": {"format": "pt", "ss_x": "1"}, **rows}).encode()
    plain = len(text).to_bytes(8, "little") + text + b"\1" * begin
    pickled = io.BytesIO()
    torch.save({"state_dict": tensors, "global_step": 3, "name": "x"}, pickled)
    return {"safetensors": plain, "gguf": gguf(), "ckpt": pickled.getvalue(), **whole()}


def gguf() -> bytes:
    """A GGUF file with every kind of setting."""

    def word(text: str) -> bytes:
        return struct.pack("<Q", len(text)) + text.encode()

    pairs = [
        word("general.architecture") + struct.pack("<I", 8) + word("sd1"),
        word("list") + struct.pack("<IIQ3I", 9, 4, 3, 1, 2, 3),
        word("words") + struct.pack("<IIQ", 9, 8, 2) + word("a") + word("b"),
        word("number") + struct.pack("<If", 6, 0.5),
    ]
    infos = [
        word("a") + struct.pack("<I2QIQ", 2, 32, 2, 8, 0),
        word("b") + struct.pack("<I1QIQ", 1, 8, 0, 96),
    ]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(pairs)) + b"".join([*pairs, *infos])
    return head + b"\0" * (-len(head) % 32) + b"\1" * 128


def whole() -> dict[str, bytes]:
    """The header of a single file of a real model, with tensors of no numbers."""
    keys, variant = tables_of("sd").keys, tables_of("sd").variant("sd1")
    names = [f"down_blocks.{b}.resnets.{k}.conv1.weight" for b in range(2) for k in range(2)]
    moves = keys.parts["unet"].to_theirs([*names, "conv_in.weight", "time_embedding.linear_1.weight"]).moves
    rows = {variant.has: {"dtype": "F16", "shape": [0, 4], "data_offsets": [0, 0]}}
    for move in moves:
        rows["model.diffusion_model." + move.theirs] = {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]}
    text = json.dumps(rows).encode()
    return {"single": len(text).to_bytes(8, "little") + text}


def damaged(good: bytes, chance: random.Random) -> bytes:
    """The bytes with one to four things wrong."""
    data = bytearray(good)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        chance.choice(DAMAGES)(data, chance)
    return bytes(data)


def _flip(data: bytearray, chance: random.Random) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _byte(data: bytearray, chance: random.Random) -> None:
    if data:
        data[chance.randrange(len(data))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, *b'{}[]",:.\\9'))


def _number(data: bytearray, chance: random.Random) -> None:
    kind = chance.choice(("<I", "<Q"))
    place = chance.randrange(max(len(data) - 8, 1))
    data[place : place + struct.calcsize(kind)] = struct.pack(
        kind, chance.choice(NUMBERS) % 2 ** (8 * struct.calcsize(kind))
    )


def _digits(data: bytearray, chance: random.Random) -> None:
    found = list(re.finditer(rb"\d+", bytes(data)))
    if found:
        place = chance.choice(found)
        word = chance.choice(("-1", "1e9", "0.5", "null", '"x"', "[]", "9" * 5000, str(chance.choice(NUMBERS))))
        data[place.start() : place.end()] = word.encode()


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data) + 1) :]


def _remove(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data) + 1)
    del data[place : place + chance.choice((1, 2, 8, 64))]


def _repeat(data: bytearray, chance: random.Random) -> None:
    place, length = chance.randrange(len(data) + 1), chance.choice((1, 8, 64, 256))
    data[place:place] = data[place : place + length] * chance.choice((1, 2, 100))


def _move(data: bytearray, chance: random.Random) -> None:
    place, other, length = chance.randrange(len(data) + 1), chance.randrange(len(data) + 1), chance.choice((2, 8, 32))
    data[place : place + length] = data[other : other + length]


def _length(data: bytearray, chance: random.Random) -> None:
    """Make the length of a safetensors header fit again after damage inside it, so that more than its end is read."""
    data[:8] = max(len(data) - 8 - chance.choice((0, 32, 60)), 0).to_bytes(8, "little")


DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(_flip, _byte, _byte, _number, _number, _digits, _digits, _cut, _remove, _repeat, _move, _length),
)


def look(path: Path) -> None:
    """Everything that is done with a file before a network sees it."""
    header = read_any(path, pickles=True)
    found = detect(header)
    if sum(entry.count for entry in header.entries.values()) < SMALL:
        read(path, pickles=True)
    if found.variant and found.components:
        variant = tables_of(found.family).variant(found.variant)
        configs(variant, {part.part: part.shapes for part in found.components})


def fuzz(seed: int, folder: Path, enough: Callable[[Seen], bool]) -> Seen:
    """Damage and read until it is enough."""
    chance, seen, good = random.Random(seed), Seen(), list(seeds().items())
    path = folder / "file"
    while not enough(seen):
        name, bytes_ = chance.choice(good)
        path.write_bytes(damaged(bytes_, chance))
        begun = time.process_time()
        try:
            look(path)
        except SafelightError as error:
            seen.refused += 1
            if "\n" in str(error) or len(str(error)) > 1000:
                seen.wrong.append(f"seed {seed}, file {seen.count} ({name}): {str(error)[:200]!r} is not one line")
        except Exception as error:  # what the run is for
            seen.wrong.append(f"seed {seed}, file {seen.count} ({name}): {type(error).__name__}: {error}")
        seen.slowest = max(seen.slowest, time.process_time() - begun)
        seen.count += 1
    return seen


def findings(seen: Seen, grown: float) -> Iterator[Finding]:
    """What a run may claim."""
    yield Finding("files of weights damaged at random and read", seen.count, "files", ">= 2000")
    yield Finding(
        "of them, answered with anything but a sound header or a typed error", len(seen.wrong), "files", "<= 0"
    )
    yield Finding("the slowest answer to a damaged file took", seen.slowest, "s", "<= 1")
    yield Finding("memory grew while damaged files were read, by", grown, "MB", "<= 100")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=EVIDENCE)
    args = parser.parse_args()
    source = origin(f"python -m tests.fuzz --minutes {args.minutes:g} --seed {args.seed}")
    with tempfile.TemporaryDirectory() as folder:
        fuzz(args.seed + 1, Path(folder), lambda seen: seen.count >= 200)  # what is loaded once is no growth
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        end = time.monotonic() + 60 * args.minutes
        seen = fuzz(args.seed, Path(folder), lambda seen: time.monotonic() > end)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
    record(args.output, [claim(each, source) for each in findings(seen, grown)])
    print(
        "\n".join(
            [*seen.wrong, f"{seen.count} files, {seen.refused} refused, slowest {seen.slowest:.3f} s, {grown:.0f} MB"]
        )
    )
    return int(bool(seen.wrong))


if __name__ == "__main__":
    raise SystemExit(main())
