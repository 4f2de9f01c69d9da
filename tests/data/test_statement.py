"""What is stated of a dataset: by `data add` or `data describe`, shown by `data show`, in model cards and reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.common.errors import BadData
from orchestrator.data.cases import load_dataset
from orchestrator.data.importing.check import check_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.data.stated_fields import FIELDS
from orchestrator.data.statement import NOT_STATED, all_fields, state, stated


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a dataset of which the licence is stated."""
    draw_dataset(tmp_path / "frames", num_cases=4, size=48)
    words = [
        "data",
        "add",
        "colon",
        str(tmp_path / "frames"),
        "--allow-empty",
        "--home",
        str(tmp_path / "home"),
    ]
    done = CliRunner().invoke(app, [*words, "--licence", "CC-BY-4.0", "--centers", "Oslo,  Norway"])
    assert done.exit_code == 0, done.output
    return tmp_path / "home"


def told(home: Path, *words: str) -> dict[str, object]:
    done = CliRunner().invoke(app, ["data", *words, "--home", str(home), "--json"])
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


def test_what_is_stated_with_an_import_is_kept_and_the_rest_is_not_stated(home: Path):
    card = dict.fromkeys(FIELDS, NOT_STATED) | {"licence": "CC-BY-4.0", "centers": "Oslo, Norway"}
    assert told(home, "describe", "colon") == card == told(home, "show", "colon")["card"]


def test_an_import_names_what_cards_and_papers_ask_for_and_how_to_state_it(home: Path):
    words = ["data", "add", "other", str(home.parent / "frames"), "--allow-empty", "--home", str(home)]
    said = " ".join(CliRunner().invoke(app, [*words, "--licence", "CC-BY-4.0"]).stdout.split())
    assert (
        "needed for model cards and papers: source, annotators, dates, inclusion, centers, devices, citation;"
        in said
    )
    assert "`orchestrator data describe other --ask` asks for each" in said


def test_each_statement_is_asked_for_and_enter_leaves_it_as_it_is(home: Path):
    words = ["data", "describe", "colon", "--ask", "--devices", "Olympus", "--home", str(home), "--json"]
    done = CliRunner().invoke(app, words, input="\n a paper \ntwo physicians\n")  # and no more
    stated = {"licence": "CC-BY-4.0", "source": "a paper", "annotators": "two physicians"}
    known = {**stated, "centers": "Oslo, Norway", "devices": "Olympus"}
    assert json.loads(done.stdout) == dict.fromkeys(FIELDS, NOT_STATED) | known
    assert "Licence or terms of use, such as CC-BY-4.0. Now: CC-BY-4.0" in done.stderr
    assert "Endoscopes" not in done.stderr  # that is given


def test_later_statements_are_added_and_taken_back_and_the_dataset_stays_what_it_is(home: Path):
    before = load_dataset(home, "colon")
    told(home, "describe", "colon", "--source", "a paper", "--licence", "research only")
    card = told(home, "describe", "colon", "--centers", NOT_STATED)
    assert (card["licence"], card["source"], card["centers"]) == ("research only", "a paper", NOT_STATED)
    assert load_dataset(home, "colon") == before and check_dataset(before) == []
    shown = CliRunner().invoke(app, ["data", "show", "colon", "--home", str(home)]).stdout
    assert "licence  research only" in shown and "dates  not stated" in shown


def test_a_dataset_of_an_earlier_version_states_nothing(home: Path):
    folder = load_dataset(home, "colon").folder
    (folder / "card.json").unlink()
    assert stated(folder) == {} and set(all_fields(folder).values()) == {NOT_STATED}


def test_a_damaged_card_and_a_text_without_end_are_refused(home: Path):
    folder = load_dataset(home, "colon").folder
    done = CliRunner().invoke(app, ["data", "describe", "colon", "--dates", "x" * 2001, "--home", str(home)])
    assert isinstance(done.exception, BadData) and "--dates: expected at most 2000" in str(done.exception)
    (folder / "card.json").write_text("{")
    with pytest.raises(BadData, match=r"card\.json"):
        state(folder, {"dates": "2020"})
