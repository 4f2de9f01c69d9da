"""Databases by URL: what is refused, and that a study in one is the study that its journal would hold."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import optuna
import pytest
from formula import formula_study
from optuna.trial import TrialState
from ray.tune.error import TuneError
from sqlalchemy import create_engine, event, make_url, text
from sqlalchemy.exc import OperationalError
from visits import DiskStudy

from orchestrator.common.errors import BadMachine, BadStudy
from orchestrator.search.progress.recorded import recorded_status
from orchestrator.search.store import optuna_storage as storage
from orchestrator.search.store.optuna_storage import explained_errors, kept_url, open_database, reach
from orchestrator.search.store.study_store import find_study
from orchestrator.search.study_spec import StudySpec

SERVERS = [
    pytest.param(
        os.environ.get(variable),
        marks=pytest.mark.skipif(
            variable not in os.environ, reason=f"{variable} names no server, {backend}://..."
        ),
        id=backend,
    )
    for backend, variable in (("postgresql", "POLYP_POSTGRES"), ("mysql", "POLYP_MYSQL"))
]


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A home with drawn frames in it."""
    home = tmp_path_factory.mktemp("home")
    formula_study(home, num_trials=1)
    return home


@pytest.fixture(params=[pytest.param(None, id="sqlite"), *SERVERS])
def url(request, tmp_path) -> Iterator[str]:
    """A database; that on a server is not emptied: studies in it have names of their own."""
    found = request.param or f"sqlite:///{tmp_path}/trials.db"
    yield found
    close(found)


def close(url: str) -> None:
    """Let go of its connections, as a process that is killed does."""
    storage = open_database(url)
    storage._backend.engine.dispose()  # type: ignore[attr-defined]
    open_database.cache_clear()


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("sixpence", "expected a URL such as postgresql://user@host/database"),
        ("oracle://host/name", "expected one of postgresql, mysql, mariadb, sqlite, found oracle"),
        ("sqlite://", "sqlite needs a file"),
        ("sqlite:///:memory:", "sqlite needs a file"),
        ("postgresql+smoke://host/name", "no driver is named postgresql.smoke"),
        ("mysql+aiomysql://host/name", "mysql needs the package aiomysql, which is not installed"),
        ("mysql://host/name", "MySQLdb, which is not installed; or write mysql.pymysql://"),
        ("postgresql://me:sixpence@host/name", "must not hold a password; write it into ~/.pgpass"),
        ("mysql://host/name?passwd=sixpence", "must not hold a password; .*read_default_file"),
    ],
)
def test_what_cannot_be_used_is_refused_and_no_password_is_shown(told, words):
    with pytest.raises(BadMachine, match=words) as refusal:
        kept_url(told)
    assert "sixpence" not in str(refusal.value)


def test_a_file_is_kept_by_its_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert kept_url("sqlite:///trials.db") == f"sqlite:///{tmp_path}/trials.db"


def as_tune_ends_a_trial(disk: DiskStudy, name: str) -> None:
    """What goes wrong when the searcher is told is told again as an error, and what comes of that is put in words."""
    try:
        try:
            disk.searcher.on_trial_complete(name)
        except Exception:
            disk.searcher.on_trial_complete(name, error=True)
    except Exception:
        raise TuneError("a traceback in words")  # noqa: B904  # as Tune does


def test_a_database_that_cannot_be_reached_is_said_so(tmp_path):
    with pytest.raises(BadMachine, match="or denies access: unable to open database file"):
        reach(f"sqlite:///{tmp_path}/missing/trials.db")


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_that_is_away_is_said_so(server):
    driver = make_url(server).drivername
    with pytest.raises(BadMachine, match=r"(?i)connection refused"):
        reach(kept_url(f"{driver}://me@127.0.0.1:9/name"))


def test_a_database_that_goes_away_in_the_middle_is_said_in_words(template, tmp_path):
    url = f"sqlite:///{tmp_path}/trials.db"
    disk = DiskStudy(template, tmp_path, storage=url)
    disk.run(1)
    close(url)
    (tmp_path / "trials.db").unlink()
    with pytest.raises(BadMachine, match=r"--storage: .*no such table"), explained_errors():
        disk.run(1)


