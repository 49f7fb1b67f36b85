"""The pages tell the truth: what they name exists, their tables are complete, and their code runs."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks, pages, run

LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)
CODE_BLOCK = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|toml|md|txt))`")
ALONE = {"zero123.md", "domains.md", "views.md"}  # run with a model, by a test of its own
RUN = [
    page.relative_to(ROOT).as_posix()
    for page in pages()
    if page.parent.name in ("choose", "learn", "docs") and page.name not in ALONE
]


def section(page: str, heading: str = "") -> str:
    text = (ROOT / page).read_text(encoding="utf-8")
    return text if not heading else text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere_and_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in LINK.findall(CODE.sub("", text)) if "://" not in link]
    lost = [link for link in links if not (page.parent / link).exists()]
    assert not lost, f"{page}: no such files: {lost}"
    if page.parent.name in ("extend", "decisions") or page.name in ("CHANGELOG.md", "STYLE.md", "CONTRIBUTING.md"):
        return  # they name files that are to be written, or that were
    named = [
        name for name in FILE.findall(text) if not (ROOT / name).exists() and not (ROOT / "safelight" / name).exists()
    ]
    assert not named, f"{page}: no such files: {named}"


@pytest.mark.parametrize("page", [page for page in RUN if list(blocks(ROOT / page, "python"))])
def test_the_code_of_a_page_runs(page: str) -> None:
    run(page)


def test_every_sampler_stands_in_its_table_with_what_it_claims() -> None:
    from safelight.core.path import vp_scaled_linear
    from safelight.core.samplers.table import SAMPLERS
    from safelight.core.schedule import karras

    path = vp_scaled_linear()
    for name, row in SAMPLERS.items():
        few, many = (row.evaluations(karras(path, n), path) for n in (12, 24))  # the ends of a run may cost less
        each = "varies" if few is None or many is None else round((many - few) / 12)
        noise, options = "yes" if row.stochastic else "no", ", ".join(f"`{option}`" for option in sorted(row.options))
        line = f"| `{name}` | {each} | {row.order} | {noise} | "
        found = [
            text for text in section("docs/choose/a-sampler.md", "All of them").splitlines() if text.startswith(line)
        ]
        assert found, f"docs/choose/a-sampler.md lacks a line that begins with {line}"
        assert ", ".join(sorted(re.findall(r"`\w+`", found[0][len(line) :]))) == options


def test_every_schedule_stands_in_its_table() -> None:
    from safelight.core.schedule import SCHEDULES

    assert set(re.findall(r"^\| `(\w+)` \|", section("docs/choose/schedule.md"), re.MULTILINE)) == set(SCHEDULES)


def first_column(page: str, heading: str = "") -> set[str]:
    """The names in backticks of the first column of a page's tables."""
    rows = re.findall(r"^\| (.+?) \|", section(page, heading), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([\w.]+)`", row)}


def test_every_field_of_the_recipe_is_explained_and_no_other() -> None:
    from safelight.generate.recipe import NUMERICS, Recipe

    page = "docs/reference/recipe.md"
    assert first_column(page) == {field.name for field in dataclasses.fields(Recipe)}
    assert f"**`numerics`** is {NUMERICS}." in section(page)


def test_the_seed_contract_names_every_field_that_decides_bits() -> None:
    from safelight.generate.recipe import Recipe

    rows = section("docs/learn/seeds.md", "What picture *i* depends on").partition("| --- |")[2]
    named = {name.partition(".")[0] for name in re.findall(r"`([\w.]+)`", rows.partition("\n\n")[0])}
    # The task, the steps and the schedule follow from what is named, the camera is only told.
    assert named == {field.name for field in dataclasses.fields(Recipe)} - {
        *("camera", "safelight", "schedule", "schedule_options", "steps", "task")
    }


def test_every_class_that_is_read_from_a_folder_is_listed() -> None:
    from safelight.families.sd.classes import CLASSES, REFUSED
    from safelight.generate.models import FAMILIES

    text = section("docs/reference/files.md")
    known = {name for family in FAMILIES for name in family.pipelines} | set(CLASSES) | set(REFUSED)
    assert set(re.findall(r"`(\w+(?:Pipeline|Scheduler))`", text)) == known


def test_every_attribute_of_a_figurine_stands_in_its_table() -> None:
    from safelight.figurines.attributes import ATTRIBUTES
    from safelight.figurines.splits import SPLITS

    page = "docs/figurines.md"
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", section(page, "A person is sixteen words"), re.MULTILINE))
    assert {name: tuple(values.split(", ")) for name, values in rows.items()} == ATTRIBUTES
    assert first_column(page, "Splits") == set(SPLITS)


def test_every_section_and_setting_of_training_stands_in_its_page() -> None:
    from safelight.train.figurines.plan import SECTIONS

    text = section("docs/training.md")
    for name, kind in SECTIONS.items():
        assert f"`[{name}]`" in text, name
        for field in dataclasses.fields(kind):
            assert f"`{field.name}`" in text, f"[{name}] {field.name}"


SHOWN = [
    (page.relative_to(ROOT).as_posix(), line)
    for page in pages()
    for block in blocks(page, "sh")
    for line in re.findall(r"(?:^|/|&& )(safelight [^&|#\n]*)", block.text, re.MULTILINE)
]


@pytest.mark.parametrize(("page", "line"), SHOWN)
def test_commands_that_pages_show_are_understood(page: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    from safelight.cli.main import parser

    words = shlex.split(line)[1:]
    try:
        parser(words[0]).parse_args(words)
    except SystemExit:
        pytest.fail(f"{page}: {line}\n{capsys.readouterr().err}")


def test_commands_that_pages_name_exist() -> None:
    from safelight.cli.table import COMMANDS

    known = {command.name for command in COMMANDS}
    for page in pages():
        named = set(re.findall(r"`safelight ([a-z]+)[ `]", CODE_BLOCK.sub("", page.read_text(encoding="utf-8"))))
        assert named <= known, f"{page}: {named - known}"
