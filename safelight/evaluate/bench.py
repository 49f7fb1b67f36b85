"""Speed and memory, against an opponent in the same run: the table of cases and what each measures.

A case that promises something says so in a `Finding` with a bar. diffusers is imported inside functions only, and only
where it is the opponent. This module loads no torch: what is measured are other processes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from safelight.errors import RequestError, UnknownNameError
from safelight.evaluate.evidence import Finding, rounded
from safelight.evaluate.hollow import single, write_file, write_folder
from safelight.evaluate.memory import peak, reset_peak, resident
from safelight.evaluate.origin import Origin, cores
from safelight.evaluate.solver_cost import NOISY, SHOWN, Costs, costs
from safelight.evaluate.timing import Pairs, Run, by_turns, clocked, python

PROMPT, STEPS, SEED = "a person with green hair and a red hat", 20, 1
MOST_RUNS = 1000
VIEWS, SHARE = 96, 4
"""Views of one run of ``render``, and how many of them a process is handed at a time."""
ALL_BUFFERS = ("rgb", "mask", "normals", "depth", "labels")
SD15: Mapping[str, Any] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
"""What Stable Diffusion 1.5 changes in the configuration of the released U-Net; the rest are its defaults."""

_LOAD = "import safelight, sys; safelight.load(sys.argv[1])"
_DIFFUSERS = """
import sys, torch, diffusers
model, prompt, steps, seed, out = sys.argv[1:]
pipe = diffusers.StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32, safety_checker=None)
pipe.set_progress_bar_config(disable=True)
noise = torch.Generator().manual_seed(int(seed))
pipe(prompt, num_inference_steps=int(steps), generator=noise).images[0].save(out)
"""


class Measured(NamedTuple):
    """What a case found.

    Attributes:
        pairs: the runs. ratio: opponent's number over ours, where it is not the one of the times.
        peak_bytes: where it is not the one of the runs. findings: what the case promises.
    """

    pairs: Pairs
    findings: tuple[Finding, ...] = ()
    ratio: float | None = None
    peak_bytes: int | None = None


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Args:
        name: what the user types.
        subject, opponent: what is compared, in words; the opponent may be missing from the machine.
        runs: how many count where nobody says.
        measure: (runs, name or folder of the model) -> `Measured`.
    """

    name: str
    subject: str
    opponent: str
    runs: int
    measure: Callable[[int, str], Measured]


@dataclass(frozen=True)
class Line:
    """One line of ``benchmarks/results/<case>.jsonl``.

    Attributes:
        ratio: the opponent's time over ours, or its bytes over ours for ``memory``; above 1 we are better.
        median_s: ours. spread: slowest minus fastest of ours over the median.
        peak_bytes: the most memory that ours held resident.
    """

    case: str
    subject: str
    opponent: str | None
    ratio: float | None
    median_s: float
    spread: float
    peak_bytes: int | None
    commit: str
    machine: str
    command: str


def measure(case: Case, runs: int, model: str, origin: Origin) -> tuple[Line, tuple[Finding, ...]]:
    """Measure one case; what its opponent needs may be missing, then there is no ratio.

    Raises:
        RequestError: runs out of range, or a library that the case cannot do without. SafelightError: a run failed.
    """
    if not 1 <= runs <= MOST_RUNS:
        raise RequestError(f"runs must lie between 1 and {MOST_RUNS}, not {runs}")
    found = case.measure(runs, model)
    ratio = found.pairs.ratio if found.ratio is None else found.ratio
    most = found.pairs.peak_bytes if found.peak_bytes is None else found.peak_bytes
    line = Line(
        case=case.name,
        subject=case.subject,
        opponent=None if ratio is None else case.opponent,
        ratio=None if ratio is None else rounded(ratio),
        median_s=rounded(found.pairs.median_s),
        spread=rounded(found.pairs.spread),
        peak_bytes=most,
        **asdict(origin),
    )
    return line, found.findings


