"""`orchestrator studies`: every study of a home; remove one."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.console.options import DEFAULT_HOME, AsJson, Home, Yes
from orchestrator.scoring.formatting import percent
from orchestrator.terminal.printing import agreed, megabytes, nothing_in, out, print_json, show_table

if TYPE_CHECKING:
    from orchestrator.results.stored_study import StoredStudy
    from orchestrator.search.store.study_store import StudyStore

app = typer.Typer(help="List studies, or remove one.", invoke_without_command=True)


@dataclass(frozen=True)
class StudyRow:
    """A study in a list."""

    name: str
    state: str  # of `status`, or "unreadable"
    trials: int | None
    best_trial: int | None  # the champion once there is one
    dice: float | None  # what it is ranked by, from 0 to 1
    bytes: int  # on disk
    last_used: str  # ISO 8601
    problem: str | None = None  # why it cannot be read


@app.callback()
def studies_list(context: typer.Context, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """List all studies, newest first: state, trials, best trial, size on disk, last used.

    Dice is in percent here, from 0 to 1 in JSON.
    """
    if context.invoked_subcommand is not None:
        return
    from orchestrator.api import studies as api
    from orchestrator.api.home import home_folder

    rows = [_row(study) for study in api.studies(home).values()]
    if as_json:
        print_json([asdict(row) for row in rows])
    elif rows:
        _show(rows)
    else:
        nothing_in(home_folder(home), "no studies yet; `orchestrator search` makes one")


@app.command("remove")
def studies_remove(
    name: Annotated[str, typer.Argument(help="Study, as `orchestrator studies` names it.")],
    yes: Yes = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Delete a study with the records, weights and scores of all its trials; refused while a process works on it.

    Its runs and models in MLflow stay, and so do exported models and datasets.
    """
    from orchestrator.api import studies as api
    from orchestrator.study.housekeeping import folders_of, refuse_removal, size_of

    store = api.load_study(name, home=home).store
    refuse_removal(store)
    folders = folders_of(store)
    num_bytes = size_of(*folders)
    stays = _stays(store)
    question = f"remove study {name}, {megabytes(num_bytes)}: {', '.join(map(str, folders))}; {stays}"
    if not agreed(question, yes=yes):
        raise typer.Exit(1)
    api.remove_study(name, home=home)
    if as_json:
        print_json({"study": name, "bytes": num_bytes, "folders": [*map(str, folders)], "stays": stays})
    else:
        out.print(f"removed study {name}, {megabytes(num_bytes)}; {stays}", markup=False, highlight=False)


def _stays(store: StudyStore) -> str:
    """Sentence on the data of a removed study that stays elsewhere: runs in MLflow, trials in a database."""
    from orchestrator.common.errors import UserError
    from orchestrator.common.redaction import without_secrets

    with suppress(UserError):  # one that cannot be read can still be removed
        if store.storage is not None:
            name = store.name_in_database(store.study_id)
            database = without_secrets(store.storage)
            return f"its runs in MLflow stay, and its trials in {database}, where they are study {name}"
    return "its runs in MLflow stay"


def _row(study: StoredStudy) -> StudyRow:
    from orchestrator.common.errors import UserError
    from orchestrator.study.housekeeping import folders_of, size_of

    store = study.store
    folders = folders_of(store)
    files = (store.manifest_file, store.manifest_copy, store.status_file, store.journal_file)
    touched = max(path.stat().st_mtime for path in files if path.exists())
    facts: dict[str, Any] = {
        "name": store.name,
        "bytes": size_of(*folders),
        "last_used": datetime.fromtimestamp(touched).astimezone().isoformat(timespec="seconds"),
    }
    try:
        status = study.status()
    except UserError as damaged:
        return StudyRow(
            state="unreadable", trials=None, best_trial=None, dice=None, problem=str(damaged), **facts
        )
    best = status.champion or status.best
    number, dice = (None, None) if best is None else (best.number, best.dice)
    return StudyRow(state=status.state, trials=status.num_trials, best_trial=number, dice=dice, **facts)


def _show(rows: list[StudyRow]) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in ("study", "state", "trials", "best trial", "dice", "size", "last used"):
        table.add_column(name, justify="left" if name in ("study", "state") else "right", overflow="fold")
    for row in rows:
        table.add_row(
            escape(row.name),
            row.state,
            *("–" if value is None else str(value) for value in (row.trials, row.best_trial)),
            percent(row.dice),
            megabytes(row.bytes),
            f"{datetime.fromisoformat(row.last_used):%Y-%m-%d %H:%M}",
        )
    show_table(table)
    for row in rows:
        if row.problem:
            out.print(row.problem, markup=False, highlight=False)
