"""Imports flow one way through the rooms, and Ray stays where it belongs; inside functions too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOWEST = {
    "cpus",
    "documents",
    "errors",
    "faults",
    "files",
    "hosts",
    "interruption",
    "kept_memory",
    "redaction",
    "stored",
    "variables",
}
INSIDE = {"data", "models", "scoring"} | LOWEST
MAY_IMPORT = {
    "__main__": {"cli"},
    "cli": {"study", "champion", "launch", "machine", "results", "doctor", "search", "training"} | INSIDE,
    "results": {"study", "search", "training"} | INSIDE,
    "doctor": {"machine", "search", "training"} | INSIDE,
    "study": {"champion", "machine", "results", "search", "training"} | INSIDE,
    "champion": {"machine", "search", "training"} | INSIDE,
    "machine": {"claims", "head", "own_ray", "search", "training"} | INSIDE,
    "own_ray": LOWEST,
    "search": {"training"} | INSIDE,
    "training": INSIDE,
    "data": LOWEST,
    "scoring": LOWEST,
    "models": set(),
    "launch": {"models"} | LOWEST,
    "errors": {"redaction"},
    "documents": {"errors"},
    "redaction": set(),
    "faults": {"errors"},
    "files": set(),
    "stored": {"errors"},
    "cpus": set(),
    "hosts": {"errors"},
    "variables": set(),
    "claims": LOWEST,
    "head": LOWEST,
    "interruption": set(),
    "kept_memory": set(),
    "version": set(),
}
MAY_IMPORT_RAY = {
    "orchestrator.study",
    "orchestrator.champion",
    "orchestrator.machine",
    "orchestrator.own_ray",
    "orchestrator.launch.job_server",
    "orchestrator.launch.submit",
    "orchestrator.doctor.cluster",
    "orchestrator.search.trial",
    "orchestrator.search.searcher",
    "orchestrator.search.race",
    "orchestrator.training.lane",
    "orchestrator.training.room",
}
PICKLES = ("pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")
NO_RAY_AT_ALL = ("orchestrator.training.fit", "orchestrator.search.space", "orchestrator.search.ledger")


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(file): file
    for package in ("orchestrator", "models")
    for file in (ROOT / package).rglob("*.py")
}


def room(module: str) -> str:
    """The room of one of our modules; the package itself holds nothing but its version."""
    top, _, rest = module.partition(".")
    return top if top == "models" else rest.split(".")[0] or "version"


def imported(source: str) -> Iterator[str]:
    """Names in every import statement, wherever it stands, and in importlib.import_module("...")."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which room they reach into"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from (arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant))


@cache
def imports_of(module: str) -> frozenset[str]:
    return frozenset(imported(FILES[module].read_text(encoding="utf-8")))


def ours(module: str) -> set[str]:
    """Our modules that a module imports; `from orchestrator.data import cases` is orchestrator.data.cases."""
    found = set()
    for name in imports_of(module):
        if name.split(".")[0] in ("orchestrator", "models"):
            found.add(name if name in FILES else name.rpartition(".")[0])
    return found


def imports_ray(module: str) -> bool:
    return any(name.split(".")[0] == "ray" for name in imports_of(module))


@pytest.mark.parametrize("module", sorted(FILES))
def test_module_imports_only_rooms_below_its_own(module):
    assert room(module) in MAY_IMPORT, "a new room needs a line in MAY_IMPORT"
    allowed = MAY_IMPORT[room(module)] | {room(module), "version"}
    assert {name for name in ours(module) if room(name) not in allowed} == set()


def test_no_two_rooms_import_each_other():
    rooms: dict[str, set[str]] = {}
    for module in FILES:
        rooms.setdefault(room(module), set()).update(room(name) for name in ours(module))
    TopologicalSorter({name: below - {name} for name, below in rooms.items()}).prepare()


def test_results_are_reached_from_cli_and_study_only():
    users = {room(module) for module in FILES if any(room(name) == "results" for name in ours(module))}
    assert users <= {"cli", "study", "results"}


def test_ray_is_imported_by_the_modules_that_orchestrate_alone():
    assert {module for module in FILES if imports_ray(module)} <= MAY_IMPORT_RAY


@pytest.mark.parametrize("module", NO_RAY_AT_ALL)
def test_a_fit_needs_no_ray_however_far_imports_are_followed(module):
    seen, open_ends = set(), {module}
    while open_ends:
        current = open_ends.pop()
        assert not imports_ray(current), f"{module} reaches {current}"
        seen.add(current)
        open_ends |= ours(current) - seen


def test_nothing_of_ours_unpickles():
    found = {name for module in FILES for name in imports_of(module) if name.split(".")[0] in PICKLES}
    assert found == {"pickle.UnpicklingError"}  # what torch raises where a file is no weights


def test_imports_inside_functions_are_seen():
    source = "def f():\n    import ray.tune\n    from orchestrator.data import cases\n"
    assert set(imported(source)) == {"ray.tune", "orchestrator.data.cases"}


def test_imports_by_name_are_seen():
    assert list(imported('importlib.import_module("ray")')) == ["ray"]
