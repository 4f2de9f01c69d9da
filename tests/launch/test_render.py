"""Rendered files: quoted so that every value comes out as it went in, refused where one cannot be."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jinja2 import UndefinedError
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.common.errors import BadData, BadMachine
from orchestrator.launch import render as rendering
from orchestrator.launch.kinds import KINDS
from orchestrator.launch.render import names_in, render, write
from orchestrator.launch.spec import Cluster

CLUSTER = Path(__file__).parents[2] / "cluster"
BASH = shutil.which("bash")
HOMES = [
    "/data/my polyps",
    "/it's",
    '/a "b" $HOME `id` \\ #',
    "/-n; touch x",
    "/größe/ポリープ",
    "~/my polyps",
    "/a%b!c*",
]

UNUSUAL = {
    "nodes": 1,
    "gpus": 0,
    "home": "/data/my polyps",
    "cache": "/scratch/it's",
    "venv": "~/my env",
    "partition": "gpu",
    "account": "lab",
    "tracking_uri": "http://mlflow:5000",
    "search": ("a space.toml", "--data", "Kvasir-SEG", "--hours", "2"),
}


def from_text(language: str, text: str, **values: object) -> str:
    return rendering._environment(language).from_string(text).render(values)


@pytest.mark.parametrize("home", HOMES)
def test_a_shell_gets_a_path_as_it_was_given(home: str):
    script = from_text("shell", "printf %s --home={{ home }}", home=home)
    printed = subprocess.run(
        [BASH, "-c", script], capture_output=True, text=True, check=True, env={"HOME": "/me"}
    )
    assert printed.stdout == "--home=" + home.replace("~/", "/me/")


@pytest.mark.parametrize("home", HOMES)
def test_yaml_gets_a_path_as_it_was_given(home: str):
    assert yaml.safe_load(from_text("yaml", "a: {{ home }}\nb: [{{ home }}, 1]", home=home)) == {
        "a": home,
        "b": [home, 1],
    }


@pytest.mark.parametrize("home", HOMES[:5])
def test_a_command_inside_yaml_is_quoted_for_the_shell_alone(home: str):
    text = from_text("yaml", "run: |\n  printf %s {{ home | shell }}\n", home=home)
    command = yaml.safe_load(text)["run"]
    assert subprocess.run([BASH, "-c", command], capture_output=True, text=True, check=True).stdout == home


def test_words_and_variables_are_quoted_one_by_one():
    assert from_text("shell", "{{ words }}", words=("a b", "c")) == "'a b' c"
    assert from_text("shell", "{{ variables }}", variables={"A": "1 2", "B": 3}) == "A='1 2' B=3"


def test_a_name_that_no_field_has_or_a_value_that_is_missing_fails():
    with pytest.raises(UndefinedError):
        from_text("shell", "{{ hoem }}", home="/x")
    with pytest.raises(TypeError, match="must handle a missing value"):
        from_text("shell", "{{ cache }}", cache=None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_names_the_fields_that_its_template_holds(kind: str):
    assert set(KINDS[kind].fields) == names_in(KINDS[kind].file)


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_in_cluster_is_what_the_defaults_render(kind: str):
    file = CLUSTER / KINDS[kind].file
    assert file.read_text() == render(kind, {}), "`make cluster` writes it again"
    assert os.access(file, os.X_OK) == file.read_text().startswith("#!")


def test_the_table_names_every_file():
    named = set(re.findall(r"^\|[^|]*\| `([^`]+)` \|", (CLUSTER / "README.md").read_text(), re.MULTILINE))
    assert named == {kind.file for kind in KINDS.values()}


def test_everything_that_cannot_be_is_said_at_once():
    with pytest.raises(BadMachine) as refused:
        Cluster(nodes=0, hours=float("nan"), head="a b", home="x\ny", workers=("n1", "n1"))
    text = str(refused.value)
    assert "5 problems" in text
    assert "--nodes: expected a whole number from 1 to 4,096, found 0" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("head", "-oProxyCommand=x"),
        ("image", "a b"),
        ("user", "me;id"),
        ("partition", "gpu\n#SBATCH --x"),
        ("namespace", "Polyps"),
        ("home", "relative"),
        ("database", "postgresql://me:pass@host/db"),
        ("tracking_uri", "http://me:pass@host:1"),
        ("search", ()),
    ],
)
def test_what_a_file_could_not_hold_is_refused(name: str, value: object):
    with pytest.raises(BadMachine, match=r"cluster: (--|words)"):
        Cluster(**{name: value})


def test_a_file_that_holds_something_else_is_not_overwritten_unasked(tmp_path: Path):
    file = tmp_path / "x.sh"
    assert write(file, "#!/bin/sh\n")
    assert os.access(file, os.X_OK)
    assert not write(file, "#!/bin/sh\n")
    with pytest.raises(BadMachine, match="--overwrite replaces it"):
        write(file, "other\n")
    assert file.read_text() == "#!/bin/sh\n"
    assert write(file, "other\n", overwrite=True)


def test_a_folder_that_is_missing_is_made_and_what_is_none_is_refused_in_a_sentence(tmp_path: Path):
    assert write(tmp_path / "new" / "folder" / "x.sh", "text")
    for place in ("new/folder/x.sh/y.sh", "/proc/x.sh"):
        with pytest.raises(BadData, match="--out"):
            write(tmp_path / place, "text")


def test_the_command_prints_or_writes_the_same_text(tmp_path: Path):
    words = ["cluster", "render", "constraints-v100"]
    printed = CliRunner().invoke(app, words)
    CliRunner().invoke(app, [*words, "--out", str(tmp_path / "a")])
    assert printed.stdout == (tmp_path / "a").read_text() == render("constraints-v100", {})


@pytest.mark.parametrize(
    "kind", [name for name, kind in KINDS.items() if kind.file.endswith((".sh", ".sbatch"))]
)
@pytest.mark.parametrize("values", [{}, UNUSUAL], ids=["defaults", "unusual"])
def test_shellcheck_finds_nothing_in_a_script(kind: str, values: dict[str, object], tmp_path: Path):
    given = {name: value for name, value in values.items() if name in KINDS[kind].fields}
    (tmp_path / KINDS[kind].file).write_text(render(kind, given))
    shellcheck = Path(sys.executable).with_name("shellcheck")
    found = subprocess.run([shellcheck, tmp_path / KINDS[kind].file], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["a.toml", "--data", "x", "--trails", "1"], "No such option"),
        (["a.toml", "--data", "x"], "a search needs one: --trials"),
        (["a.toml", "--trials", "1"], "Missing option"),
        (["a.toml", "--data", "x", "--trials", "1", "--address", "auto"], "expected no --address"),
        (["a.toml", "--data", "x", "--trials", "1", "--storage", "postgresql://a:b@c/d"], "no password"),
    ],
)
def test_a_search_that_could_not_begin_is_refused_before_it_waits_in_a_queue(words: list[str], why: str):
    done = CliRunner().invoke(app, ["cluster", "render", "slurm", "--", *words])
    assert done.stdout == ""
    assert why in str(done.exception)
