"""`orchestrator status`: how a study stands, from any shell that sees its home."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.console.options import DEFAULT_HOME, AsJson, Home
from orchestrator.terminal.live import WORDS, picture
from orchestrator.terminal.printing import out, print_json

if TYPE_CHECKING:
    from orchestrator.results.stored_study import StoredStudy
    from orchestrator.search.records.status import Status


def status(
    study: Annotated[
        str | None, typer.Argument(help="Name of the study. Default: the one worked on last.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Refresh every second until the study ends.")
    ] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Show the progress of a study: trials, folds, lanes, pace, the best so far, time left.

    Works from another shell or machine while the study runs, and after it ended or was killed. With --watch and --json,
    print a line of JSON every second. Scores are in percent here, from 0 to 1 in JSON, where `estimate` is the score
    that the race expects of a trial, imputed where folds are missing.
    """
    from orchestrator.api.studies import load_study
    from orchestrator.cli.console.reading import ON_DAMAGE
    from orchestrator.search.records.status import OVER
    from orchestrator.search.records.status import as_json as plain

    found = load_study(study, home=home)
    now = found.status(ON_DAMAGE)
    if not watch:
        print_json(plain(now)) if as_json else _show(now)
        return
    if as_json:
        while True:
            print_json(plain(now), indent=None)
            if now.state in OVER:
                return
            time.sleep(1)
            now = found.status()
    _watch(found, now)


def _watch(found: StoredStudy, now: Status) -> None:
    from rich.live import Live

    from orchestrator.search.records.status import OVER

    with Live(console=out, transient=True, auto_refresh=False) as live:
        while now.state not in OVER:
            live.update(picture(now, out, out.height - 9), refresh=True)
            time.sleep(1)
            now = found.status()
    _show(now)


def _show(now: Status) -> None:
    out.print(picture(now, out), highlight=False, soft_wrap=False)
    where = f"process {now.pid} on {now.host}" if now.pid else "an unknown process"
    last = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now.heartbeat))
    out.print(f"{WORDS[now.state]}; {where}, last heard from at {last}", highlight=False, style="dim")
