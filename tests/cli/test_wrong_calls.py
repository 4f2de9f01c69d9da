"""Wrong calls of commands that read a study and write files: exit code 2 and words, before work, nothing left."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from formula import carry_out, formula_study
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.common.errors import UserError
from orchestrator.study.runnable_study import RunnableStudy


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> RunnableStudy:
    """A study with two finished trials."""
    made = formula_study(tmp_path_factory.mktemp("home"), num_trials=2)
    carry_out(made, [1e-3, 1e-2])
    return made


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study: RunnableStudy) -> Path:
    """A working folder that holds a folder and a file of somebody else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(study.store.home))
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.txt").write_text("mine")
    return tmp_path


def said(words: Sequence[str]) -> str:
    """The mistake of a call: main prints it and exits 2."""
    done = CliRunner().invoke(cli.app, list(words))
    assert isinstance(done.exception, UserError), done.output
    return str(done.exception)


def tree(folder: Path) -> set[Path]:
    return {*folder.rglob("*")}


REPORT, COMPARE = ("report", "formula"), ("compare", "formula:0", "formula:1")
OUTPUTS = {
    "a text to a folder": ((*REPORT, "--latex", "folder"), "found a folder"),
    "a text below a file": (
        (*REPORT, "--csv", "file.txt/a.csv"),
        "file.txt, found a file; name another place",
    ),
    "a page below a file": ((*REPORT, "--out", "file.txt/page.html"), "file.txt, found a file"),
    "a page in /proc": ((*REPORT, "--out", "/proc/page.html"), "expected a place where files can be written"),
    "two texts on stdout": (
        (*REPORT, "--latex", "-", "--csv", "-"),
        "one text on stdout, where several would",
    ),
    "a text and JSON on stdout": (
        (*REPORT, "--methods", "-", "--json"),
        "found --json, --methods; name files",
    ),
    "two texts in one file": (
        (*REPORT, "--csv", "a", "--latex", "./a"),
        "expected another file than that of",
    ),
    "a text in the page": ((*REPORT, "--out", "a.html", "--csv", "a.html"), "than that of --out"),
    "a plot to a folder": ((*COMPARE, "--plot", "folder"), "found a folder"),
    "a plot of another kind": (
        (*COMPARE, "--plot", "a.pdf"),
        "expected a name that ends in .png, found .pdf",
    ),
    "an export in /proc": (("best", "formula", "--export", "/proc/a/b"), "name another place"),
    "an export to a file": (("best", "formula", "--export", "file.txt"), "found a file"),
}
CHOICES = {
    "a rule and a trial": (("--rule", "one-se", "--trial", "0"), "leave one of them out"),
    "an alias of no export": (("--champion",), "--champion: expected --export FOLDER with it"),
    "a network that is not there": (("--network", "unett"), "did you mean unet?"),
    "a network and a trial": (("--network", "unet", "--trial", "0"), "takes the best trial of unet"),
    "a network and a rule": (("--network", "unet", "--rule", "one-se"), "chooses among all networks"),
    "a distance": (
        ("--metric", "hd95"),
        "trials cannot be chosen by hausdorff95, a distance: lower is better",
    ),
    "no metric": (("--metric", "ndx"), "known: dice, iou, precision, recall, f2, accuracy, boundary_f, nsd"),
    "masks and a rule": (("--metric", "nsd", "--rule", "one-se"), "leave out --rule one-se, which goes by"),
    "masks and a trial": (("--metric", "nsd", "--trial", "0"), "leave out --trial 0, which names a trial"),
    "masks and a network": (("--metric", "nsd", "--network", "unet"), "leave out --network 'unet', which"),
    "masks and greedy": (("--metric", "nsd", "--ensemble", "greedy"), "leave out --ensemble greedy, which"),
    "masks and the better": (("--metric", "nsd", "--ensemble", "best"), "leave out --ensemble best, which"),
}


@pytest.mark.parametrize(("words", "expected"), OUTPUTS.values(), ids=OUTPUTS)
def test_an_output_that_cannot_be_is_refused_before_work(
    here: Path, words: Sequence[str], expected: str
) -> None:
    before = tree(here)
    assert expected in said(words)
    assert tree(here) == before and (here / "file.txt").read_text() == "mine"


@pytest.mark.parametrize(("words", "expected"), CHOICES.values(), ids=CHOICES)
def test_options_of_best_that_contradict_each_other_are_refused(
    here: Path, words: Sequence[str], expected: str
) -> None:
    assert expected in said(["best", "formula", *words])


def test_all_that_does_not_go_with_masks_is_said_at_once_before_anything_is_touched(here: Path) -> None:
    before = tree(here), tree(Path(os.environ["ORCHESTRATOR_HOME"]))
    words = ["--metric", "surface-dice", "--rule", "one-se", "--trial", "0", "--formats", "onyx,torch"]
    text = said(["best", "formula", *words, "--export", "file.txt"])
    assert "--rule one-se, which goes by scores of histograms, and --trial 0, which names a trial" in text
    assert "found a file" in text and "did you mean onnx?" in text and "did you mean torch-export?" in text
    assert (tree(here), tree(Path(os.environ["ORCHESTRATOR_HOME"]))) == before


@pytest.mark.parametrize("words", [("leaderboard", "formula"), COMPARE], ids=["leaderboard", "compare"])
def test_tables_of_a_study_name_the_command_that_chooses_by_masks(here: Path, words: Sequence[str]) -> None:
    assert "`orchestrator best STUDY --metric nsd` chooses a trial by it" in said([*words, "--metric", "nsd"])
    assert "orchestrator best" not in said([*words, "--metric", "hd95"])


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "BUNDLE", "folder", "--out", "masks"),
        ("evaluate", "BUNDLE", "--data", "drawn"),
        ("export", "verify", "BUNDLE"),
    ],
    ids=["predict", "evaluate", "export verify"],
)
@pytest.mark.parametrize(
    ("bundle", "expected"),
    [
        ("nothing", "found no such folder"),
        ("file.txt", "found a file"),
        ("folder", "expected an exported model|missing"),
    ],
)
def test_what_is_no_export_is_said_with_what_was_found(
    here: Path, words: Sequence[str], bundle: str, expected: str
) -> None:
    text = said([bundle if word == "BUNDLE" else word for word in words])
    assert any(part in text for part in expected.split("|")) and not (here / "masks").exists()


def test_one_text_goes_to_stdout_and_nothing_else(here: Path) -> None:
    done = CliRunner().invoke(cli.app, [*REPORT, "--csv", "-"])
    assert done.exit_code == 0 and done.stdout.startswith("Method,") and "report.html" not in done.stdout
