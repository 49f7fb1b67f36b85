"""Measures what a view costs, by who reads whom and by how many views are drawn together.

``python -m benchmarks.view_layouts`` asks a U-Net of random numbers (Stable Diffusion 2's blocks at half their widths,
views of 256 x 256 pixels) for sets of 1, 2, 4 and 8 views, by turns over all layouts, in one thread and counted in the
processor's own time, so that what else the machine does is hardly in the figures. It writes
``evidence/views-layouts.json`` and the curves beside it. Layouts change nothing but who reads whom: all else of a step
is the same for each of them.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from typing import Final

import torch

from safelight.core.camera import Camera
from safelight.evaluate.chart import Axis, Line, chart
from safelight.evaluate.evidence import Finding, claim, record
from safelight.evaluate.origin import checkout, origin
from safelight.families.sd.model import UNet, UNetConfig
from safelight.multiview.layouts import LAYOUTS, layout
from safelight.multiview.network import Conditions, ViewNetwork
from safelight.weights.load import Unfilled
from safelight.weights.save import write

COUNTS: Final = (1, 2, 4, 8)
EDGE, TOKENS = 32, 77
SHOWN: Final = ("self", "rows", "front-self", "same-pixel", "dense", "epipolar")
"""The layouts of the picture; the others cost what one of these does."""


def unet() -> UNet:
    """Random numbers in the shape of half a Stable Diffusion 2."""
    config = UNetConfig(
        block_out_channels=(160, 320, 640, 640),
        attention_head_dim=(5, 5, 10, 10),
        cross_attention_dim=1024,
        use_linear_projection=True,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=16,
    )
    generator = torch.Generator().manual_seed(0)
    with Unfilled():
        made = UNet(config).eval()
    for parameter in made.requires_grad_(False).parameters():
        parameter.normal_(0, 0.02, generator=generator)
    return made


def seconds(stock: UNet, name: str, count: int) -> float:
    """Processor seconds of one answer for one set of ``count`` views."""
    cameras = Camera.ring(count, distance=4.0, size=8 * EDGE)
    network = ViewNetwork(stock, layout(name, cameras if LAYOUTS[name].needs_cameras else None))
    told = Conditions(context=torch.zeros(1, TOKENS, 1024), cameras=torch.zeros(1, count, 16))
    x, t = torch.zeros(1, 4, count, EDGE, EDGE), torch.tensor([500.0])
    with torch.inference_mode():
        begun = time.process_time()
        network(x, t, told)
    return time.process_time() - begun


def measured(turns: int) -> dict[str, dict[int, float]]:
    """Layout -> number of views -> seconds a view, the median of turns."""
    torch.set_num_threads(1)
    stock = unet()
    seconds(stock, "self", 1)  # the first one fills caches
    found: dict[str, dict[int, list[float]]] = {name: {count: [] for count in COUNTS} for name in LAYOUTS}
    for _ in range(turns):
        for count in COUNTS:
            for name in LAYOUTS:
                found[name][count].append(seconds(stock, name, count) / count)
    return {name: {n: statistics.median(each) for n, each in row.items()} for name, row in found.items()}


def main() -> None:
    """Measure, record, draw, say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3, help="of each measurement")
    turns = parser.parse_args().turns
    source, found = origin(f"python -m benchmarks.view_layouts --turns {turns}"), measured(turns)
    alone = found["self"][1]
    findings = [
        Finding(f"{name}, {count} views together: a view costs, of one drawn alone,", row[count] / alone, "times")
        for name, row in found.items()
        for count in COUNTS
    ]
    claims = [claim(finding, source) for finding in findings]
    root = checkout()
    if root is not None:
        record(root / "evidence/views-layouts.json", claims)
        lines = [Line(name, [(n, value / alone) for n, value in found[name].items()]) for name in SHOWN]
        data = io.BytesIO()
        chart(lines, Axis("views drawn together", True), Axis("cost of a view, of one drawn alone")).save(data, "PNG")
        write(root / "evidence/views-layouts.png", [data.getvalue()])
    for each in claims:
        print(f"{each.claim} {each.value:g} {each.unit}")


if __name__ == "__main__":
    main()
