"""Measures a pipeline of several views at its full size, stage by stage, beside the same work in diffusers' parts.

``python -m benchmarks.view_pipeline`` builds MVDream's U-Net (Stable Diffusion 2.1, all views dense) and autoencoder
from random numbers, the same in both libraries' modules, checks that they answer alike, and times by turns: one step
of four views with guidance, and the decoding of four views. It appends one line a stage to
``benchmarks/results/views-*.jsonl``, and writes what a picture takes in ``--steps`` steps, the arithmetic per second
and the most memory to ``evidence/views-speed.json``. Steps are measured a few times and multiplied; this is said in
the claim.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from safelight.evaluate.bench import Line
from safelight.evaluate.evidence import Finding, claim, record, rounded
from safelight.evaluate.memory import peak, reset_peak
from safelight.evaluate.origin import Origin, checkout, origin
from safelight.evaluate.timing import Pairs, Run, by_turns, clocked
from safelight.families.sd.model import UNet, UNetConfig
from safelight.multiview.layouts import layout
from safelight.multiview.network import Conditions, ViewNetwork
from safelight.runtime.device import describe, pick, wait
from safelight.vae.kl import AutoencoderKL, KLConfig

VIEWS, ROWS, TOKENS, WIDTH = 4, 2, 77, 1024
CLOSE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""How much of the largest number the two may differ by."""
SD21 = {
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": WIDTH,
    "use_linear_projection": True,
    "class_embed_type": "projection",
    "projection_class_embeddings_input_dim": 16,
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}


