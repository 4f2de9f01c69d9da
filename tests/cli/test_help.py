from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from typer.testing import CliRunner

import orchestrator
from orchestrator.cli import app
from orchestrator.cli.console import options
from orchestrator.cli.console.help import REST, with_hint
from orchestrator.common.names import hint, nearest
from orchestrator.models import names
from orchestrator.scoring.metrics import CHOOSING, METRICS, REGISTRY
from orchestrator.search.space.keys import not_known
from orchestrator.search.space.parameters import refusal

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
def test_help_has_one_example_and_every_word_is_whole_on_80_columns(path: tuple[str, ...], monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 80)
    said = CliRunner().invoke(app, [*path, "-h"]).output
    assert said.count("Example: ") == 1 and "…" not in said
    assert not re.search(r"<(str|bool|path|list)\b", said), "types are Python's words"


def test_options_of_earlier_versions_are_understood_and_not_shown():
    words = ["search", "smoke", "--data", "none", "--trials", "1", "--no-twins"]
    assert "No such option" not in CliRunner().invoke(app, words).output
    assert "twins" not in CliRunner().invoke(app, ["search", "-h"]).output


@pytest.mark.parametrize("path", RUN, ids=" ".join)
def test_every_option_of_every_command_stands_in_a_panel_of_its_kind(path: tuple[str, ...]):
    options = [param for param in RUN[path].params if isinstance(param, typer.core.TyperOption)]
    assert not [
        param.name for param in options if param.name != "help" and param.rich_help_panel in (None, REST)
    ]


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


@pytest.mark.parametrize(
    ("key", "value", "near"),
    [("loss", "dicee", "dice"), ("augmentation", "flip", "flips"), ("tta", "flipp", "flips")],
)
def test_a_value_that_is_no_choice_is_answered_with_the_nearest(key: str, value: str, near: str):
    assert (refusal(key, value, ["unet"]) or "").endswith(f"did you mean {near}?")


