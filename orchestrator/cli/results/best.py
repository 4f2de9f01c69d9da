"""`orchestrator best`: the winner of a study, and its hand-over as files that other programs load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.console.options import (
    DEFAULT_HOME,
    Address,
    AsJson,
    Cache,
    Device,
    Formats,
    Home,
    Metric,
    TrackingUri,
    Width,
    Yes,
    absolute,
)
from orchestrator.cli.console.printing import err, out, print_json, show_table
from orchestrator.cli.console.reading import known_metric, tell_damage
from orchestrator.cli.results.networks import Networks, Trainer
from orchestrator.search.choices import BestRule, EnsembleName

if TYPE_CHECKING:
    from orchestrator.results.views.score_lines import ScoreLine
    from orchestrator.search.records.fit_records import FitRecord
    from orchestrator.search.records.trial_score import TrialScore
    from orchestrator.search.store.snapshot import StudySnapshot
    from orchestrator.search.store.trials import StudyTrial
    from orchestrator.selection.ranking import Selection


def best(
    study: Annotated[str | None, typer.Argument(help="Default: the study worked on last.")] = None,
    export: Annotated[
        Path | None,
        typer.Option(callback=absolute, help="Folder for the model: weights, ONNX, config, card."),
    ] = None,
    formats: Formats = None,
    yes: Yes = False,
    metric: Metric = "dice",
    rule: Annotated[
        BestRule,
        typer.Option(help="one-se: the cheapest trial within one standard error of the best."),
    ] = "best",
    trial_number: Annotated[
        int | None, typer.Option("--trial", min=0, help="Take this one, such as another of the Pareto front.")
    ] = None,
    refit: Annotated[
        bool, typer.Option(help="Train once more on all cases of the folds, and take that.")
    ] = False,
    ensemble: Annotated[
        EnsembleName | None,
        typer.Option(
            help="Networks in one, which averages their probabilities. folds: those of all folds. greedy: of trials, "
            "one joining after the other as long as the cross-validated score rises. best: that, or the single trial "
            "where nobody joins."
        ),
    ] = None,
    champion: Annotated[
        bool | None,
        typer.Option(
            "--champion/--no-champion",
            help="Whether models:/STUDY@champion in MLflow is to stand for this export. Default: where nobody has that "
            "alias yet, or a network of the same kind (fold, refit, ensemble) of this study has it and --trial is not "
            "given; what it stood for is said.",
        ),
    ] = None,
    address: Address = "auto",
    device: Device = "auto",
    workers_per_fit: Width = None,
    home: Home = DEFAULT_HOME,
    cache: Cache = None,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Show the winner of a study, and hand it over as files that other programs load.

    Scores in tables are percent, in JSON and MLflow shares from 0 to 1.
    """
    from orchestrator.results.export.formats.names import formats_of
    from orchestrator.results.mlflow.client import default_uri
    from orchestrator.selection.ranking import select_trial

    home = home.expanduser().resolve()
    uri = tracking_uri or default_uri(home)
    found = _found(home, study, metric, export, formats, uri if refit or export is not None else None)
    standing = _standing(found, metric, rule, trial_number)
    selection = select_trial(found, standing, metric, rule, trial_number)
    trial, score = next(pair for pair in standing if pair[0].number == selection.chosen)
    asked = formats_of(formats, score.masks)
    if export is not None and not _may_replace(
        export, found, trial, refit, ensemble, trial_number is None, yes=yes
    ):
        raise typer.Exit(1)
    trainer = Trainer(found.store, found, address, device, workers_per_fit, cache or home / "cache")
    networks = trainer.networks(standing, trial, score, metric, ensemble, refit=refit)
    if export is not None or networks.is_ensemble:
        _refuse_pruned(found, trial, networks.records)
    if networks.is_ensemble or (export is not None and found.champion is not None):
        trainer.score(networks.records)
    handed = _Handed(found, trial, selection, networks)
    if as_json:
        print_json(handed.as_dict())
    else:
        kind = rule if trial_number is None else "one"
        handed.show(f"{kind} of {len(standing)} finished trials by {found.objective.label(metric)}", standing)
    handed.log_refits(standing, uri)
    if export is not None:
        for line in handed.export(export, asked, uri, move=champion, is_chosen=trial_number is None):
            (err if as_json else out).print(line, markup=False, highlight=False)


