"""`orchestrator sync`: what a study's sinks lack is written from its records, without a search."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from orchestrator.cli.console.options import DEFAULT_HOME, Home, TrackingUri
from orchestrator.cli.console.printing import out
from orchestrator.common.display import counted


def sync(
    study: Annotated[str | None, typer.Argument(help="Default: the study worked on last.")] = None,
    home: Home = DEFAULT_HOME,
    tracking_uri: TrackingUri = None,
) -> None:
    """Write what MLflow, or the CSV files, lack of a study, from its records on disk.

    For a server that was away when the search ended, or another one. Nothing is trained, and nothing written twice.
    Exit code 2 if the server does not answer.
    """
    from orchestrator.common.errors import BadMachine
    from orchestrator.results.mlflow.client import refuse_locked_out
    from orchestrator.results.mlflow.sink import MlflowSink, end_on_record
    from orchestrator.results.sinks.csv_files import CsvSink
    from orchestrator.search.store.study_store import find_study

    found = find_study(home.expanduser().resolve(), study)
    sinks = CsvSink(found), MlflowSink(found, tracking_uri)
    refuse_locked_out(sinks[1].uri)
    with found.lock():
        is_over, champion = end_on_record(found)
        for sink in sinks:
            with sink:
                if is_over:
                    sink.finished(champion)
                sink.close(math.inf)
            if sink.is_away:
                raise BadMachine(sink.name, f"{sink.problem}; the same command goes on from here")
    num_trials = len(sinks[1].replay.records.trials)
    out.print(
        f"{found.name}: {counted(num_trials, 'trial')} in {sinks[1].name}", markup=False, highlight=False
    )
    out.print(f"trials.csv, folds.csv and epochs.csv are in {found.folder}", markup=False, highlight=False)
