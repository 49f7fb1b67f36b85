"""Files of at most 400 lines, functions of at most 60, at most 8 parameters."""

from __future__ import annotations

import ast

from tests.architecture.source import Function, Source, sources

FILE_LINES, FUNCTION_LINES, PARAMETERS = 400, 60, 8


def test_files_have_at_most_400_lines() -> None:
    long = {s.path: count for s in sources() if (count := s.text.count("\n")) > FILE_LINES}
    assert not long, long


def test_functions_have_at_most_60_lines() -> None:
    long = []
    for source in sources():
        for node in source.functions():
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > FUNCTION_LINES:
                long.append(f"{source.path}:{node.lineno} {node.name} has {lines}")
    assert not long, "\n".join(long)


def test_functions_have_at_most_8_parameters() -> None:
    networks = _networks()
    many = []
    for source in sources():
        excepted = _constructors(source, networks)
        for node in source.functions():
            if node not in excepted and _parameters(node) > PARAMETERS:
                many.append(f"{source.path}:{node.lineno} {node.name} has {_parameters(node)}")
    assert not many, "\n".join(many)


def _parameters(node: Function) -> int:
    given = node.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, [given.vararg, given.kwarg])]
    return len([name for name in named if name.arg not in ("self", "cls")])


def _networks() -> set[str]:
    """Names of the classes that derive from nn.Module, directly or through another class of ours."""
    bases: dict[str, set[str]] = {}
    for source in sources():
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef):
                bases.setdefault(node.name, set()).update(ast.unparse(base).split(".")[-1] for base in node.bases)
    networks = {"Module"}
    while more := {name for name, parents in bases.items() if parents & networks} - networks:
        networks |= more
    return networks


def _constructors(source: Source, networks: set[str]) -> set[ast.AST]:
    return {
        method
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef) and node.name in networks
        for method in node.body
        if isinstance(method, Function) and method.name == "__init__"
    }
