"""The page of views in normals and colours runs as it stands."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.docs.pages import run
from tests.parity.domains import TEXT, H, W, written


def test_the_page_draws_views_as_it_stands(tmp_path: Path) -> None:
    token, latents = torch.randn(1, 1, TEXT), torch.randn(1, 4, H, W)
    names = run("docs/learn/domains.md", wonder3d=written("wonder3d", tmp_path), token=token, latents=latents)
    assert names["normals"].shape == names["colours"].shape == (1, 4, 6, H, W) and names["last"].last
    assert names["last"].x.isfinite().all()
