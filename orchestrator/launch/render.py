"""Rendering of templates: every value is quoted for the file's language, unknown names fail."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Undefined, meta

from orchestrator.common.allocator import KEEP_FREED_MEMORY
from orchestrator.common.cpus import NICENESS_OF_STARTER, SHORT_SPIN
from orchestrator.common.errors import BadMachine, Mistakes
from orchestrator.common.files import refuse_as_output, write_atomically
from orchestrator.launch.kinds import KINDS
from orchestrator.launch.spec import Cluster

# Values for templates in addition to the fields of a cluster.
ALWAYS = {"process_environment": KEEP_FREED_MEMORY | SHORT_SPIN | NICENESS_OF_STARTER}


class Quoted(str):
    """Text that is already quoted."""


def render(kind: str, values: Mapping[str, Any]) -> str:
    """The file of a kind, with these fields of a `Cluster` and defaults for others. Raises `BadMachine`."""
    file = KINDS[kind].file
    known = {**KINDS[kind].defaults, **values}
    mistakes = Mistakes()
    with mistakes.noted():
        cluster = Cluster(**known)
    if KINDS[kind].in_container:
        with mistakes.noted():
            refuse_outside_container(known)
    mistakes.raise_all()
    return _environment(_language(file)).get_template(file).render(asdict(cluster) | ALWAYS)


def refuse_outside_container(known: Mapping[str, Any]) -> None:
    """Raise `BadMachine` for paths or memory that are impossible in a container."""
    paths = {"--home": known["home"], "--cache": known.get("cache")}
    expected = "expected a path in the container that begins with / and contains no colon"
    wrong = [
        f"{name}: {expected}, found {path}"
        for name, path in paths.items()
        if path and (path.startswith("~") or ":" in path)
    ]
    shm, memory = (known.get(name, getattr(Cluster, name)) for name in ("shm_gb", "memory_gb"))
    if shm >= memory:
        wrong.append(
            f"--shm-gb: expected less than --memory-gb, which it is a part of, found {shm} of {memory}"
        )
    if wrong:
        raise BadMachine("container", wrong)


def write(path: Path, text: str, *, overwrite: bool = False) -> bool:
    """Write a rendered file, scripts as executable; False if it already has this text.

    Raises `BadMachine` if it has another text, unless `overwrite`, and `BadData` if nothing can be written there.
    """
    if path.is_dir():
        raise BadMachine("--out", f"{path} is a folder; name the file")
    refuse_as_output(path, "--out")
    before = path.read_bytes() if path.exists() else None
    if before == text.encode():
        return False
    if before is not None and not overwrite:
        raise BadMachine("--out", f"{path} exists with other content; --overwrite replaces it")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode())
    if text.startswith("#!"):
        mode = path.stat().st_mode
        path.chmod(mode | (mode & 0o444) >> 2)
    return True


def write_defaults(folder: Path) -> None:
    """Write every kind with its defaults into a folder; existing files are overwritten."""
    for name, kind in KINDS.items():
        write(folder / kind.file, render(name, {}), overwrite=True)


def shell(value: Any) -> str:
    """A value as quoted words of a shell; ~/ is the home of the user who runs the script."""
    if isinstance(value, Mapping):
        return " ".join(f"{name}={shell(one)}" for name, one in value.items())
    if isinstance(value, tuple):
        return " ".join(map(shell, value))
    text = _text(value)
    if text.startswith("~/"):
        return '"$HOME"/' + (shlex.quote(text[2:]) if text[2:] else "")
    return shlex.quote(text)


def yaml(value: Any) -> str:
    """A value in YAML's flow style, on one line."""
    plain = isinstance(value, (bool, int, float, list, tuple))
    return json.dumps(value if plain else _text(value), ensure_ascii=False)


def names_in(file: str) -> frozenset[str]:
    """Fields of a cluster that a template, with its includes, uses."""
    environment = _environment(_language(file))
    assert environment.loader is not None
    tree = environment.parse(environment.loader.get_source(environment, file)[0])
    included = [name for name in meta.find_referenced_templates(tree) if name is not None]
    return frozenset(meta.find_undeclared_variables(tree) - ALWAYS.keys()).union(*map(names_in, included))


def _text(value: Any) -> str:
    if value is None:
        raise TypeError("a template must handle a missing value")
    return str(value)


def _language(file: str) -> str:
    return "yaml" if file.endswith(".yaml") else "shell"


@cache
def _environment(language: str) -> Environment:
    quote = yaml if language == "yaml" else shell

    def finished(value: Any) -> Any:
        return value if isinstance(value, (Quoted, Undefined)) else quote(value)

    made = Environment(
        loader=PackageLoader("orchestrator.launch"),
        undefined=StrictUndefined,
        finalize=finished,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        comment_start_string="<#",  # {# begins ${#array[@]}
        comment_end_string="#>",
    )
    made.globals.clear()  # Jinja's own names, which a field could have, too
    made.filters["shell"] = lambda value: Quoted(shell(value))
    return made
