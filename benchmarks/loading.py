"""Measures how a full-size single-file checkpoint is loaded: memory, time beside the reference, what stays behind.

``python -m benchmarks.loading`` writes a Stable Diffusion 1 of random numbers (4.27 GB) into a temporary folder, loads
it in fresh processes, ours and the reference's by turns, and records what it saw in ``evidence/files.json``. "Loaded"
means that every number was read once, so that a file which is merely mapped has no advantage.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safelight.encoders.vocabulary import save_tokenizer
from safelight.evaluate.evidence import Finding, claim, record
from safelight.evaluate.origin import checkout, origin
from safelight.families.sd import shape
from safelight.weights.variants import expected, tables_of

WORDS = ("a", "person", "with", "green", "hair")
ROUNDS = 100
OURS = """
from pathlib import Path
import sys, time
import torch
from safelight.families.sd.single import read_single, single_index
from safelight.weights.folder import Index
from safelight.evaluate.memory import peak, reset_peak, resident
torch.set_num_threads(1)
path = Path(sys.argv[1])
def load():
    parts = read_single(single_index(path, False, (path.parent / "configs",)))
    return [parts.unet, parts.vae, *(reader.encoder for reader in parts.readers)]
"""
THEIRS = """
from pathlib import Path
import sys, time
import torch
from diffusers import StableDiffusionPipeline
from safelight.evaluate.memory import peak, reset_peak, resident
torch.set_num_threads(1)
path = Path(sys.argv[1])
def load():
    pipe = StableDiffusionPipeline.from_single_file(
        str(path), config=str(path.parent / "configs"), local_files_only=True, torch_dtype=torch.float32
    )
    return [pipe.unet, pipe.vae, pipe.text_encoder]
"""
MEASURE = """
reset_peak()
before, begun = resident(), time.perf_counter()
modules = load()
ready = time.perf_counter() - begun
total = sum(float(p.sum()) for m in modules for p in m.parameters())
read = time.perf_counter() - begun
count = sum(p.numel() for m in modules for p in m.parameters())
assert all(p.dtype == torch.float32 for m in modules for p in m.parameters())
print({"seconds": read, "ready": ready, "bytes": peak() - before, "numbers": count})
"""
ROUND = """
load()
before = resident()
for _ in range(%d):
    load()
print({"bytes": resident() - before})
"""


def checkpoint(path: Path) -> None:
    """A single file of the released sizes, written without holding it: a pattern of small numbers of either sign."""
    import numpy as np

    variant = tables_of("sd").variant("sd1")
    header: dict[str, Any] = {}
    end = 0
    for part in variant.written:
        if part.name == "controlnet":
            continue
        rows = expected(tables_of("sd").folder)[variant.expected[part.name]]
        for move in tables_of("sd").keys.parts[part.table].to_theirs(rows).moves:
            size = move.their_shape(rows[move.ours[0]])
            begin, end = end, end + 4 * math.prod(size)
            header[part.prefixes[0] + move.theirs] = {"dtype": "F32", "shape": size, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    block = (np.random.default_rng(0).standard_normal(2**22) * 0.02).astype("<f4").tobytes()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for begin in range(0, end, len(block)):
            file.write(block[: end - begin])


def configurations(folder: Path) -> None:
    """A released folder without weights, which the reference needs to open a single file offline."""
    variant = tables_of("sd").variant("sd1")
    stored = expected(tables_of("sd").folder)
    made = shape.configs(variant, {n: stored[s] for n, s in variant.expected.items() if n != "controlnet"})
    library = {"unet": "diffusers", "vae": "diffusers", "text_encoder": "transformers"}
    names = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
    index = {"_class_name": variant.pipeline, "safety_checker": [None, None], "feature_extractor": [None, None]}
    for part, config in made.items():
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps(config))
        index[part] = [library[part], names[part]]
    for part, kind in (("scheduler", ["diffusers", "DDIMScheduler"]), ("tokenizer", ["transformers", "CLIPTokenizer"])):
        (folder / part).mkdir()
        index[part] = kind
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(shape.scheduler("epsilon")))
    save_tokenizer(WORDS, folder / "tokenizer")
    (folder / "model_index.json").write_text(json.dumps(index))


def measured(code: str, path: Path) -> dict[str, float]:
    """What a fresh process says in its last line."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=checkout(),
    )
    return json.loads(run.stdout.splitlines()[-1].replace("'", '"'))


def findings(path: Path, turns: int) -> Iterator[Finding]:
    """Load by turns and say what was seen."""
    size = path.stat().st_size
    ours, theirs = [], []
    for _ in range(turns):
        ours.append(measured(OURS + MEASURE, path))
        theirs.append(measured(THEIRS + MEASURE, path))
    assert len({row["numbers"] for row in (*ours, *theirs)}) == 1, "both read the same numbers"
    peak = max(row["bytes"] for row in ours) / size
    times = statistics.median(row["seconds"] for row in ours) / statistics.median(row["seconds"] for row in theirs)
    grown = measured(OURS + ROUND % ROUNDS, path)["bytes"] / 1e6
    yield Finding(
        "loading a single file of 4.27 GB peaks above the process before it at, of its size,", peak, "times", "<= 1.15"
    )
    yield Finding("the same of the reference's loader", max(row["bytes"] for row in theirs) / size, "times")
    yield Finding("loading it and reading every number takes, beside the reference's loader,", times, "times", "<= 1")
    yield Finding("loading it until it can be asked takes", statistics.median(row["ready"] for row in ours), "s")
    yield Finding("memory grows in 100 rounds of loading it, by", grown, "MB", "<= 20")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description=__doc__)
    parser.add_argument("--turns", type=int, default=3, help="of each loader")
    parser.add_argument("--folder", type=Path, help="where the file is written for the time being")
    root = checkout()
    assert root is not None
    parser.add_argument("-o", "--output", type=Path, default=root / "evidence/files.json")
    args = parser.parse_args()
    source = origin(f"python -m benchmarks.loading --turns {args.turns}")
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        path = Path(scratch, "sd1.safetensors")
        configurations(path.parent / "configs")
        checkpoint(path)
        found = [claim(each, source) for each in findings(path, args.turns)]
    record(args.output, found)
    print("\n".join(f"{each.claim} {each.value} {each.unit}" for each in found))


if __name__ == "__main__":
    main()
