"""`orchestrator leaderboard`: the trials of a study, best first."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.console.options import DEFAULT_HOME, AsJson, Home, Metric
from orchestrator.cli.console.printing import out, print_json, show_table
from orchestrator.cli.console.reading import tell_damage


def leaderboard(
    study: Annotated[str | None, typer.Argument(help="Default: the study worked on last.")] = None,
    metric: Metric = "dice",
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help="All scores with intervals, scores outside the search, and reasons in full."
        ),
    ] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Show the trials of a study, best first; scores in percent, in JSON from 0 to 1."""
    from orchestrator.common.errors import Mistakes
    from orchestrator.results.stored_study import known_metric
    from orchestrator.results.views.by_network import network_sentence, network_table, networks_of
    from orchestrator.results.views.short_leaderboard import short_leaderboard
    from orchestrator.results.views.study_scores import board, nested_lines
    from orchestrator.results.views.tables import leaderboard as table
    from orchestrator.results.views.tables import leaderboard_dicts
    from orchestrator.search.store.study_store import find_study

    mistakes = Mistakes()
    with mistakes.noted():
        found = find_study(home.expanduser().resolve(), study).snapshot()
    with mistakes.noted():
        known_metric(metric)
    mistakes.raise_all()
    tell_damage(found)
    rows = board(found, metric)
    if as_json:
        print_json(leaderboard_dicts(rows, metric))
    else:
        head = None if found.objective.is_mean else found.objective.name
        title = f"{found.name}, scores on validation images in percent"
        shown = (
            table(rows, title, metric, head, out.width)
            if everything
            else short_leaderboard(rows, found.name, metric, head, out.width)
        )
        if networks := networks_of(found, rows, metric):
            show_table(network_table(networks, metric))
            out.print(network_sentence(networks), highlight=False)
        show_table(shown)
        for line in nested_lines(found):
            out.print(line, highlight=False)
