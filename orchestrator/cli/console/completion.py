"""Shell completion: datasets, studies and trials of a home; networks, spaces, parameters and papers.

Names are read from folders and small files alone, so that a press of the tab key waits for no library.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[2]
DEFAULT_HOME = Path.home() / ".orchestrator"
Completed = Callable[[Any, Any, str], list[str]]


def _home(context: Any) -> Path:
    given = context.params.get("home") or os.environ.get("ORCHESTRATOR_HOME") or DEFAULT_HOME
    return Path(given).expanduser()


def _first(context: Any, name: str) -> str | None:
    """A command's first argument; it is not parsed yet where the last word is an option whose value is completed."""
    given = context.params.get(name) or next(iter(context.args), None)
    return None if given is None else str(given)


def dataset_names(home: Path) -> list[str]:
    """Datasets of a home."""
    return sorted(file.parent.name for file in (home / "datasets").glob("[!.]*/dataset.json"))


def study_names(home: Path) -> list[str]:
    """Studies of a home."""
    return sorted(file.parent.name for file in (home / "studies").glob("[!.]*/study.json"))


def trial_numbers(home: Path, study: str | None) -> list[str]:
    """Trials of a study, of the one worked on last where none is named."""
    if study is None:
        manifests = (home / "studies").glob("[!.]*/study.json")
        study = max(manifests, key=lambda file: file.stat().st_mtime, default=home / "none").parent.name
    files = (home / "studies" / study / "ledger" / "trials").glob("[0-9]*.json")
    return [str(number) for number in sorted(int(file.stem) for file in files if file.stem.isdigit())]


def space_names() -> list[str]:
    """Search spaces that come with the program."""
    return sorted(file.stem for file in (PACKAGE / "search_spaces").glob("*.toml"))


def network_facts() -> Mapping[str, Any]:
    """Network name -> its entry in models/facts.json."""
    stored = json.loads((PACKAGE / "models" / "facts.json").read_text("utf-8"))
    return {one["name"]: one for one in stored["networks"]}


def papers() -> Mapping[str, Mapping[str, Any]]:
    """The papers that `reproduce` knows, as their files say them."""
    files = sorted((PACKAGE / "protocols" / "papers").glob("*.toml"))
    return {file.stem: tomllib.loads(file.read_text("utf-8")) for file in files}


def _items(names: Iterable[str], begun: str) -> list[str]:
    return [name for name in names if name.startswith(begun)]


def _datasets(context: Any, param: Any, begun: str) -> list[str]:
    return _items(dataset_names(_home(context)), begun)


def _studies(context: Any, param: Any, begun: str) -> list[str]:
    return _items(study_names(_home(context)), begun)


def _systems(context: Any, param: Any, begun: str) -> list[str]:
    """Completions of STUDY, or STUDY:TRIAL. Bash takes the colon for a word and completes the rest alone."""
    home, before = _home(context), [*(context.params.get("studies") or ())]
    if begun == ":" and before:
        return trial_numbers(home, before[-1])
    if len(before) > 1 and before[-1] == ":":
        return _items(trial_numbers(home, before[-2]), begun)
    if ":" in begun:
        study = begun.partition(":")[0]
        return _items((f"{study}:{number}" for number in trial_numbers(home, study)), begun)
    return _studies(context, param, begun)


def _trials(context: Any, param: Any, begun: str) -> list[str]:
    return _items(trial_numbers(_home(context), _first(context, "study")), begun)


def _spaces(context: Any, param: Any, begun: str) -> list[str]:
    files = (str(path) for path in Path().glob(f"{begun}*") if path.is_dir() or path.suffix == ".toml")
    return [*_items(space_names(), begun), *sorted(files)]


def _networks(context: Any, param: Any, begun: str) -> list[str]:
    return _items(network_facts(), begun)


def _settings(context: Any, param: Any, begun: str) -> list[str]:
    """Completions KEY= of `fit --set`: names in the search space, options of its networks, `network=NAME`."""
    given = _first(context, "file") or ""
    file = PACKAGE / "search_spaces" / f"{given}.toml" if given in space_names() else Path(given)
    text = file.read_text("utf-8") if file.is_file() else ""
    facts = network_facts()
    named = [one for name, one in facts.items() if re.search(rf"\b{name}\b", text)]
    keys = re.findall(r"^(\w+) *=", text, re.MULTILINE) + [
        each["name"] for one in named for each in one["options"]
    ]
    items = {f"{key}=": None for key in keys} | {f"network={name}": None for name in facts}
    return _items((item for item in items if item != "network="), begun)


def _paper_of(context: Any) -> Mapping[str, Any]:
    return papers().get(_first(context, "paper") or "", {})


def _papers(context: Any, param: Any, begun: str) -> list[str]:
    return _items(papers(), begun)


def _tables(context: Any, param: Any, begun: str) -> list[str]:
    return _items(_paper_of(context).get("tables", {}), begun)


def _rows(context: Any, param: Any, begun: str) -> list[str]:
    """Completions of a row of a paper's tables, or a network."""
    return _items([*_paper_of(context).get("rows", {}), *network_facts()], begun)


def _datasets_for(context: Any, param: Any, begun: str) -> list[str]:
    """Completions PAPERS-NAME=NAME: a dataset of the home in the place of one of the paper's."""
    theirs, equals, ours = begun.partition("=")
    if equals:
        return [f"{theirs}={name}" for name in _items(dataset_names(_home(context)), ours)]
    tables = _paper_of(context).get("tables", {}).values()
    tested = [test.get("data") or test["name"] for one in tables for test in one.get("tests", ())]
    trained = [one["train"] for one in tables if "train" in one]
    return [f"{name}=" for name in _items(dict.fromkeys([*trained, *tested]), begun)]


def _weights(context: Any, param: Any, begun: str) -> list[str]:
    """Completions NETWORK= or ROW=, before a file."""
    return [f"{name}=" for name in _rows(context, param, begun)]


COMPLETED: dict[str, Completed] = {
    "data": _datasets,
    "unseen": _datasets,
    "names": _datasets,
    "data_add.name": _datasets,
    "data_check.name": _datasets,
    "data_describe.name": _datasets,
    "data_preview.name": _datasets,
    "data_remove.name": _datasets,
    "data_show.name": _datasets,
    "models_show.name": _networks,
    "best.network": _networks,
    "studies_remove.name": _studies,
    "study": _studies,
    "studies": _studies,
    "compare.studies": _systems,
    "warm_start": _studies,
    "trial_number": _trials,
    "set_": _settings,
    "file": _spaces,
    "files": _spaces,
    "space": _spaces,
    "paper": _papers,
    "table": _tables,
    "only": _rows,
    "also": _networks,
    "reproduce.data": _datasets_for,
    "reproduce.weights": _weights,
}