class Dense:
    """diffusers' own attention, which is handed the tokens of all views as one picture."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, attn: Any, hidden_states: torch.Tensor, *words: Any, **named: Any) -> torch.Tensor:
        rows, tokens, width = hidden_states.shape
        said = self.inner(attn, hidden_states.reshape(rows // VIEWS, VIEWS * tokens, width), *words, **named)
        found: torch.Tensor = said.reshape(rows, tokens, width)
        return found


@dataclass(frozen=True)
class Stage:
    """One stage: its name, and the same work by both; each gives its answer."""

    name: str
    ours: Callable[[], torch.Tensor]
    theirs: Callable[[], torch.Tensor]


def step(size: int, device: torch.device, dtype: torch.dtype) -> Stage:
    """One step of four views: both sides of the guidance in one call."""
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import AttnProcessor2_0

    theirs: Any = UNet2DConditionModel(**SD21)
    inner = AttnProcessor2_0()
    theirs.set_attn_processor({n: Dense(inner) if "attn1" in n else inner for n in theirs.attn_processors})
    theirs.to(device, dtype).eval().requires_grad_(False)
    with torch.device("meta"):
        unet = UNet(UNetConfig.from_dict(dict(theirs.config)))
    unet.load_state_dict(theirs.state_dict(), assign=True)
    ours = ViewNetwork(unet.eval().requires_grad_(False), layout("dense"))
    edge, noise = size // 8, torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 4, VIEWS, edge, edge, generator=noise).to(device, dtype)
    text = torch.randn(ROWS, TOKENS, WIDTH, generator=noise).to(device, dtype)
    cameras = torch.randn(ROWS, VIEWS, 16, generator=noise).to(device, dtype)
    t = torch.full((ROWS,), 500.0, device=device)
    told = Conditions(context=text, cameras=cameras)
    flat, texts = x.transpose(1, 2).flatten(0, 1), text.repeat_interleave(VIEWS, 0)

    def stock() -> torch.Tensor:
        said = theirs(flat, t.repeat_interleave(VIEWS), texts, class_labels=cameras.flatten(0, 1)).sample
        found: torch.Tensor = said.unflatten(0, (ROWS, VIEWS)).transpose(1, 2)
        return found

    return Stage("step", lambda: ours(x, t, told), stock)


def decoding(size: int, device: torch.device, dtype: torch.dtype) -> Stage:
    """Four views to pictures, one after the other, so that memory is that of one."""
    from diffusers import AutoencoderKL as Stock

    theirs: Any = Stock(**VAE).to(device, dtype).eval().requires_grad_(False)
    with torch.device("meta"):
        ours = AutoencoderKL(KLConfig(**VAE))
    ours.load_state_dict(theirs.state_dict(), assign=True)
    ours.eval().requires_grad_(False)
    z = torch.randn(VIEWS, 4, size // 8, size // 8, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    return Stage(
        "decoding",
        lambda: torch.cat([ours.decode(each[None]) for each in z]),
        lambda: torch.cat([theirs.decode(each[None]).sample for each in z]),
    )


@torch.inference_mode()
def measured(stage: Stage, turns: int, device: torch.device, dtype: torch.dtype) -> tuple[Pairs, float]:
    """Both by turns, and how many operations one of ours takes.

    Raises:
        SystemExit: they do not answer alike, so their times mean nothing.
    """
    with FlopCounterMode(display=False) as counter:
        mine = stage.ours()
    other = stage.theirs()
    if (mine - other).abs().max() > CLOSE[dtype] * other.abs().max():
        raise SystemExit(f"{stage.name}: ours and diffusers' differ, so their times cannot be compared")

    def timed(work: Callable[[], torch.Tensor]) -> Callable[[], Run]:
        def run() -> Run:
            anew = reset_peak()
            wait(device)
            seconds = clocked(lambda: (work(), wait(device)))().seconds
            most = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak() if anew else None
            return Run(seconds, most)

        return run

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    return by_turns(timed(stage.ours), timed(stage.theirs), turns, 1 if device.type != "cpu" else 0), float(
        counter.get_total_flops()
    )


def findings(name: str, pairs: Pairs, flops: float, steps: int, what: str) -> list[Finding]:
    """What is said of one stage."""
    times = steps if name == "step" else 1
    many = f"{steps} steps, one measured and multiplied," if name == "step" else name
    found = [
        Finding(f"{what}: {many} take", pairs.median_s * times, "s"),
        Finding(f"{what}: {name}, arithmetic", flops / pairs.median_s / 1e12, "TFLOP/s"),
        Finding(f"{what}: {name}, diffusers' time over ours", pairs.ratio or 0.0, "times"),
    ]
    if pairs.peak_bytes:
        found.append(Finding(f"{what}: {name}, the most memory held", pairs.peak_bytes / 1e9, "GB"))
    return found


def line(name: str, pairs: Pairs, what: str, source: Origin) -> Line:
    """What is kept of one stage."""
    return Line(
        case=f"views-{name}",
        subject=f"{name}, {what}",
        opponent="diffusers' parts",
        ratio=None if pairs.ratio is None else rounded(pairs.ratio),
        median_s=rounded(pairs.median_s),
        spread=rounded(pairs.spread),
        peak_bytes=pairs.peak_bytes,
        **asdict(source),
    )


def main() -> None:
    """Measure, record, say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="pixels a side; MVDream's own is 256")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    args = parser.parse_args()
    place = pick(args.device, args.dtype)
    said = f"--size {args.size} --steps {args.steps} --turns {args.turns}"
    said += f" --device {args.device}" * bool(args.device) + f" --dtype {args.dtype}" * bool(args.dtype)
    source, root, claims = origin(f"python -m benchmarks.view_pipeline {said}"), checkout(), []
    numbers = str(place.dtype).removeprefix("torch.")
    what = f"{VIEWS} views of {args.size}x{args.size}, Stable Diffusion 2.1, dense, {numbers}, {describe(place.device)}"
    for build in (step, decoding):
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(0)
            stage = build(args.size, place.device, place.dtype)
        pairs, flops = measured(stage, args.turns, place.device, place.dtype)
        claims += [claim(finding, source) for finding in findings(stage.name, pairs, flops, args.steps, what)]
        if root is not None:
            kept = line(stage.name, pairs, what, source)
            with open(root / f"benchmarks/results/{kept.case}.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(kept)) + "\n")
    if root is not None:
        record(root / "evidence/views-speed.json", claims)
    for each in claims:
        print(f"{each.claim} {each.value:g} {each.unit}")


if __name__ == "__main__":
    main()
