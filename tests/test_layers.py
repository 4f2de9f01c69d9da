"""Imports flow one way through the rooms, inside functions too; Ray, MLflow and Optuna stay where they belong."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the command line down: a room imports from rooms below its own alone.
FLOORS = (
    "cli",
    "api",
    "terminal",
    "protocols",
    "results",
    "doctor",
    "study",
    "selection",
    "ray_cluster",
    "search",
    "training",
    "launch",
    "data",
    "models",
    "scoring",
    "common",
)
TOP_FOLDERS = {"orchestrator", "models", "search_spaces", "cluster", "tests", "docs", "examples"}
TOP_FILES = {"pyproject.toml", "Makefile", "LICENSE", "CITATION.cff"}
TOP_PAGES = {"README", "CHANGELOG", "CONTRIBUTING", "SECURITY", "BENCHMARKS", "RESULTS"}
MOST_FILES = 15  # of a room, `__init__.py` included
LARGER = {"orchestrator.models"}  # one file per paper
MAY_IMPORT_RAY = {
    "orchestrator.study.run",
    "orchestrator.study.events",
    "orchestrator.study.stopping",
    "orchestrator.study.champion",
    "orchestrator.protocols.lanes",
    "orchestrator.ray_cluster.machine",
    "orchestrator.launch.job_server",
    "orchestrator.launch.submit",
    "orchestrator.doctor.cluster",
    "orchestrator.search.ray_tune.trainable",
    "orchestrator.search.ray_tune.searcher",
    "orchestrator.search.ray_tune.scheduler",
    "orchestrator.training.ray.controllers",
    "orchestrator.training.ray.lane_worker",
    "orchestrator.training.ray.lanes",
    "orchestrator.training.ray.lost_resources",
}
PICKLES = ("pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")
NO_RAY_AT_ALL = (
    "orchestrator.training.fit",
    "orchestrator.search.space.space",
    "orchestrator.search.records.ledger",
)


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return f"orchestrator.{name}" if parts[0] == "models" else name


FILES = {
    module_name(file): file
    for folder in ("orchestrator", "models")
    for file in (ROOT / folder).rglob("*.py")
    if "models" not in file.relative_to(ROOT).parts[1:]  # behind the link, which some Pythons follow
}
PACKAGES = {name for name, file in FILES.items() if file.name == "__init__.py"}


def floor(module: str) -> str:
    """The first name below the package; modules that lie there themselves stand on the floor of the command line."""
    names = module.split(".")[1:]
    return names[0] if names and names[0] in FLOORS else "cli"


def room(module: str) -> str:
    """The folder of a module; where folders lie beside modules, a module stands for itself."""
    parent = module.rpartition(".")[0]
    has_rooms = any(name.startswith(f"{parent}.") for name in PACKAGES)
    return module if module in PACKAGES or has_rooms else parent


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> Iterator[str]:
    """Names in every import statement, wherever it stands, and in importlib.import_module("...")."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which room they reach into"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from (arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant))


@cache
def imports_of(module: str) -> frozenset[str]:
    return frozenset(imported(tree_of(module)))


@cache
def ours(module: str) -> frozenset[str]:
    """Our modules that a module imports; `from orchestrator.data import cases` is orchestrator.data.cases."""
    return modules_of(imports_of(module))


def modules_of(imports: Iterable[str]) -> frozenset[str]:
    """The modules of ours among names that are imported."""
    names = {name for name in imports if name.split(".")[0] == "orchestrator"}
    return frozenset(name if name in FILES else name.rpartition(".")[0] for name in names) - {"orchestrator"}


def imports_ray(module: str) -> bool:
    return any(name.split(".")[0] == "ray" for name in imports_of(module))


@pytest.mark.parametrize("module", sorted(FILES))
def test_module_imports_only_floors_below_its_own(module):
    own = FLOORS.index(floor(module))
    assert {name for name in ours(module) if FLOORS.index(floor(name)) < own} == set()


def test_no_two_rooms_import_each_other_however_long_the_way_round():
    rooms: dict[str, set[str]] = {}
    for module in FILES:
        rooms.setdefault(room(module), set()).update(room(name) for name in ours(module))
    TopologicalSorter({name: below - {name} for name, below in rooms.items()}).prepare()


def test_no_two_folders_of_a_floor_import_each_other_whatever_lies_in_them():
    folders: dict[str, set[str]] = {}
    for module in FILES:
        if (own := folder_of_floor(module)) is not None:
            below = {folder_of_floor(name) for name in ours(module)} - {own, None}
            folders.setdefault(own, set()).update(name for name in below if name is not None)
    TopologicalSorter(folders).prepare()


def folder_of_floor(module: str) -> str | None:
    """orchestrator.results.export.card.facts -> orchestrator.results.export; None of what lies in no folder there."""
    second = ".".join(module.split(".")[:3])
    return second if second in PACKAGES and second.count(".") == 2 else None


def test_no_two_modules_import_each_other_inside_functions_either():
    runs = {module: at_run_time(tree_of(module)) for module in FILES}
    TopologicalSorter({name: modules_of(imported(tree)) - {name} for name, tree in runs.items()}).prepare()


def at_run_time(tree: ast.Module) -> ast.Module:
    """A module without what is imported for annotations alone."""
    body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    ]
    return ast.Module(body, type_ignores=[])


def test_nothing_lies_at_the_top_that_does_not_belong_there():
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: nothing tells what is part of the project")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = {line.split("/")[0] for line in listed.splitlines()}
    allowed = TOP_FOLDERS | TOP_FILES | {f"{page}.md" for page in TOP_PAGES}
    assert {name for name in names if not name.startswith(".")} <= allowed


def test_rooms_can_be_seen_at_a_glance():
    sizes = {name: len(list(FILES[name].parent.glob("*.py"))) for name in PACKAGES if name not in LARGER}
    assert {name: size for name, size in sizes.items() if size > MOST_FILES} == {}


@pytest.mark.parametrize(
    "package", sorted(PACKAGES - {"orchestrator", "orchestrator.cli", "orchestrator.models"})
)
def test_a_package_says_in_one_statement_what_it_holds(package):
    (statement,) = ast.parse(FILES[package].read_text(encoding="utf-8")).body
    assert isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def test_networks_import_nothing_of_the_rest_but_names_and_where_own_networks_are_kept():
    found = {name for module in FILES if floor(module) == "models" for name in ours(module)}
    assert {name for name in found if floor(name) != "models"} == {
        "orchestrator.common.names",
        "orchestrator.common.network_files",
    }


def test_ray_is_imported_by_the_modules_that_orchestrate_alone():
    assert {module for module in FILES if imports_ray(module)} == MAY_IMPORT_RAY


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
    assert set(imported(ast.parse(source))) == {"ray.tune", "orchestrator.data.cases"}


def test_imports_by_name_are_seen():
    assert list(imported(ast.parse('importlib.import_module("ray")'))) == ["ray"]
