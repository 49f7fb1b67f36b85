"""Who may import whom, and which library may be used where."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.architecture.source import Source, sources

# Lowest first; rooms of one row do not know each other.
ROWS = (
    {"errors"},
    {"core", "nn", "weights"},
    {"runtime"},
    {"vae", "encoders", "lm", "figurines"},
    {"families"},
    {"adapters", "multiview"},
    {"generate", "train", "evaluate"},
    {"server"},
    {"cli"},
)
RANK = {room: rank for rank, row in enumerate(ROWS) for room in row}
# Arrows between neighbours, each with its reason.
EXTRA = {
    ("encoders", "lm"): "a language model's hidden states can be a text encoding",
    ("evaluate", "generate"): "what is measured is drawn the way a user draws it",
    ("train", "generate"): "sample sheets",
    ("multiview", "adapters"): "a camera trunk is a T2I adapter; reference attention shares its decoupled keys",
}
# What a family's own files may use, beside errors and the standard library.
FAMILY_FILES = {
    "model": {"nn"},
    "checkpoints": {"nn", "weights", "families"},
}
# Libraries and the rooms where they are at home; a library that is not here is not used.
LIBRARIES = {
    "torch": {"core", "nn", "weights", "runtime", "vae", "encoders", "lm", "families", "adapters", "multiview",
              "generate", "train", "evaluate", "server", "figurines"},
    "numpy": {"weights", "runtime", "figurines", "adapters", "multiview", "generate", "train", "evaluate", "server"},
    "PIL": {"encoders", "families", "figurines", "adapters", "multiview", "generate", "train", "evaluate", "server",
            "cli"},
    "tokenizers": {"encoders", "lm", "train"},
    "huggingface_hub": {"weights"},
    "rich": {"cli"},
    "fastapi": {"server"}, "uvicorn": {"server"}, "pydantic": {"server"}, "starlette": {"server"},
}  # fmt: skip
REFERENCES = {"diffusers", "transformers", "k_diffusion", "peft", "gguf", "scipy", "accelerate"}
REFERENCES_ARE_MEASURED_IN = {"safelight.evaluate.bench", "safelight.evaluate.verify"}
# Libraries of the extras and slow ones: inside the function that needs them.
LATE = {"rich", "huggingface_hub"}

PACKAGE = [source for source in sources("safelight") if source.path.count("/")]


def _own(source: Source) -> Iterator[tuple[str, int]]:
    for name, line in source.imports(types=True):
        if name.startswith("safelight.") and name != "safelight.__version__":
            yield name, line


def _room(name: str) -> str:
    return name.split(".")[1]


def test_rooms_import_downwards_only() -> None:
    wrong = []
    for source in PACKAGE:
        for name, line in _own(source):
            here, there = source.package, _room(name)
            if not here or here == there:
                continue
            assert {here, there} <= RANK.keys(), f"{source.path}: a room without a place in ROWS: {here} or {there}"
            if RANK[here] <= RANK[there] and (here, there) not in EXTRA:
                wrong.append(f"{source.path}:{line} imports {name}")
    assert not wrong, "\n".join(sorted(set(wrong)))


def test_there_are_no_import_cycles() -> None:
    modules = {source.module for source in PACKAGE}
    edges: dict[str, set[str]] = {}
    for source in PACKAGE:
        targets = {name if name in modules else name.rpartition(".")[0] for name, _ in source.imports()}
        edges[source.module] = (targets & modules) - {source.module, "safelight"}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, "a cycle: " + " -> ".join([*trail[trail.index(module) :], module])
        if module not in done:
            for target in sorted(edges[module]):
                visit(target, (*trail, module))
            done.add(module)

    for module in sorted(edges):
        visit(module, ())


def test_family_folders_do_not_know_each_other_and_models_know_only_layers() -> None:
    wrong = []
    for source in PACKAGE:
        parts = source.module.split(".")
        if source.package != "families" or len(parts) < 4:
            continue
        family, file = parts[2], parts[3]
        for name, line in _own(source):
            target = name.split(".")
            strange = target[1] == "families" and target[2] not in (family, "family")
            allowed = FAMILY_FILES.get(file)
            low = allowed is not None and target[1] not in allowed | {"errors"}
            from_model = file == "model" and target[1] == "families"
            if strange or low or from_model:
                wrong.append(f"{source.path}:{line} imports {name}")
    assert not wrong, "\n".join(sorted(set(wrong)))


def test_every_library_is_used_where_it_is_at_home() -> None:
    wrong = []
    for source in PACKAGE:
        for name, line in source.imports():
            library = name.split(".")[0]
            if library in sys.stdlib_module_names or library == "safelight":
                continue
            reference = library in REFERENCES and source.module in REFERENCES_ARE_MEASURED_IN
            # A command may import what it needs inside its functions; torch too.
            command = source.package == "cli" and library == "torch"
            if not reference and not command and source.package not in LIBRARIES.get(library, set()):
                wrong.append(f"{source.path}:{line} imports {library}")
    assert not wrong, "\n".join(sorted(set(wrong)))


def test_optional_and_slow_libraries_are_imported_inside_functions() -> None:
    wrong = []
    for source in PACKAGE:
        late = LATE | REFERENCES | ({"torch", "numpy", "PIL"} if source.package in ("cli", "errors", "") else set())
        for name, line in source.imports(inner=False):
            if name.split(".")[0] in late:
                wrong.append(f"{source.path}:{line} imports {name} when it is loaded")
    assert not wrong, "\n".join(sorted(set(wrong)))


@pytest.mark.parametrize("source", [s for s in PACKAGE if s.path.endswith("/__init__.py") and s.package])
def test_packages_load_nothing_by_themselves(source: Source) -> None:
    assert not list(source.imports()), "a package's __init__ holds its one-line docstring and imports nothing"


def test_imports_are_not_by_star() -> None:
    stars = [f"{s.path}:{line}" for s in sources() for name, line in s.imports() if name.endswith(".*")]
    assert not stars, stars
