from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import orchestrator
from orchestrator.cli import app
from orchestrator.cli.console.completion import COMPLETED
from orchestrator.cli.console.help import PANEL_OF, with_hint
from orchestrator.common.names import hint, nearest
from orchestrator.models import names
from orchestrator.search.space.keys import not_known

ROOT = typer.main.get_command(app)


def commands(group: Any = ROOT, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if hasattr(command, "commands"):
            yield from commands(command, *path, name)


def does_something(command: Any) -> bool:
    return command.callback and (not hasattr(command, "commands") or command.invoke_without_command)


RUN = {path: command for path, command in commands() if does_something(command) and path[0] != "cluster"}


@pytest.mark.parametrize("path", RUN, ids=" ".join)
def test_help_of_every_command_ends_with_an_example_that_is_a_command(path: tuple[str, ...]):
    said = RUN[path].epilog
    assert said and said.startswith(f"Example: orchestrator {' '.join(path)}"), said
    words = [word for word in shlex.split(said)[2 + len(path) :] if word != ">"]
    if path != ("submit",) and "schema" not in path:
        RUN[path].make_context(path[-1], words, resilient_parsing=True)


@pytest.mark.parametrize("path", RUN, ids=" ".join)
def test_every_option_of_every_command_stands_in_a_panel_of_its_kind(path: tuple[str, ...]):
    options = [param for param in RUN[path].params if isinstance(param, typer.core.TyperOption)]
    known = [param.name for param in options if param.name in PANEL_OF]
    assert all(param.rich_help_panel for param in options)
    assert len(options) < 4 or 2 * len(known) > len(options)


def test_commands_of_the_top_help_are_grouped():
    assert not [name for name, command in ROOT.commands.items() if not command.rich_help_panel]


@pytest.mark.parametrize("line", ["-h", "search -h", "data add -h", "--version"])
def test_short_help_and_version_are_there(line: str):
    done = CliRunner().invoke(app, line.split())
    assert done.exit_code == 0 and ("Usage" in done.output or orchestrator.__version__ in done.output)


def test_help_has_no_line_breaks_within_its_paragraphs():
    paragraphs = RUN[("search",)].help.split("\n\n")
    assert len(paragraphs) > 2 and not any("\n" in paragraph.strip() for paragraph in paragraphs)


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("unett", ["unet", "resunet"], "unet"),
        ("ColonDb", ["ColonDB", "CVC-ClinicDB"], "ColonDB"),
        ("lr", ["epochs", "learning_rate"], "learning_rate"),
        ("kvasir", ["CVC-ClinicDB", "Kvasir-SEG"], "Kvasir-SEG"),
        ("flip", ["none", "flips"], "flips"),
        ("xyz", ["unet"], None),
        ("", ["unet"], None),
    ],
)
def test_the_name_that_was_meant_is_found(name: str, known: list[str], meant: str | None):
    assert nearest(name, known) == meant
    assert hint(name, known) == ("" if meant is None else f"did you mean {meant}? ")


def test_keys_and_networks_that_are_not_known_are_answered_with_the_nearest():
    assert "did you mean learning_rate? " in not_known("lr", ["epochs", "learning_rate"], "key")
    assert "did you mean unet? " in not_known("unett", names(), "network")


def test_a_choice_that_is_not_known_is_answered_with_the_nearest():
    refused = "Value error, 'onese' is not one of 'best', 'one-se'."
    assert with_hint(refused) == "'onese' is not one of 'best', 'one-se'. Did you mean one-se?"
    assert with_hint("expected a number") == "expected a number"


def completed(param: str, begun: str, **params: Any) -> list[str]:
    context = typer.Context(RUN[("search",)])
    context.params = params
    return COMPLETED[param](context, None, begun)


def test_the_shell_completes_datasets_studies_and_search_spaces(tmp_path):
    for file in ("datasets/colon/dataset.json", "datasets/.half/dataset.json", "studies/first/study.json"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    assert completed("data", "", home=tmp_path) == ["colon"]
    assert completed("study", "fi", home=tmp_path) == ["first"]
    assert {"unet", "unet_pp"} <= set(completed("file", "un"))
