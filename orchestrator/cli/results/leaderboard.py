"""`orchestrator leaderboard`: the trials of a study, best first."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.console.options import DEFAULT_HOME, AsJson, Home, Metric
from orchestrator.cli.console.reading import ON_DAMAGE, study_of
from orchestrator.terminal.printing import out, print_json, show_table


def leaderboard(
    study: Annotated[
        str | None, typer.Argument(help="Name of the study. Default: the one worked on last.")
    ] = None,
    metric: Metric = "dice",
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help="Show all scores with intervals, scores outside the search, and full reasons."
        ),
    ] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Show the trials of a study, best first; scores are in percent here, from 0 to 1 in JSON."""
    ranking = study_of(home, study, metric).ranking(metric, ON_DAMAGE)
    if as_json:
        print_json(ranking.as_dicts())
        return
    for shown in ranking.tables(out.width, everything=everything):
        out.print(shown, highlight=False) if isinstance(shown, str) else show_table(shown)