def _found(
    home: Path, study: str | None, metric: str, export: Path | None, formats: str | None, uri: str | None
) -> StudySnapshot:
    """The study. Raises every mistake in what is asked of it; says which of its files are damaged."""
    from orchestrator.common.errors import Mistakes
    from orchestrator.results.mlflow.client import check_uri
    from orchestrator.search.store.study_store import find_study

    mistakes = Mistakes()
    with mistakes.noted():
        found = find_study(home, study).snapshot()
    with mistakes.noted():
        known_metric(metric)
    if export is not None:
        from orchestrator.results.export.write import refuse_to_overwrite

        with mistakes.noted():
            refuse_to_overwrite(export)
    if formats is not None:
        from orchestrator.results.export.formats.names import formats_of, only_with_export

        with mistakes.noted():
            formats_of(formats)
        with mistakes.noted():
            only_with_export(export)
    if uri is not None:
        with mistakes.noted():
            check_uri(uri)
    mistakes.raise_all()
    tell_damage(found)
    return found


def _may_replace(
    folder: Path,
    found: StudySnapshot,
    trial: StudyTrial,
    refit: bool,
    ensemble: EnsembleName | None,
    is_chosen: bool,
    *,
    yes: bool,
) -> bool:
    """Whether the folder may be written, asked before anything is trained; `BadData` where nobody can be asked."""
    from orchestrator.cli.console.printing import agreed
    from orchestrator.results.export.write import why_ask

    earlier = why_ask(
        folder, found.name, trial.number, refit=refit, ensemble=ensemble is not None, chosen=is_chosen
    )
    return earlier is None or agreed(f"{folder} holds another network ({earlier}); replace it", yes=yes)


def _standing(
    found: StudySnapshot, metric: str, rule: BestRule, trial_number: int | None
) -> list[tuple[StudyTrial, TrialScore]]:
    """Finished trials, best first. Raises `BadStudy` where the one that is asked for cannot be among them."""
    from orchestrator.common.errors import BadStudy

    standing = found.ranked(metric)
    if not standing:
        raise BadStudy(found.name, "has no finished trial yet; run `orchestrator search` on")
    if trial_number is not None and trial_number not in {trial.number for trial, _ in standing}:
        raise BadStudy(found.name, f"trial {trial_number} has not finished all its folds, or does not exist")
    if trial_number is None and not found.contenders():
        raise BadStudy(
            found.name, "no finished trial keeps its constraints; --trial N takes one all the same"
        )
    if rule == "one-se" and not found.objective.is_mean:
        raise BadStudy(
            found.name,
            f"is ranked by {found.objective.label(metric)}, and --rule one-se goes by means over images; --trial N "
            "takes any trial",
        )
    return standing


