"""`orchestrator best`: the winner of a study, and its export as files that other programs load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.console.asking import may_replace
from orchestrator.cli.console.options import (
    DEFAULT_HOME,
    Address,
    AsJson,
    Cache,
    ChoosingMetric,
    Device,
    Formats,
    Home,
    TrackingUri,
    Width,
    Yes,
    absolute,
)
from orchestrator.cli.console.reading import study_of
from orchestrator.search.choices import BestRule, EnsembleName
from orchestrator.terminal.live import CONSOLE
from orchestrator.terminal.printing import err, out, print_json, show_table

if TYPE_CHECKING:
    from orchestrator.results.best_trial import BestTrial


StudyName = Annotated[str | None, typer.Argument(help="Name of the study. Default: the one worked on last.")]
Export = Annotated[
    Path | None,
    typer.Option(callback=absolute, help="Folder to export the model to: weights, ONNX, config, card."),
]
Rule = Annotated[
    BestRule,
    typer.Option(help="one-se: the cheapest trial within one standard error of the best."),
]
TrialNumber = Annotated[
    int | None,
    typer.Option("--trial", min=0, help="Use this trial, such as another one of the Pareto front."),
]
NetworkName = Annotated[
    str | None, typer.Option(help="Use the best trial of this network, in a study over several.")
]
Refit = Annotated[bool, typer.Option(help="Retrain on all cases of the folds, and use that network.")]
Ensemble = Annotated[
    EnsembleName | None,
    typer.Option(
        help="Average the probabilities of several networks. folds: those of all folds. greedy: those of several "
        "trials, adding one trial after another while the cross-validated score rises. best: greedy, or the single "
        "trial if no other is added."
    ),
]
Champion = Annotated[
    bool | None,
    typer.Option(
        "--champion/--no-champion",
        help="Whether models:/STUDY@champion in MLflow should point to this export. Default: yes if nothing has that "
        "alias yet, or if a network of the same kind (fold, refit, ensemble) of this study has it and --trial is not "
        "given; what it pointed to is shown.",
    ),
]


def best(
    study: StudyName = None,
    export: Export = None,
    formats: Formats = None,
    yes: Yes = False,
    metric: ChoosingMetric = "dice",
    rule: Rule = "best",
    trial_number: TrialNumber = None,
    network: NetworkName = None,
    refit: Refit = False,
    ensemble: Ensemble = None,
    champion: Champion = None,
    address: Address = "auto",
    device: Device = "auto",
    workers_per_fit: Width = None,
    home: Home = DEFAULT_HOME,
    cache: Cache = None,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Show the winner of a study, and export it as files that other programs load.

    Scores are in percent in tables, from 0 to 1 in JSON and MLflow.
    """
    from orchestrator.results.export.formats.names import only_with_export
    from orchestrator.results.mlflow.client import default_uri

    if champion is not None:
        only_with_export(export, "--champion" if champion else "--no-champion")
    uri = tracking_uri or default_uri(home.expanduser().resolve())
    output: dict[str, Any] = {
        "export": export,
        "formats": formats,
        "tracking_uri": uri if refit or export is not None else None,
    }
    how: dict[str, Any] = {"rule": rule, "trial": trial_number, "network": network, "ensemble": ensemble}
    winner = study_of(home, study, metric, **output, how=how).best(
        metric,
        refit=refit,
        **how,
        **output,
        replace=may_replace(yes=yes),
        address=address,
        device=device,
        workers_per_fit=workers_per_fit,
        cache=cache,
        display=CONSOLE,
    )
    if as_json:
        print_json(winner.as_dict())
    else:
        _show(winner, rule)
    winner.log_refits(uri)
    if export is not None:
        for line in winner.hand_over(export, winner.formats(formats), uri, move=champion):
            (err if as_json else out).print(line, markup=False, highlight=False)


def _show(best: BestTrial, rule: BestRule) -> None:
    """Print tables and sentences on the trial that was chosen by the rule or by its number."""
    from orchestrator.results.views.study_scores import front_lines, means_of, nested_lines, validation_line
    from orchestrator.results.views.tables import versus_table

    choice, score = best.choice, best.networks.score
    study, selection = choice.study, choice.selection
    searched = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in choice.trial.searched.items()
    )
    kind = "one" if choice.is_named else rule
    how = f"{kind} of {len(choice.standing)} finished trials by {study.objective.label(selection.metric)}"
    out.print(f"{how}: trial {best.number} ({searched})", markup=False, highlight=False)
    _show_scores(best)
    for line in best.reasons:
        out.print(line, markup=False, highlight=False)
    if not_worse := (*selection.alike, *selection.better):
        own, means = validation_line(study, score).name, means_of(choice.standing, selection.metric)
        num_compared = selection.num_compared
        show_table(versus_table(not_worse, selection.winner, means, selection.metric, num_compared, own))
    for line in (*front_lines(study), *nested_lines(study)):
        out.print(line, highlight=False)


def _show_scores(best: BestTrial) -> None:
    from orchestrator.results.export.card.scoring import WHOSE_MASKS
    from orchestrator.results.views.study_scores import search_line
    from orchestrator.results.views.tables import score_table

    score = best.networks.score
    title = f"{best.choice.study.name}, trial {best.number}, in percent; threshold {score.threshold:.3f}"
    in_search = search_line(score) if best.networks.team is None else []
    show_table(score_table([*in_search, *best.lines], title))
    if score.is_cross_fitted:
        said = "In the search: at that threshold, as leaderboard and status show it. " if in_search else ""
        out.print(f"{said}{WHOSE_MASKS}".replace("\n", " "), highlight=False)
