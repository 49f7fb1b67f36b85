"""The command as a user runs it, in this process: what it says, what it returns, what it leaves in the folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from safelight.cli.main import main
from safelight.generate.file import open_picture
from safelight.generate.recipe import Recipe, recipe_in
from tests.models import tiny

PROMPT = "a person with green hair"


@dataclass(frozen=True)
class Said:
    """What one command said and returned."""

    code: int
    out: str
    err: str


class Shell:
    """An empty folder to be in, and the command."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys

    def run(self, *words: str) -> Said:
        """``safelight WORDS``."""
        try:
            code = main(list(words))
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        out, err = self.capsys.readouterr()
        return Said(code, out, err)

    def generate(self, *words: str, prompt: str | None = PROMPT, model: str | Path | None = None) -> Said:
        """``safelight generate`` with a tiny model, one thread, two steps and a seed, where the words do not say."""
        plain = ["-m", str(model or tiny())]
        for flag, value in (("--threads", "1"), ("--steps", "2"), ("--seed", "5")):
            if flag not in words:
                plain += [flag, value]
        return self.run("generate", *([] if prompt is None else [prompt]), *plain, *words)

    def drawn(self, *words: str, prompt: str | None = PROMPT, model: str | Path | None = None) -> Recipe:
        """The recipe of the one picture that a request draws, with its pixels kept in ``pixels``."""
        before = set(self.names())
        said = self.generate(*words, prompt=prompt, model=model)
        assert said.code == 0, said.err
        (name,) = set(self.names()) - before
        picture = open_picture(self.folder / name)
        self.pixels = picture.tobytes()
        return recipe_in(picture)

    def names(self) -> list[str]:
        """Every file and folder here."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))


def wrong(said: Said, code: int = 2) -> str:
    """The one line of a command that failed as it should."""
    assert said.code == code, said
    assert said.out == ""
    assert said.err.startswith("safelight") and said.err.count("\n") == 1, said.err
    assert "Traceback" not in said.err
    return said.err
