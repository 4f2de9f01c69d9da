"""The winner of a study as a value: trial, reasons, scores, networks, and export as files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.common.errors import BadStudy, python_errors_of
from orchestrator.results.best_networks import Networks, Trainer
from orchestrator.search.choices import BestRule, EnsembleName
from orchestrator.search.store.trials import StudyTrial

if TYPE_CHECKING:
    from orchestrator.results.views.score_lines import ScoreLine
    from orchestrator.search.records.fit_records import FitRecord
    from orchestrator.search.records.trial_score import TrialScore
    from orchestrator.search.store.snapshot import Standing, StudySnapshot
    from orchestrator.selection.by_masks import MaskRanking
    from orchestrator.selection.mask_values import ScoreMasks
    from orchestrator.selection.ranking import Selection


@dataclass(frozen=True)
class ChosenTrial:
    """A trial that was chosen among the finished ones of a study; its networks are not trained or scored yet."""

    study: StudySnapshot
    standing: Standing  # finished trials, best first
    selection: Selection
    is_named: bool  # chosen by its number, its network or a metric of masks, not by the rule
    by_masks: MaskRanking | None = None  # where it was chosen by a metric of masks

    @property
    def trial(self) -> StudyTrial:
        """The chosen trial."""
        return self._pair[0]

    @property
    def score(self) -> TrialScore:
        """Score of the chosen trial over its folds."""
        return self._pair[1]

    @cached_property
    def _pair(self) -> tuple[StudyTrial, TrialScore]:
        return next(pair for pair in self.standing if pair[0].number == self.selection.chosen)

    def refuse_to_replace(
        self, folder: Path, replace: bool | Callable[[str], bool], *, refit: bool, ensemble: bool
    ) -> None:
        """Raise `BadBundle` if the folder holds another network, and `replace` does not permit it."""
        from orchestrator.results.export.write import refuse_to_replace, why_ask

        number, is_chosen = self.trial.number, not self.is_named
        earlier = why_ask(folder, self.study.name, number, refit=refit, ensemble=ensemble, chosen=is_chosen)
        refuse_to_replace(folder, earlier, replace)

    def best(
        self,
        trainer: Trainer,
        ensemble: EnsembleName | None = None,
        *,
        refit: bool = False,
        export: bool = False,
    ) -> BestTrial:
        """The chosen trial with its networks; fits and scores asked for and not on record are made now.

        `export`: whether they are to be exported, for which their weights, their scores outside the folds, and those of
        masks are needed. Raises `BadStudy` where weights were deleted.
        """
        study, trial, score = self.study, self.trial, self.score
        networks = trainer.networks(self.standing, trial, score, self.selection.metric, ensemble, refit=refit)
        if export or networks.is_ensemble:
            _refuse_deleted(study, trial, networks.records)
        if networks.is_ensemble or (export and study.champion is not None):
            trainer.score(networks.records)
        if export:
            trainer.score_masks(trial, networks.records, networks.score.masks)
        return BestTrial(self, networks)


def choose(
    study: StudySnapshot,
    metric: str = "dice",
    rule: BestRule = "best",
    trial: int | None = None,
    network: str | None = None,
) -> ChosenTrial:
    """Choose a trial: the one of that number, the best one of that network, or the one by the rule.

    Raises `BadStudy` where no such trial is finished, and for parameters that do not go together.
    """
    from orchestrator.selection.ranking import select_trial

    standing = _finished(study, metric)
    if trial is not None and trial not in {one.number for one, _ in standing}:
        raise BadStudy(study.name, f"trial {trial} has not finished all its folds, or does not exist")
    if trial is None:
        _refuse_infeasible(study)
    if rule == "one-se" and trial is not None:
        raise BadStudy(
            "--rule one-se", f"chooses a trial, and --trial {trial} names one: leave one of them out"
        )
    if rule == "one-se" and not study.objective.is_mean:
        raise BadStudy(
            study.name,
            f"is ranked by {study.objective.label(metric)}, and --rule one-se goes by means over images; --trial N "
            "takes any trial",
        )
    if network is not None:
        return _best_of(study, standing, metric, rule, trial, network)
    return ChosenTrial(study, standing, select_trial(study, standing, metric, rule, trial), trial is not None)


def choose_by_masks(study: StudySnapshot, metric: str, score_masks: ScoreMasks) -> ChosenTrial:
    """The trial of the highest mean of a metric of masks among those whose networks are kept.

    `score_masks` computes scores that are not on record. `BadStudy` if there are fewer than two such trials.
    """
    from orchestrator.selection.by_masks import rank_by_masks
    from orchestrator.selection.ranking import select_trial

    standing = _finished(study, "dice")
    _refuse_infeasible(study)
    found = rank_by_masks(study, metric, score_masks)
    selection = select_trial(study, standing, "dice", "best", found.chosen)
    reason = _instead_of_its_number(selection, *found.sentences())
    return ChosenTrial(study, standing, replace(selection, reason=reason), is_named=True, by_masks=found)


def refuse_choice(
    metric: str,
    rule: BestRule = "best",
    trial: int | None = None,
    network: str | None = None,
    ensemble: EnsembleName | None = None,
) -> None:
    """Raise `BadStudy`, in one sentence, for options that do not go together with a metric of masks."""
    from orchestrator.scoring.metrics import METRICS

    if metric in METRICS:
        return
    others = {
        f"--rule {rule}, which goes by scores of histograms": rule != "best",
        f"--trial {trial}, which names a trial": trial is not None,
        f"--network {network!r}, which names a network": network is not None,
        f"--ensemble {ensemble}, which grows by scores of histograms": ensemble in ("greedy", "best"),
    }
    if given := [option for option, is_given in others.items() if is_given]:
        listed = f"{', '.join(given[:-1])}, and {given[-1]}" if len(given) > 1 else given[0]
        raise BadStudy(
            f"--metric {metric}", f"chooses among all trials whose networks are kept: leave out {listed}"
        )


def _finished(study: StudySnapshot, metric: str) -> Standing:
    """The finished trials, best first. Raises `BadStudy` where there is none."""
    if not (standing := study.ranked(metric)):
        raise BadStudy(study.name, "has no finished trial yet; run `orchestrator search` on")
    return standing


def _refuse_infeasible(study: StudySnapshot) -> None:
    if not study.feasible():
        raise BadStudy(
            study.name, "no finished trial meets its constraints; use --trial N to take one anyway"
        )


def _instead_of_its_number(selection: Selection, *why: str) -> str:
    """Reason of a selection: `why`, in place of the sentence that the trial was asked for by its number."""
    return " ".join((*why, selection.reason.removeprefix(f"Trial {selection.chosen} was asked for. ")))


def _best_of(
    study: StudySnapshot, standing: Standing, metric: str, rule: BestRule, trial: int | None, network: str
) -> ChosenTrial:
    """Choice of the best trial of one network, in a study over several. `BadStudy` where there is none."""
    from orchestrator.common.names import hint
    from orchestrator.search.store.trials import broken
    from orchestrator.selection.ranking import select_trial

    known = study.space.networks
    if network not in known:
        near = hint(network, known)
        raise BadStudy(
            "--network", f"{study.name} has no network {network!r}; {near}its networks: {', '.join(known)}"
        )
    if trial is not None or rule != "best":
        other = (
            "--trial N names a trial" if trial is not None else f"--rule {rule} chooses among all networks"
        )
        raise BadStudy("--network", f"takes the best trial of {network}, and {other}: leave one of them out")
    own = [one for one, _ in standing if one.configuration.network == network]
    free = [one for one in own if broken(one, study.secondary) is None]
    if not free:
        why = (
            "no finished trial of it meets the constraints; use --trial N to take one anyway"
            if own
            else "it has no finished trial; `orchestrator leaderboard` shows how far its trials came"
        )
        raise BadStudy(study.name, f"network {network}: {why}")
    number = free[0].number
    found = select_trial(study, standing, metric, rule, number)
    among = f"best of {len(own)} finished trials" if len(own) > 1 else "only finished trial"
    best = f"Trial {number} is the {among} of {network}."
    return ChosenTrial(
        study, standing, replace(found, reason=_instead_of_its_number(found, best)), is_named=True
    )


@python_errors_of
@dataclass(frozen=True)
class BestTrial:
    """The winner of a study, or another trial that was asked for, with the networks that represent it."""

    choice: ChosenTrial
    networks: Networks

    @property
    def number(self) -> int:
        """The number of the trial."""
        return self.choice.trial.number

    @property
    def params(self) -> Mapping[str, Any]:
        """Parameters of the trial, searched and fixed."""
        return self.choice.trial.params

    @property
    def threshold(self) -> float:
        """The probability in [0, 1] above which a pixel is polyp."""
        return self.networks.score.threshold

    @property
    def scores(self) -> Sequence[Mapping[str, Any]]:
        """Table of scores, a row for each set of images: name, size, metrics from 0 to 1 with intervals."""
        from orchestrator.results.views.tables import score_dicts

        return score_dicts(self.lines)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Sentences on the choice, on trials not significantly different, and on averaging networks."""
        return (*self.choice.selection.sentences(), *self.remarks)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences on the choice of several networks, and on their cost."""
        from orchestrator.selection.ensemble import cost

        team, records = self.networks.team, self.networks.records
        remarks = team.sentences() if team is not None else ()
        return (*remarks, cost(records)) if len(records) > 1 else tuple(remarks)

    @property
    def lines(self) -> list[ScoreLine]:
        """Lines of scores: by fold, on all validation images, and on images outside the search."""
        from orchestrator.results.views.study_scores import fold_lines, outside_lines, validation_line

        study, score = self.choice.study, self.networks.score
        return [
            *fold_lines(study, self.choice.trial, score),
            validation_line(study, score),
            *outside_lines(study, self.networks.records, score.masks),
        ]

    def as_dict(self) -> dict[str, Any]:
        """The winner as plain values: trial, parameters, masks, fits, scores and selection."""
        from orchestrator.search.records.fit_records import scored_as
        from orchestrator.selection.nested import nested_of

        study, score, team = self.choice.study, self.networks.score, self.networks.team
        by_masks = self.choice.by_masks
        nested = nested_of(study.store)
        fit_ids = [record.fit_id for record in self.networks.records]
        return {
            "study": study.name,
            "trial": self.number,
            "params": self.params,
            "threshold": self.threshold,
            "masks": score.masks.as_dict(),
            "fit_id": scored_as(fit_ids),
            "members": fit_ids,
            "scores": self.scores,
            "selection": self.choice.selection.as_dict(),
            "by_masks": None if by_masks is None else by_masks.as_dict(),
            "front": list(study.front),
            "ensemble": None if team is None else team.as_dict(),
            "nested": None if nested is None else nested.as_dict(),
        }

    def formats(self, asked: str | None) -> tuple[str, ...]:
        """Names of the formats of an export; `asked`: separated by commas, None for the default ones."""
        from orchestrator.results.export.formats.names import formats_of

        return formats_of(asked, self.choice.score.masks)

    def export(self, folder: Path, formats: Sequence[str] = ("onnx",)) -> Path:
        """Write the networks as files that other programs load: weights, ONNX, config, model card.

        `formats`: of `orchestrator best --formats`. Raises `BadBundle` where the folder holds anything else.
        """
        from orchestrator.results.export.handover import export_trial
        from orchestrator.results.export.write import refuse_to_overwrite

        refuse_to_overwrite(folder)
        choice, networks = self.choice, self.networks
        return export_trial(
            choice.study,
            choice.trial,
            networks.score,
            networks.records,
            folder,
            choice.selection,
            self.remarks,
            formats,
        )

    def log_refits(self, uri: str) -> None:
        """Log the networks that were trained on all cases in MLflow, if any were."""
        if not self.networks.refits:
            return
        from orchestrator.results.export.exported_network import network_of
        from orchestrator.results.mlflow.network_run import log_network

        study = self.choice.study
        for trial, score in self.choice.standing:
            if (record := self.networks.refits.get(trial.number)) is not None:
                log_network(study.store, network_of(study, trial, [record], score.masks), uri)

    def hand_over(
        self, folder: Path, formats: Sequence[str], tracking_uri: str, *, move: bool | None = None
    ) -> Iterator[str]:
        """Export the networks, log them in MLflow and register them; yields a line on each step.

        `move`: whether to move the alias `champion` of the registered model to this export; None: only if no
        version has it, or one with a network of the same kind of this study that the rule chose.
        """
        from orchestrator.results.export.exported_network import network_of
        from orchestrator.results.export.formats.names import format_lines
        from orchestrator.results.export.handover import summary
        from orchestrator.results.export.write import named_export
        from orchestrator.results.mlflow.model_registry import register_champion
        from orchestrator.results.mlflow.network_run import log_network

        study, trial = self.choice.study, self.choice.trial
        records, score = self.networks.records, self.networks.score
        earlier = named_export(folder)
        written = self.export(folder, formats)
        yield f"exported to {written}" + (f", in place of: {earlier}" if earlier else "")
        yield from format_lines(written, formats, score.masks)
        network = network_of(study, trial, records, score.masks)
        registered = register_champion(
            written,
            tracking_uri=tracking_uri,
            study=study.name,
            study_id=study.study_id,
            network=network,
            run_id=log_network(study.store, network, tracking_uri),
            description=summary(study, trial, score, records),
            tags=self.choice.selection.tags() | {"members": str(len(network.records))},
            move=move,
            is_chosen=not self.choice.is_named,
        )
        yield registered.sentence(study.name)


def _refuse_deleted(study: StudySnapshot, trial: StudyTrial, records: Sequence[FitRecord]) -> None:
    if not all(record.weights.exists() for record in records):
        raise BadStudy(
            study.name,
            f"the weights of trial {trial.number} were pruned, as it was not among the best by dice; add --refit",
        )
