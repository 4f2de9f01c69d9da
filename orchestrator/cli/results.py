"""`orchestrator leaderboard`, `best` and `predict`: what a study found, and what is handed over."""

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
    Home,
    Metric,
    TrackingUri,
    Width,
    absolute,
)
from orchestrator.cli.console.printing import bar, epoch_line, err, out, plain, print_json
from orchestrator.search.choices import BestRule, EnsembleName

if TYPE_CHECKING:
    from orchestrator.ray_cluster.machine import Machine
    from orchestrator.results.views.score_lines import ScoreLine
    from orchestrator.search.fit_jobs import FitJobRunner
    from orchestrator.search.records.fit_records import FitRecord
    from orchestrator.search.records.trial_score import TrialScore
    from orchestrator.search.store.snapshot import StudySnapshot
    from orchestrator.search.store.study_store import StudyStore
    from orchestrator.search.store.trials import StudyTrial
    from orchestrator.selection.ensemble import Ensemble
    from orchestrator.selection.ranking import Selection


def leaderboard(
    study: Annotated[str | None, typer.Argument(help="Default: the study worked on last.")] = None,
    metric: Metric = "dice",
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Show the trials of a study, best first; scores in percent, in JSON from 0 to 1."""
    from orchestrator.common.errors import Mistakes
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
        objective = found.objective
        head = None if objective.is_mean else objective.name
        title = f"{found.name}, scores on validation images in percent"
        out.print(table(rows, title, metric, head, out.width), soft_wrap=False)
        for line in nested_lines(found):
            out.print(line, highlight=False)


def best(
    study: Annotated[str | None, typer.Argument(help="Default: the study worked on last.")] = None,
    export: Annotated[
        Path | None,
        typer.Option(callback=absolute, help="Folder for the model: weights, ONNX, config, card."),
    ] = None,
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
    from orchestrator.results.mlflow.client import default_uri
    from orchestrator.selection.ranking import select_trial

    home = home.expanduser().resolve()
    uri = tracking_uri or default_uri(home)
    found = _found(home, study, metric, export, uri if refit or export is not None else None)
    standing = _standing(found, metric, rule, trial_number)
    selection = select_trial(found, standing, metric, rule, trial_number)
    trial, score = next(pair for pair in standing if pair[0].number == selection.chosen)
    crew = _Crew(found.store, found, address, device, workers_per_fit, cache or home / "cache")
    networks = crew.networks(standing, trial, score, metric, ensemble, refit=refit)
    if export is not None or networks.is_ensemble:
        _refuse_pruned(found, trial, networks.records)
    if networks.is_ensemble or (export is not None and found.champion is not None):
        crew.score(networks.records)
    handed = _Handed(found, trial, selection, networks)
    if as_json:
        print_json(handed.as_dict())
    else:
        kind = rule if trial_number is None else "one"
        handed.show(f"{kind} of {len(standing)} finished trials by {found.objective.label(metric)}")
    handed.log_refits(standing, uri)
    if export is not None:
        for line in handed.export(export, uri, move=champion, is_chosen=trial_number is None):
            (err if as_json else out).print(line, markup=False, highlight=False)


def _found(home: Path, study: str | None, metric: str, export: Path | None, uri: str | None) -> StudySnapshot:
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
    if uri is not None:
        with mistakes.noted():
            check_uri(uri)
    mistakes.raise_all()
    tell_damage(found)
    return found


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
class _Networks:
    """What stands for a trial: the network of a fold, its refit, or several whose probabilities are averaged."""

    records: Sequence[FitRecord]
    score: TrialScore
    is_ensemble: bool
    team: Ensemble | None
    refits: dict[int, FitRecord]  # trial -> its own


@dataclass(frozen=True)
class _Handed:
    """The trial that is shown, and handed over where that is asked for."""

    study: StudySnapshot
    trial: StudyTrial
    selection: Selection
    networks: _Networks

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

    def show(self, how: str) -> None:
        """Tables and sentences; `how` the trial was chosen."""
        from orchestrator.results.export.model_card import WHOSE_MASKS
        from orchestrator.results.views.study_scores import front_lines, nested_lines
        from orchestrator.results.views.tables import score_table, versus_table

        trial, score, selection = self.trial, self.networks.score, self.selection
        searched = ", ".join(
            f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in trial.searched.items()
        )
        out.print(f"{how}: trial {trial.number} ({searched})", markup=False, highlight=False)
        title = f"{self.study.name}, trial {trial.number}, in percent; threshold {score.threshold:.3f}"
        out.print(score_table(self.lines, title))
        if score.is_cross_fitted:
            out.print(WHOSE_MASKS.replace("\\n", " "), highlight=False)
        for line in (*selection.sentences(), *self.remarks):
            out.print(line, markup=False, highlight=False)
        if not_worse := (*selection.alike, *selection.better):
            out.print(versus_table(not_worse))
        for line in (*front_lines(self.study), *nested_lines(self.study)):
            out.print(line, highlight=False)

    def log_refits(self, standing: Sequence[tuple[StudyTrial, TrialScore]], uri: str) -> None:
        """Log the networks that were trained on all cases, if any were."""
        if not self.networks.refits:
            return
        from orchestrator.results.export.exported_network import network_of
        from orchestrator.results.mlflow.network_run import log_network

        for trial, score in standing:
            if (record := self.networks.refits.get(trial.number)) is not None:
                log_network(self.study.store, network_of(self.study, trial, [record], score.masks), uri)

    def export(self, folder: Path, uri: str, *, move: bool | None, is_chosen: bool) -> Iterator[str]:
        """Write the files, log and register the network; what was done, in lines."""
        from orchestrator.results.export.exported_network import network_of
        from orchestrator.results.export.handover import export_trial, summary
        from orchestrator.results.export.write import named_export
        from orchestrator.results.mlflow.model_registry import register_champion
        from orchestrator.results.mlflow.network_run import log_network

        study, trial, records, score = self.study, self.trial, self.networks.records, self.networks.score
        earlier = named_export(folder)
        written = export_trial(study, trial, score, records, folder, self.selection, self.remarks)
        yield f"exported to {written}" + (f", in place of: {earlier}" if earlier else "")
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


def predict(
    bundle: Annotated[Path, typer.Argument(help="Folder that `best --export` made.")],
    images: Annotated[list[Path], typer.Argument(help="Images, or folders with images at any depth.")],
    out_folder: Annotated[
        Path, typer.Option("--out", help="Folder for masks and overlays, in subfolders as the images are.")
    ],
    as_json: AsJson = False,
) -> None:
    """Write a mask and an overlay for every image, from the exported model alone.

    Files that are no images are passed over, and named. Exit code 2 if an image could not be read. Masks lie on
    the image as viewers show it: upright, where EXIF says that its stored pixels are not.
    """
    from orchestrator.data.images import orientation
    from orchestrator.results.export.bundle import Bundle
    from orchestrator.results.export.predict import predict_files

    loaded = Bundle.load(bundle)
    with bar("predicting") as on_progress:
        found = predict_files(loaded, images, out_folder, on_progress)
    if line := found.inputs.passed_over_line():
        err.print(plain(line), markup=False, highlight=False)
    if num_turned := sum(orientation(one.image) != 1 for one in found.done):
        err.print(
            f"EXIF: {num_turned} of {len(found.done)} images are not stored upright; their masks are",
            highlight=False,
        )
    if as_json:
        print_json(found.as_dict())
    elif not found.failed:
        out.print(f"{len(found.done)} masks and overlays in {out_folder}", highlight=False)
    found.refuse_failed()


@dataclass(frozen=True)
class _Crew:
    """Trains and scores for one study where `best` is asked for more than what is on record."""

    study: StudyStore
    snapshot: StudySnapshot
    address: str
    device: Device
    workers_per_fit: int | None
    cache: Path

    def networks(
        self,
        standing: Sequence[tuple[StudyTrial, TrialScore]],
        trial: StudyTrial,
        score: TrialScore,
        metric: str,
        ensemble: EnsembleName | None,
        *,
        refit: bool,
    ) -> _Networks:
        """What stands for a trial, trained now where that is asked for and was not done."""
        from orchestrator.common.errors import BadStudy

        if refit and ensemble == "folds":
            raise BadStudy(
                self.study.name,
                "--refit trains one network on all cases, --ensemble averages those of the folds",
            )
        team = self.team(standing, trial, metric) if ensemble in ("greedy", "best") else None
        if team is not None and ensemble == "best" and team.versus is None:
            ensemble = None
        score = score if team is None else team.score
        refits: dict[int, FitRecord] = {}
        if refit:
            trials = team.trials if team is not None and ensemble else (trial,)
            refits = {one.number: self.refit(one) for one in {one.number: one for one in trials}.values()}
            records: Sequence[FitRecord] = [refits[one.number] for one in trials]
        elif team is not None and ensemble:
            records = team.records
        elif ensemble:
            records = _all_folds(self.snapshot, trial)
        else:
            records = [self.snapshot.champion_fit(trial)]
        return _Networks(records, score, bool(ensemble), team, refits)

    def team(
        self, standing: Sequence[tuple[StudyTrial, TrialScore]], chosen: StudyTrial, metric: str
    ) -> Ensemble:
        """The ensemble around a trial; what its members' company is worth is scored now, where it is not on record."""
        from orchestrator.selection.ensemble import select_ensemble
        from orchestrator.study.champion import scoring

        with scoring(self.study, *self._machine_and_work()) as score:
            return select_ensemble(self.snapshot, standing, chosen.number, metric, score)

    def refit(self, trial: StudyTrial) -> FitRecord:
        from orchestrator.study.champion import refit, spec_of_refit

        spec = spec_of_refit(self.study, trial)
        epochs = spec.stop_after or spec.recipe.epochs
        if not self.study.ledger.has(spec.fit_id):
            err.print(
                f"refit of trial {trial.number}: {len(spec.train)} images, {epochs} of the {spec.recipe.epochs} epochs "
                "of its schedule, as many as the folds took to their best one in the median",
                highlight=False,
            )
        return refit(
            self.study,
            trial,
            *self._machine_and_work(),
            lambda row: err.print(epoch_line(row, epochs), highlight=False),
        )

    def score(self, records: Sequence[FitRecord]) -> None:
        from orchestrator.study.champion import score_networks

        score_networks(self.study, tuple(record.fit_id for record in records), *self._machine_and_work())

    def _machine_and_work(self) -> tuple[Machine, FitJobRunner]:
        from orchestrator.cli.data.splits import load_unchanged
        from orchestrator.ray_cluster.machine import Machine
        from orchestrator.search.fit_jobs import FitJobRunner

        sources, unseen = self.snapshot.datasets, self.snapshot.unseen
        load_unchanged(self.study.home, [dataset.name for dataset in (*sources, *unseen)], self.cache)
        machine = Machine(self.address, self.device, self.workers_per_fit)
        return machine, FitJobRunner(self.study.home, self.cache, self.study.ledger)


def _all_folds(study: StudySnapshot, trial: StudyTrial) -> list[FitRecord]:
    from orchestrator.common.errors import BadStudy

    if trial.num_folds == 1:
        raise BadStudy(study.name, "--ensemble folds averages the networks of several folds, found one fold")
    return list(trial.records)


def _refuse_pruned(study: StudySnapshot, trial: StudyTrial, records: Sequence[FitRecord]) -> None:
    from orchestrator.common.errors import BadStudy

    if not all(record.weights.exists() for record in records):
        raise BadStudy(
            study.name,
            f"the weights of trial {trial.number} were pruned, as it was not among the best by dice; add --refit",
        )


def tell_damage(snapshot: StudySnapshot) -> None:
    """Say which files of a study do not read, and are left out."""
    from orchestrator.search.store.damage import damage

    for line in damage(snapshot):
        err.print(line, style="bold", markup=False, highlight=False)


def known_metric(metric: str) -> str:
    from orchestrator.common.errors import BadStudy
    from orchestrator.scoring.metrics import metric_name

    try:
        return metric_name(metric, masks=False)
    except ValueError as unknown:
        raise BadStudy("--metric", str(unknown)) from None
