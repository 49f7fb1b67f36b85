"""The project's own source, read once as text and as syntax trees, for the tests of its architecture."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = ("safelight", "tests", "benchmarks", "examples")
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One Python file: where it is (``path``, below the project), its text and its tree."""

    path: str
    text: str
    tree: ast.Module

    @property
    def module(self) -> str:
        """Its dotted name: ``safelight/cli/main.py`` is ``safelight.cli.main``; a package is its ``__init__``."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def package(self) -> str:
        """The room below safelight: ``core``, ``cli``, ``errors``; empty for the root's own two files."""
        parts = self.module.split(".")
        return parts[1] if len(parts) > 1 and parts[1] != "__main__" else ""

    def functions(self) -> Iterator[Function]:
        """Every function and method, however deep."""
        for node in ast.walk(self.tree):
            if isinstance(node, Function):
                yield node

    def imports(self, *, types: bool = False, inner: bool = True) -> Iterator[tuple[str, int]]:
        """Dotted names of what is imported, with the line; ``from a import b`` gives ``a.b``.

        Args:
            types: with those under ``if TYPE_CHECKING``, which never run.
            inner: with those inside functions, which run late.
        """
        yield from _imports(self.tree.body, types=types, inner=inner)


@cache
def sources(*tops: str) -> tuple[Source, ...]:
    """All Python files below the folders named, in order of their path."""
    found = []
    for top in tops or CODE:
        for file in sorted((ROOT / top).rglob("*.py")):
            text = file.read_text(encoding="utf-8")
            found.append(Source(file.relative_to(ROOT).as_posix(), text, ast.parse(text)))
    return tuple(found)


@cache
def tracked_texts() -> tuple[tuple[str, str], ...]:
    """Every text file that git knows or would add, as (path, text)."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
    found = []
    for name in sorted(set(filter(None, names))):
        file = ROOT / name
        data = file.read_bytes() if file.is_file() else b"\0"
        if b"\0" not in data[:8192]:
            found.append((name, data.decode("utf-8")))
    return tuple(found)


def _imports(body: list[ast.stmt], *, types: bool, inner: bool) -> Iterator[tuple[str, int]]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are written in full, never relative"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _imports(node.body if types else [], types=types, inner=inner)
            yield from _imports(node.orelse, types=types, inner=inner)
        elif inner or not isinstance(node, Function):
            for block in ("body", "orelse", "finalbody"):
                yield from _imports(getattr(node, block, []), types=types, inner=inner)
            for handler in [*getattr(node, "handlers", []), *getattr(node, "cases", [])]:
                yield from _imports(handler.body, types=types, inner=inner)