def start(runs: int, model: str) -> Measured:
    """From nothing to a loaded model, whole processes."""
    pairs = by_turns(python("-c", _LOAD, _elsewhere(located, model)), python("-c", "import torch"), runs)
    claim = "importing safelight and loading the default model takes longer than importing torch, by"
    return Measured(pairs, (Finding(claim, pairs.excess_s or 0.0, "s", "<= 0.6"),))


def help_(runs: int, model: str) -> Measured:
    """The command's own start, whole processes."""
    pairs = by_turns(python("-m", "safelight", "--help"), python("-c", "pass"), runs)
    return Measured(pairs, (Finding("safelight --help answers within", pairs.median_s, "s", "<= 0.15"),))


def inspect(runs: int, model: str) -> Measured:
    """What files and folders of full size are, whole processes; they have real headers and holes for numbers."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        kinds = {
            "a single file of Stable Diffusion 1.5, 4.27 GB,": write_file(place / "1", single("sd1"), "F32"),
            "a released folder of Stable Diffusion XL, 6.94 GB,": write_folder(place / "folder", "sdxl"),
            "a single file of Stable Diffusion XL, 6.94 GB,": write_file(place / "xl", single("sdxl")),
        }
        found = [
            by_turns(python("-m", "safelight", "inspect", str(path)), python("-c", "import torch"), runs)
            for path in kinds.values()
        ]
    claims = [f"safelight inspect says what {what} is within" for what in kinds]
    findings = (Finding(claim, pairs.median_s, "s", "<= 0.4") for claim, pairs in zip(claims, found))
    return Measured(found[-1], tuple(findings))


def prompt_to_png(runs: int, model: str) -> Measured:
    """A picture from a prompt, whole processes, files in the system's cache."""
    folder = _elsewhere(located, model)
    with tempfile.TemporaryDirectory() as place:
        ours = python("-m", "safelight", *drawing(folder, f"{place}/ours.png"))
        theirs = python("-c", _DIFFUSERS, folder, PROMPT, str(STEPS), str(SEED), f"{place}/theirs.png")
        known = find_spec("diffusers") is not None and find_spec("transformers") is not None
        pairs = by_turns(ours, theirs if known else None, runs)
    claim = f"the default model draws a picture in {STEPS} steps, start of the program included, within"
    return Measured(pairs, (Finding(claim, pairs.median_s, "s", "<= 6"),))


def drawing(folder: str, output: str) -> list[str]:
    """The command line that draws the picture."""
    settings = ["--steps", str(STEPS), "--seed", str(SEED), "--force"]
    return ["generate", PROMPT, "-m", folder, *settings, "-o", output]


def unet_step(runs: int, model: str) -> Measured:
    """One network call of Stable Diffusion 1.5's shape, two rows (guidance), 512 x 512 pixels, float32."""
    if find_spec("diffusers") is None:
        raise RequestError("unet-step needs diffusers as its opponent: pip install 'safelight[reference]'")
    pairs = _elsewhere(step_pairs, SD15, 64, runs)
    claim = "a step of Stable Diffusion 1.5's U-Net is no slower than diffusers': their time over ours"
    return Measured(pairs, (Finding(claim, pairs.ratio or 0.0, "times", ">= 1"),))


