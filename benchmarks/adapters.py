"""Measures what an adapter costs: attaching it, a step of the network with it, and what is left of it afterwards.

``python -m benchmarks.adapters`` builds a U-Net and a text encoder of Stable Diffusion 1's sizes from random numbers,
writes a LoRA of rank 16 for all their layers of attention and all convolutions, and records what it saw in
``evidence/adapters.json``. Steps of two equal networks are measured by turns, in the processor's own time of one
thread, so that what else the machine does is hardly in the figures; attaching is measured by the clock, the best of
several.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from safelight.adapters.lora.attach import attach, detach, merge, unmerge
from safelight.adapters.lora.file import Lora, load
from safelight.encoders.clip import ClipText, ClipTextConfig
from safelight.evaluate.evidence import Finding, claim, record
from safelight.evaluate.memory import resident
from safelight.evaluate.origin import checkout, origin
from safelight.families.sd.model import UNet, UNetConfig
from safelight.weights.load import Unfilled
from safelight.weights.save import save

RANK, ROUNDS, EDGE = 16, 100, 32
KINDS = {
    "attention": ("attn", "ff.net", "proj_in", "proj_out", "self_attn", "mlp"),
    "all layers": ("attn", "ff.net", "proj_in", "proj_out", "self_attn", "mlp", "conv", "emb"),
}
"""What is changed: words of layers' names."""


def network() -> Any:
    """As much of a model as adapters look at, of random numbers."""
    generator = torch.Generator().manual_seed(0)
    with Unfilled():
        modules = [UNet(UNetConfig()).eval(), ClipText(ClipTextConfig()).eval()]
    for module in modules:
        for parameter in module.requires_grad_(False).parameters():
            parameter.normal_(0, 0.02, generator=generator)
    return SimpleNamespace(
        network=modules[0], encoders=(modules[1],), family="sd", folder=Path("sd1"), modules=tuple(modules)
    )


def write(model: Any, place: Path, words: tuple[str, ...]) -> int:
    """A LoRA in kohya's names; how many layers it changes."""
    tensors: dict[str, torch.Tensor] = {}
    for prefix, module in (("lora_unet_", model.network), ("lora_te_", model.encoders[0])):
        for name, layer in module.named_modules():
            if isinstance(layer, nn.Linear | nn.Conv2d) and any(word in name for word in words):
                out, *into = layer.weight.shape
                stem = prefix + name.replace(".", "_")
                tensors[f"{stem}.lora_down.weight"] = torch.randn(RANK, *into) * 0.02
                tensors[f"{stem}.lora_up.weight"] = torch.randn(out, RANK, *[1] * (len(into) - 1)) * 0.02
                tensors[f"{stem}.alpha"] = torch.tensor(float(RANK))
    save({name: tensor.half() for name, tensor in tensors.items()}, place)
    return len(tensors) // 3


@torch.no_grad()
def step(model: Any) -> float:
    """Seconds of the processor for one row at 256 × 256 pixels."""
    x, told = torch.ones(1, 4, EDGE, EDGE), torch.ones(1, 77, 768)
    begun = time.process_time()
    model.network(x, torch.tensor([500.0]), told)
    return time.process_time() - begun


def steps(model: Any, other: Any, lora: Lora, turns: int) -> tuple[float, float]:
    """What a step costs attached, and merged, by what it costs plain, in steps that follow each other.

    Two equal networks lie elsewhere in memory and differ by some hundredths, so what they differ by is divided out.

    Args:
        other: the same network again, which is changed, so that nothing lies between the two steps of a pair.
    """
    plain = ratio(model, other, turns)
    attach(other, lora)
    attached = ratio(model, other, turns)
    detach(other, lora.name)
    merge(other, lora)
    merged = ratio(model, other, turns)
    unmerge(other, lora.name)
    return attached / plain, merged / plain


def ratio(model: Any, other: Any, turns: int) -> float:
    """The best step of the second by the best of the first, measured in turn, either first: what else the machine does
    only ever adds.
    """
    step(model), step(other)
    first: list[float] = []
    second: list[float] = []
    for turn in range(turns):
        for each, seconds in ((model, first), (other, second))[:: -1 if turn % 2 else 1]:
            seconds.append(step(each))
    return min(second) / min(first)


def loading(place: Path, turns: int) -> tuple[Lora, float]:
    """A file, loaded, and the best time by the clock."""
    seconds = []
    for _ in range(turns):
        begun = time.perf_counter()
        lora = load(place)
        seconds.append(time.perf_counter() - begun)
    return lora, min(seconds)


def attaching(model: Any, lora: Lora, turns: int) -> float:
    """The best time by the clock of matching and attaching; the file is loaded, its numbers were looked at."""
    seconds = []
    for _ in range(turns):
        begun = time.perf_counter()
        attach(model, lora)
        seconds.append(time.perf_counter() - begun)
        detach(model, lora.name)
    return min(seconds)


def rounds(model: Any, lora: Lora) -> tuple[int, float]:
    """Tensors that differ after a hundred rounds of on and off, and MB of memory that were not given back."""
    before = {name: float(t.double().sum()) for m in model.modules for name, t in m.state_dict().items()}
    places = {name: t.data_ptr() for m in model.modules for name, t in m.state_dict().items()}
    attach(model, lora)
    detach(model, lora.name)
    held = resident()
    for _ in range(ROUNDS):
        attach(model, lora)
        detach(model, lora.name)
    grown = (resident() - held) / 1e6
    after = {name: t for m in model.modules for name, t in m.state_dict().items()}
    moved = sum(
        after[name].data_ptr() != places[name] or float(after[name].double().sum()) != before[name] for name in after
    )
    return moved, grown


def findings(turns: int, folder: Path) -> list[Finding]:
    """Everything that is claimed of adapters."""
    torch.set_num_threads(1)
    model, other, found = network(), network(), []
    for kind, words in KINDS.items():
        count = write(model, folder / "it.safetensors", words)
        lora, loaded = loading(folder / "it.safetensors", turns)
        of = f"a LoRA of rank {RANK} for {kind} of Stable Diffusion 1 ({count} layers)"
        found += [
            Finding(f"{of} is loaded, every number looked at, in", loaded, "s", "<= 1"),
            Finding(f"{of} is matched and attached in", attaching(model, lora, turns), "s", "<= 0.5"),
        ]
        attached, merged = steps(model, other, lora, turns)
        bar = "<= 1.1" if kind == "attention" else None
        found += [
            Finding(f"{of}, attached: a step takes, of the plain one's time,", attached, "times", bar),
            Finding(f"{of}, merged: a step takes, of the plain one's time,", merged, "times", "<= 1.02"),
        ]
        if kind == "attention":
            moved, grown = rounds(model, lora)
            found += [
                Finding(
                    f"tensors that {ROUNDS} rounds of attaching and detaching it changed", moved, "tensors", "<= 0"
                ),
                Finding(f"memory grew in {ROUNDS} rounds of attaching and detaching it, by", grown, "MB", "<= 20"),
            ]
    return found


def main() -> None:
    """Measure, record, say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=21, help="of each measurement")
    turns = parser.parse_args().turns
    source = origin(f"python -m benchmarks.adapters --turns {turns}")
    with tempfile.TemporaryDirectory() as folder:
        claims = [claim(finding, source) for finding in findings(turns, Path(folder))]
    root = checkout()
    if root is not None:
        record(root / "evidence/adapters.json", claims)
    for each in claims:
        print(
            f"{each.claim} {each.value:g} {each.unit}" + ("" if each.holds is None else f" ({each.bar}: {each.holds})")
        )


if __name__ == "__main__":
    main()
