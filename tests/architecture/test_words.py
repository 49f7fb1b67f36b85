"""What may not be written: names that say nothing, second ways, prints, paths of one machine."""

from __future__ import annotations

import ast
import re
from pathlib import PurePosixPath

from tests.architecture.source import Function, sources, tracked_texts

READERS = ("safelight.runtime.device", "safelight.runtime.folders")
"""Who reads the environment, beside the command and the server."""
EMPTY_FILE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base", "shared", "stuff"}
EMPTY_CLASS_NAMES = re.compile(r"(Manager|Helper|Helpers|Util|Utils|Mixin)$")
# An absolute path below a folder of somebody's machine, or of a neighbour folder of the checkout.
HOME_FOLDERS = ("work", "root", "home", "Users", "opt", "tmp", "mnt")
MACHINE_PATH = re.compile(r"(?<![\w.~/}>-])/(" + "|".join(HOME_FOLDERS) + r")/\S|\.\./" + "sha" + "red")
SKETCHES = re.compile("sha" + r"red/(notes|design|sketches|features)")


def test_no_file_has_a_name_that_says_nothing() -> None:
    empty = [s.path for s in sources() if EMPTY_FILE_NAMES & set(PurePosixPath(s.path).with_suffix("").parts)]
    assert not empty, empty


def test_no_class_has_a_name_that_says_nothing() -> None:
    empty = [
        f"{s.path}:{node.lineno} {node.name}"
        for s in sources()
        for node in ast.walk(s.tree)
        if isinstance(node, ast.ClassDef) and EMPTY_CLASS_NAMES.search(node.name)
    ]
    assert not empty, empty


def test_only_the_command_line_prints() -> None:
    prints = []
    for source in sources("safelight"):
        if source.package == "cli":
            continue
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.stdout.write"):
                prints.append(f"{source.path}:{node.lineno}")
    assert not prints, prints


def test_the_environment_is_read_in_four_places_only() -> None:
    readers = []
    for source in sources("safelight"):
        if source.package in ("cli", "server") or source.module in READERS:
            continue
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv"):
                readers.append(f"{source.path}:{node.lineno}")
    assert not readers, readers


def test_weights_are_never_loaded_loosely() -> None:
    """``strict=False`` leaves missing weights random without a word (of ``zip`` it says only the default)."""
    loose = [
        f"{source.path}:{node.lineno}"
        for source in sources("safelight")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) != "zip"
        for option in node.keywords
        if option.arg == "strict" and ast.unparse(option.value) == "False"
    ]
    assert not loose, loose


def test_options_are_named_and_never_passed_through() -> None:
    """``f(**kwargs)`` of what came as ``**kwargs`` hides what a function takes."""
    through = [
        f"{source.path}:{node.lineno} {node.name}"
        for source in sources("safelight")
        for node in source.functions()
        if node.args.kwarg is not None
        for call in ast.walk(node)
        if isinstance(call, ast.Call)
        for option in call.keywords
        if option.arg is None and ast.unparse(option.value) == node.args.kwarg.arg
    ]
    assert not through, through


def test_every_module_says_what_it_is() -> None:
    silent = [s.path for s in sources("safelight") if not ast.get_docstring(s.tree)]
    assert not silent, silent


def test_every_module_postpones_its_annotations() -> None:
    """Annotations are for readers and checkers; nothing is imported or evaluated for their sake."""
    eager = [
        s.path
        for s in sources("safelight")
        if any(isinstance(node, Function) for node in ast.walk(s.tree))
        and "__future__.annotations" not in {name for name, _ in s.imports()}
    ]
    assert not eager, eager


def test_nothing_mentions_paths_of_one_machine() -> None:
    named = []
    for path, text in tracked_texts():
        for number, line in enumerate(text.splitlines(), 1):
            if MACHINE_PATH.search(line) or SKETCHES.search(line):
                named.append(f"{path}:{number}: {line.strip()[:100]}")
    assert not named, "\n".join(named)


def test_nobody_seeds_a_generator_that_others_draw_from() -> None:
    seeded = []
    for source in sources("safelight"):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "torch.manual_seed",
                "np.random.seed",
                "random.seed",
            ):
                seeded.append(f"{source.path}:{node.lineno}")
    assert not seeded, seeded