@dataclass(frozen=True)
class _Handed:
    """The trial that is shown, and handed over where that is asked for."""

    study: StudySnapshot
    trial: StudyTrial
    selection: Selection
    networks: Networks

    @property
    def remarks(self) -> tuple[str, ...]:
        """On the choice of several networks, and what they cost."""
        from orchestrator.selection.ensemble import cost

        team, records = self.networks.team, self.networks.records
        remarks = team.sentences() if team is not None else ()
        return (*remarks, cost(records)) if len(records) > 1 else tuple(remarks)

    @property
    def lines(self) -> list[ScoreLine]:
        """Scores on folds, on all validation images and on images outside the search."""
        from orchestrator.results.views.study_scores import fold_lines, outside_lines, validation_line

        score = self.networks.score
        return [
            *fold_lines(self.study, self.trial, score),
            validation_line(self.study, score),
            *outside_lines(self.study, self.networks.records, score.masks),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        from orchestrator.results.views.tables import score_dicts
        from orchestrator.search.records.fit_records import scored_as
        from orchestrator.selection.nested import nested_of

        score, team, nested = self.networks.score, self.networks.team, nested_of(self.study.store)
        fit_ids = [record.fit_id for record in self.networks.records]
        return {
            "study": self.study.name,
            "trial": self.trial.number,
            "params": self.trial.params,
            "threshold": score.threshold,
            "masks": score.masks.as_dict(),
            "fit_id": scored_as(fit_ids),
            "members": fit_ids,
            "scores": score_dicts(self.lines),
            "selection": self.selection.as_dict(),
            "front": list(self.study.front),
            "ensemble": None if team is None else team.as_dict(),
            "nested": None if nested is None else nested.as_dict(),
        }

    def show(self, how: str, standing: Sequence[tuple[StudyTrial, TrialScore]]) -> None:
        """Tables and sentences; `how` the trial was chosen."""
        from orchestrator.results.views.study_scores import (
            front_lines,
            means_of,
            nested_lines,
            validation_line,
        )
        from orchestrator.results.views.tables import versus_table

        trial, score, selection = self.trial, self.networks.score, self.selection
        searched = ", ".join(
            f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in trial.searched.items()
        )
        out.print(f"{how}: trial {trial.number} ({searched})", markup=False, highlight=False)
        self._show_scores()
        for line in (*selection.sentences(), *self.remarks):
            out.print(line, markup=False, highlight=False)
        if not_worse := (*selection.alike, *selection.better):
            own, means = validation_line(self.study, score).name, means_of(standing, selection.metric)
            show_table(versus_table(not_worse, selection.winner, means, selection.metric, own))
        for line in (*front_lines(self.study), *nested_lines(self.study)):
            out.print(line, highlight=False)

    def _show_scores(self) -> None:
        from orchestrator.results.export.card.scoring import WHOSE_MASKS
        from orchestrator.results.views.study_scores import search_line
        from orchestrator.results.views.tables import score_table

        score = self.networks.score
        title = f"{self.study.name}, trial {self.trial.number}, in percent; threshold {score.threshold:.3f}"
        in_search = search_line(score) if self.networks.team is None else []
        show_table(score_table([*in_search, *self.lines], title))
        if score.is_cross_fitted:
            said = (
                "In the search: at that threshold, as leaderboard and status show it. " if in_search else ""
            )
            out.print(f"{said}{WHOSE_MASKS}".replace("\n", " "), highlight=False)

    def log_refits(self, standing: Sequence[tuple[StudyTrial, TrialScore]], uri: str) -> None:
        """Log the networks that were trained on all cases, if any were."""
        if not self.networks.refits:
            return
        from orchestrator.results.export.exported_network import network_of
        from orchestrator.results.mlflow.network_run import log_network

        for trial, score in standing:
            if (record := self.networks.refits.get(trial.number)) is not None:
                log_network(self.study.store, network_of(self.study, trial, [record], score.masks), uri)

    def export(
        self, folder: Path, formats: Sequence[str], uri: str, *, move: bool | None, is_chosen: bool
    ) -> Iterator[str]:
        """Write the files, log and register the network; what was done, in lines."""
        from orchestrator.results.export.exported_network import network_of
        from orchestrator.results.export.formats.names import format_lines
        from orchestrator.results.export.handover import export_trial, summary
        from orchestrator.results.export.write import named_export
        from orchestrator.results.mlflow.model_registry import register_champion
        from orchestrator.results.mlflow.network_run import log_network

        study, trial, records, score = self.study, self.trial, self.networks.records, self.networks.score
        earlier = named_export(folder)
        written = export_trial(study, trial, score, records, folder, self.selection, self.remarks, formats)
        yield f"exported to {written}" + (f", in place of: {earlier}" if earlier else "")
        yield from format_lines(written, formats, score.masks)
        network = network_of(study, trial, records, score.masks)
        registered = register_champion(
            written,
            tracking_uri=uri,
            study=study.name,
            study_id=study.study_id,
            network=network,
            run_id=log_network(study.store, network, uri),
            description=summary(study, trial, score, records),
            tags=self.selection.tags() | {"members": str(len(network.records))},
            move=move,
            is_chosen=is_chosen,
        )
        yield registered.sentence(study.name)


def _refuse_pruned(study: StudySnapshot, trial: StudyTrial, records: Sequence[FitRecord]) -> None:
    from orchestrator.common.errors import BadStudy

    if not all(record.weights.exists() for record in records):
        raise BadStudy(
            study.name,
            f"the weights of trial {trial.number} were pruned, as it was not among the best by dice; add --refit",
        )