def test_a_database_that_goes_away_is_said_in_words_whatever_tune_makes_of_it(template, tmp_path):
    url = f"sqlite:///{tmp_path}/trials.db"
    disk = DiskStudy(template, tmp_path, storage=url)
    name, visit = disk.suggest()
    disk.train(visit, visit["folds"])
    disk.engine.finish(visit["number"], 4)
    close(url)
    (tmp_path / "trials.db").unlink()
    with pytest.raises(BadMachine, match=r"--storage: .*no such table"), explained_errors():
        as_tune_ends_a_trial(disk, name)


def test_a_database_that_restarts_is_waited_for_and_one_that_stays_away_is_not_for_ever(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(storage, "RETRY_S", 0.02)
    monkeypatch.setattr(storage, "RESTART_S", 0.2)
    away, disk = tmp_path / "away", create_engine(f"sqlite:///{tmp_path}/away/trials.db")
    event.listen(disk, "do_connect", storage.connect_again)
    with pytest.raises(OperationalError, match="unable to open"):
        disk.connect()
    Timer(0.1, away.mkdir).start()
    monkeypatch.setattr(storage, "RESTART_S", 60)
    with disk.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    disk.dispose()


def test_every_command_finds_the_database_and_a_study_stays_in_it(template, tmp_path, url):
    study = formula_study(tmp_path, num_trials=1)
    study.store.begin(study.space, study.plan, StudySpec(storage=url))
    study.store.optuna_study().ask()
    assert len(find_study(tmp_path, "formula").optuna_study().trials) == 1
    assert not study.store.journal_file.exists()
    study.store.begin(study.space, study.plan)  # not told: where it was begun
    with pytest.raises(BadStudy, match=r"storage: was .*, now .*other.db"):
        study.store.begin(study.space, study.plan, StudySpec(storage="sqlite:////other.db"))


def test_who_looks_at_a_study_that_has_just_begun_makes_none_in_the_database(tmp_path, url):
    study = formula_study(tmp_path, num_trials=1)
    study.store.begin(study.space, study.plan, StudySpec(storage=url))
    before = optuna.get_all_study_names(open_database(url))
    assert (recorded_status(study.store.snapshot()).trials, study.store.trials()) == ((), [])
    assert optuna.get_all_study_names(open_database(url)) == before


def test_a_study_in_a_journal_does_not_move_and_one_of_before_has_a_journal(tmp_path):
    study = formula_study(tmp_path, num_trials=1)
    study.store.begin(study.space, study.plan)
    with pytest.raises(BadStudy, match="storage: was none"):
        study.store.begin(study.space, study.plan, StudySpec(storage="sqlite:////other.db"))
    manifest = json.loads(study.store.manifest_file.read_text())
    del manifest["storage"]
    study.store.manifest_file.write_text(json.dumps(manifest))
    study.store.begin(study.space, study.plan)
    assert study.store.storage is None


@pytest.mark.slow
def test_killed_after_every_visit_it_is_the_study_that_a_journal_holds(template, tmp_path, url):
    whole = DiskStudy(template, tmp_path / "a", num_trials=5, race="paired")
    visits = whole.run()
    parts: list[dict] = []
    while step := DiskStudy(template, tmp_path / "b", num_trials=5, race="paired", storage=url).run(1):
        parts += step
        close(url)
    assert parts == visits
    stored = DiskStudy(template, tmp_path / "b", num_trials=5, race="paired", storage=url).trials
    assert [(t.state, t.params) for t in stored] == [(t.state, t.params) for t in whole.trials]
    assert [t.value for t in stored] == pytest.approx([t.value for t in whole.trials])


def test_a_trial_that_was_left_running_is_taken_up(template, tmp_path, url):
    first = DiskStudy(template, tmp_path, storage=url)
    first.run(2)
    before = first.suggest()[1]
    close(url)
    again = DiskStudy(template, tmp_path, storage=url)
    assert again.trials[-1].state == TrialState.RUNNING
    assert again.suggest()[1] == before


def test_a_visit_asks_no_more_of_the_database_for_there_being_many_trials(template, tmp_path, url):
    disk = DiskStudy(template, tmp_path, num_trials=8, storage=url)
    asked: list[str] = []
    event.listen(
        open_database(url)._backend.engine,  # type: ignore[attr-defined]
        "before_cursor_execute",
        lambda connection, cursor, statement, *rest: asked.append(statement),
    )
    counts = []
    while disk.run(1):
        counts.append(len(asked))
        asked.clear()
    assert len(counts) == 8
    assert max(counts[4:]) <= max(counts[1:4])
    assert max(counts) < 130
