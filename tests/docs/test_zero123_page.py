"""The page of Zero123 runs as it stands, and says of the rigs what their rows say."""

from __future__ import annotations

from tests.docs.pages import run
from tests.generate.scenes import picture
from tests.zero123 import tiny_zero123
from tests.zero123plus import tiny_zero123plus


def test_the_page_draws_views_as_it_stands() -> None:
    names = run("docs/learn/zero123.md", zero123=tiny_zero123(), zero123plus=tiny_zero123plus(), picture=picture())
    assert len(names["views"]) == 6 and names["view"].isfinite().all() and names["last"].last