def test_a_choice_that_is_not_known_is_answered_with_the_nearest():
    refused = "Value error, 'onese' is not one of 'best', 'one-se'."
    assert with_hint(refused) == "'onese' is not one of 'best', 'one-se'. Did you mean one-se?"
    assert with_hint("expected a number") == "expected a number"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = ["datasets/colon/dataset.json", "datasets/.half/dataset.json", "studies/first/study.json"]
    last = "studies/last/study.json"
    for file in (
        *files,
        last,
        *(f"studies/first/ledger/trials/{name}.json" for name in ("0", "2", "11", "end")),
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    return tmp_path


def completed(words: str) -> list[str]:
    """What fish offers for the last word; no space after it: another word begins where the text ends with one."""
    given = {"_ORCHESTRATOR_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    line = {"_TYPER_COMPLETE_ARGS": f"orchestrator {words}"}
    done = CliRunner().invoke(app, env=given | line, prog_name="orchestrator")
    return [text.partition("\t")[0] for text in done.stdout.splitlines()]


COLON = ["colon"]
NUMBERS = ["0", "2", "11"]
OFFERED = [
    *(
        (f"data {one} c", COLON)
        for one in ("add", "check", "describe", "preview", "remove", "show", "split", "leaks")
    ),
    *(
        (f"{one} --data c", COLON)
        for one in ("search unet", "fit unet", "plan unet", "evaluate folder", "doctor")
    ),
    *((f"{one} --unseen c", COLON) for one in ("search unet", "plan unet", "data split colon")),
    *(
        (f"{one} f", ["first"])
        for one in ("status", "sync", "ui", "leaderboard", "best", "report", "compare")
    ),
    *(
        (one, ["first"])
        for one in ("studies remove f", "search unet --study f", "search unet --warm-start f")
    ),
    *(
        (f"{one} unet_p", ["unet_pp"])
        for one in ("search", "fit", "plan", "space check", "space combine unet")
    ),
    ("doctor --space unet_p", ["unet_pp"]),
    ("best first --trial ", NUMBERS),
    ("best first --trial 1", ["11"]),
    ("compare first first:", [f"first:{number}" for number in NUMBERS]),
    ("compare first : 1", ["11"]),
    ("models show dino", ["dino_decoder"]),
    ("fit unet --set network=unet_p", ["network=unet_pp"]),
    ("fit unet --set base", ["base_channels="]),
    ("reproduce resu", ["resunetpp"]),
    ("reproduce resunetpp I", ["I", "II"]),
    ("reproduce resunetpp --only ResUNet+", ["ResUNet++"]),
    ("reproduce resunetpp --also dino", ["dino_decoder"]),
    ("reproduce resunetpp --data CVC-C", ["CVC-ClinicDB="]),
    ("reproduce resunetpp --data CVC-ClinicDB=c", ["CVC-ClinicDB=colon"]),
    ("reproduce resunetpp --weights dino", ["dino_decoder="]),
]


@pytest.mark.parametrize(("words", "offered"), OFFERED)
def test_the_shell_completes_every_dataset_study_trial_network_and_search_space(
    home: Path, words: str, offered: list[str]
):
    assert completed(words) == offered


def test_every_shell_has_its_script():
    begin = {
        "bash": "_orchestrator_completion()",
        "zsh": "#compdef orchestrator",
        "fish": "complete --command orchestrator",
    }
    for shell, first in begin.items():
        done = CliRunner().invoke(app, ["completion", shell])
        assert done.exit_code == 0 and done.stdout.lstrip().startswith(first), shell
        assert f"complete_{shell}" in done.stdout and "_ORCHESTRATOR_COMPLETE" in done.stdout
    assert CliRunner().invoke(app, ["completion", "tcsh"]).exit_code == 2


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("bash", {"COMP_WORDS": "orchestrator status f", "COMP_CWORD": "2"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "orchestrator status f"}),
        (
            "fish",
            {"_TYPER_COMPLETE_ARGS": "orchestrator status f", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
        ),
    ],
)
def test_every_shell_is_offered_the_studies_of_the_home(home: Path, shell: str, words: dict[str, str]):
    given = {"_ORCHESTRATOR_COMPLETE": f"complete_{shell}", **words}
    assert "first" in CliRunner().invoke(app, env=given, prog_name="orchestrator").stdout


PROGRAM = Path(sys.executable).with_name("orchestrator")


@pytest.mark.skipif(
    shutil.which("bash") is None or not PROGRAM.exists(), reason="needs bash, and the program"
)
def test_bash_completes_with_the_script(home: Path):
    """What bash itself makes of it: the function that the script defines fills COMPREPLY."""
    script = (
        'eval "$(orchestrator completion bash)"; COMP_WORDS=(orchestrator status f); COMP_CWORD=2; '
        '_orchestrator_completion orchestrator; echo "${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["first"]


NAMED = {
    "data",
    "unseen",
    "names",
    "study",
    "studies",
    "file",
    "files",
    "space",
    "warm_start",
    "trial_number",
}


@pytest.mark.parametrize("path", RUN, ids=" ".join)
def test_no_argument_that_is_a_name_is_left_without_completion(path: tuple[str, ...]):
    bare = {one.name for one in RUN[path].params if one._custom_shell_complete is None}
    assert not bare & {*NAMED, "name", "set_", "paper", "also"}


@pytest.mark.parametrize(
    ("option", "taken"),
    [(options.Metric, METRICS), (options.ChoosingMetric, CHOOSING), (options.MaskMetric, REGISTRY)],
)
def test_the_help_of_metrics_names_all_that_are_taken(option: Any, taken: Collection[str]):
    """The command line reads no registry for it: that would import NumPy."""
    words = set(re.findall(r"\w+", get_args(option)[1].help))
    assert words & REGISTRY.keys() == {*taken}