def step_pairs(shape: Mapping[str, Any], edge: int, runs: int) -> Pairs:
    """Our U-Net and diffusers' with the same weights in the same memory, by turns.

    Args:
        shape: what the configuration changes in diffusers' defaults. edge: of the latents. runs: of each.

    Raises:
        RequestError: the two do not say the same, so comparing their times means nothing.
    """
    import torch
    from diffusers import UNet2DConditionModel

    from safelight.families.sd.model import UNet, UNetConfig

    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(SEED)
        theirs: Any = UNet2DConditionModel(**shape)
    theirs.eval().requires_grad_(False)
    with torch.device("meta"):
        ours = UNet(UNetConfig.from_dict(dict(theirs.config)))
    ours.load_state_dict(theirs.state_dict(), assign=True)
    ours.eval().requires_grad_(False)
    rows = 2
    noise = torch.Generator().manual_seed(SEED)
    x = torch.randn(rows, theirs.config.in_channels, edge, edge, generator=noise)
    context = torch.randn(rows, 77, theirs.config.cross_attention_dim, generator=noise)
    t = torch.full((rows,), 500.0)

    def tracked(work: Callable[[], torch.Tensor]) -> Run:
        anew = reset_peak()
        return clocked(work)()._replace(peak=peak() if anew else None)

    with torch.no_grad():
        mine, other = ours(x, t, context), theirs(x, t, context).sample  # the warm-up, too
        if (mine - other).abs().max() > 1e-4 * other.abs().max():
            raise RequestError("unet-step: ours and diffusers' differ, so their times cannot be compared")
        return by_turns(
            lambda: tracked(lambda: ours(x, t, context)), lambda: tracked(lambda: theirs(x, t, context).sample), runs, 0
        )


def solver_cost(runs: int, model: str) -> Measured:
    """What samplers compute for an answer, and one call of the network for it, of Stable Diffusion 1.5's shape."""
    found: Costs = _elsewhere(costs, SD15, 64, runs)
    step = "for an answer, over a step of Stable Diffusion 1.5's U-Net with guidance"
    named = [(f"arithmetic of {name}", found.shares[name]) for name in SHOWN]
    named.append(("arithmetic of the slowest sampler of all", max(found.shares.values())))
    named.append((f"drawing the noise of {NOISY}", found.noise))
    return Measured(found.pairs, tuple(Finding(f"{name} {step}", share, "times", "<= 0.01") for name, share in named))


def memory(runs: int, model: str) -> Measured:
    """What a loaded model adds to the process, every weight read once, against the size of its files.

    Raises:
        RequestError: this system does not tell.
    """
    folder = _elsewhere(located, model)
    loads = [_elsewhere(loaded, Path(folder)) for _ in range(runs)]
    pairs = Pairs(tuple(load.run for load in loads))
    grown = pairs.peak_bytes
    if grown is None:
        raise RequestError(
            "memory cannot be measured here: the system does not count the most memory that a process held, or not "
            "anew (Linux does, where /proc/self/clear_refs may be written); name the other cases to measure those"
        )
    share = grown / loads[0].files
    claim = "memory that the default model takes, loaded and every weight read, over the size of its weights"
    return Measured(pairs, (Finding(claim, share, "times", "<= 1.15"),), ratio=1 / share)


def seed_contract(runs: int, model: str) -> Measured:
    """What it costs that a picture's bits are its own: calls of two rows, against calls that many pictures fill."""
    return Measured(_elsewhere(width_pairs, _elsewhere(located, model), runs))


def width_pairs(folder: str, runs: int) -> Pairs:
    """Eight pictures, each in calls of its own two rows and all in calls of sixteen, by turns."""
    from safelight.generate.pipe import load
    from safelight.generate.request import Request

    pipe = load(folder)

    def draw(rows: int) -> Callable[[], object]:
        requests = [Request(PROMPT, seed=seed, steps=STEPS // 2, rows=rows) for seed in range(8)]
        return lambda: pipe.draw_many(requests)

    return by_turns(clocked(draw(2)), clocked(draw(16)), runs)


def render(runs: int, model: str) -> Measured:
    """Portraits of 128 x 128 pixels a second, shared between processes on all cores: RGB and mask, and all buffers."""
    with ProcessPoolExecutor(cores(), mp_context=get_context("spawn")) as pool:
        pairs = by_turns(clocked(_views(pool, ("rgb", "mask"))), clocked(_views(pool, ALL_BUFFERS)), runs)
    slow = VIEWS / median(run.seconds for run in pairs.theirs)
    claim = "portraits of 128x128 pixels rendered a second on all cores,"
    return Measured(
        pairs,
        (
            Finding(f"{claim} colour and mask", VIEWS / pairs.median_s, "views a second", ">= 50"),
            Finding(f"{claim} all buffers", slow, "views a second", ">= 25"),
        ),
    )


def _views(pool: Executor, buffers: tuple[str, ...]) -> Callable[[], object]:
    parts = range(0, VIEWS, SHARE)
    return lambda: list(pool.map(views, [buffers] * len(parts), parts))


def views(buffers: tuple[str, ...], first: int) -> int:
    """Render the portraits of `SHARE` people, from number ``first`` on, and say how many; for a process of a pool."""
    import numpy as np

    from safelight.figurines.person import random_people
    from safelight.figurines.render import portrait_camera, render

    people, camera = random_people(np.random.default_rng([SEED, first]), SHARE), portrait_camera()
    return len([render(person, camera, buffers=buffers) for person in people])


def located(model: str) -> str:
    """The folder of a model by its name."""
    from safelight.generate.source import locate

    return str(locate(model))


class Load(NamedTuple):
    """One load in a fresh process: its seconds and growth of memory, and the bytes of the weight files."""

    run: Run
    files: int


def loaded(folder: Path) -> Load:
    """Load a model in the number format of its files, read every weight once, and say by how much the process grew.

    The same is done once before, and kept: that fetches the program's own code into memory, no part of the load.
    """
    from safelight.generate.pipe import Pipe, load
    from safelight.weights.folder import weight_files
    from safelight.weights.load import DTYPES
    from safelight.weights.safetensors import read_header

    entries = read_header(weight_files(folder / "unet")[0]).entries
    dtype = str(DTYPES[next(iter(entries.values())).dtype]).removeprefix("torch.")

    def whole() -> tuple[Pipe, float]:
        begin = time.perf_counter()
        pipe = load(str(folder), device="cpu", dtype=dtype)
        seconds = time.perf_counter() - begin
        for module in (pipe.model.network, *pipe.model.encoders, pipe.model.vae):
            for weight in module.parameters():
                weight.detach().reshape(-1)[::512].sum()  # one number of every page
        return pipe, seconds

    kept, _ = whole()
    before = resident()
    anew = reset_peak()
    pipe, seconds = whole()
    most = peak() if anew else None
    files = sum(file.stat().st_size for file in {*kept.model.files, *pipe.model.files} if file.suffix == ".safetensors")
    return Load(Run(seconds, None if most is None or before is None else most - before), files)


def _elsewhere(function: Callable[..., Any], *words: Any) -> Any:
    """The answer of a function that runs in a fresh process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *words).result()


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case("import", "import safelight, load the default model", "import torch", 5, start),
        Case("help", "safelight --help", "a bare interpreter", 9, help_),
        Case("inspect", "safelight inspect, a single file of XL", "import torch", 9, inspect),
        Case("prompt-to-png", f"safelight generate, {STEPS} steps", "diffusers, the same model", 5, prompt_to_png),
        Case("unet-step", "Stable Diffusion 1.5 U-Net, 2 rows, 512x512, float32", "diffusers", 3, unet_step),
        Case("solver-cost", "the slowest sampler, for one answer", "Stable Diffusion 1.5 U-Net", 3, solver_cost),
        Case("seed-contract", "eight pictures, each in calls of 2 rows", "calls of 16 rows", 5, seed_contract),
        Case("render", "portraits of 128x128 pixels, RGB and mask, all cores", "the same with all buffers", 5, render),
        Case("memory", "memory of the loaded default model", "its files", 3, memory),
    )
}


def find(name: str) -> Case:
    """A row of the table by its name; UnknownNameError where there is none."""
    if name not in CASES:
        raise UnknownNameError("case", name, CASES)
    return CASES[name]
