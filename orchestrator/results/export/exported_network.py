"""An exported network: what it is, what it was trained on, and what it has scored.

Card, run, logged model and registered version all show these facts; nobody else computes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.results.export.card.facts import TrainingFacts
from orchestrator.scoring.pending_cases import scores_under
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.search.records.fit_records import FitRecord, scored_as
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.search.store.trials import StudyTrial

Kind = Literal["refit", "fold", "ensemble"]
DatasetRow = tuple[str, str, int, str]  # name, fingerprint, images, context


@dataclass(frozen=True)
class Network:
    """One network, or several whose probabilities are averaged, of a study."""

    kind: Kind
    trial: int
    fit_id: str  # of several: as `scored_as` names them
    name: str  # "refit of trial 4"
    records: tuple[FitRecord, ...]  # each network once
    training: tuple[TrainingFacts, ...]
    params: dict[str, Any]  # of the trial; of a single network also what that leaves at its default
    metrics: dict[str, float]  # what this network has scored, and nothing else
    datasets: tuple[DatasetRow, ...]
    of_dataset: dict[
        str, tuple[str, str]
    ]  # metric -> name and fingerprint of the one dataset that it was measured on


def network_of(
    snapshot: StudySnapshot, trial: StudyTrial, records: Sequence[FitRecord], masks: PostProcess
) -> Network:
    """The network of these records, with its scores by `masks`: on its fold, the hold-out and unseen datasets."""
    networks = distinct(records)
    plan, kind = snapshot.plan, kind_of(networks)
    training = tuple(training_facts(plan, record) for record in networks)
    name_of_scores = scored_as([record.fit_id for record in records])
    outside = snapshot.outside_scores(name_of_scores, masks)
    return Network(
        kind=kind,
        trial=trial.number,
        fit_id=name_of_scores,
        name=_name(kind, trial.number, training),
        records=tuple(networks),
        training=training,
        params=_params(trial, kind, networks[0]),
        metrics=_metrics(kind, training, networks, masks) | outside_metrics(outside),
        datasets=_datasets(snapshot),
        of_dataset=_of_dataset(snapshot, outside),
    )


def distinct(records: Sequence[FitRecord]) -> list[FitRecord]:
    """Each network once."""
    return list({record.fit_id: record for record in records}.values())


def kind_of(networks: Sequence[FitRecord]) -> Kind:
    if len(networks) > 1:
        return "ensemble"
    return "refit" if networks[0].spec.fold == "refit" else "fold"


def num_trials(records: Sequence[FitRecord]) -> int:
    """Number of trials that these networks are of: the most of any fold; folds of a trial differ in seed."""
    fits = {record.fit_id: record.spec.fold for record in records}
    return max(Counter(fits.values()).values())


def training_facts(plan: SplitPlan, record: FitRecord) -> TrainingFacts:
    """How one network was trained, by its record."""
    spec = record.spec
    return TrainingFacts(
        label="refit" if spec.fold == "refit" else plan.folds[int(spec.fold)].name,
        num_images=len(spec.train),
        num_validated=len(spec.val),
        num_epochs=len(record.curves),
        best_epoch=record.best_epoch + 1,
        schedule=spec.recipe.epochs,
        recipe=spec.recipe.model_dump(mode="json"),
    )


def trained_of(dataset: str, records: Sequence[FitRecord]) -> tuple[int, ...]:
    """Number of images of a dataset that each of the networks was trained on."""
    return tuple(
        sum(case_id.split("/")[0] == dataset for case_id in record.spec.train) for record in distinct(records)
    )


def outside_metrics(outside: dict[str, dict[str, float]]) -> dict[str, float]:
    """The scores on the hold-out and on unseen datasets by the names that MLflow has for them."""
    return {
        f"{prefix(name)}_{metric}": value for name, row in outside.items() for metric, value in row.items()
    }


def prefix(name: str) -> str:
    """Prefix of the metrics of an outside set: test, unseen_CVC-ClinicDB."""
    return name if name == "test" else f"unseen_{name}"


def _name(kind: Kind, trial: int, training: Sequence[TrainingFacts]) -> str:
    if kind == "ensemble":
        return f"ensemble of {len(training)} networks around trial {trial}"
    return (
        f"refit of trial {trial}" if kind == "refit" else f"network of {training[0].label} of trial {trial}"
    )


def _params(trial: StudyTrial, kind: Kind, record: FitRecord) -> dict[str, Any]:
    if kind == "ensemble":
        return trial.params
    recipe = record.spec.recipe.model_dump(mode="json")
    stop = {} if record.spec.stop_after is None else {"stop_after": record.spec.stop_after}
    return recipe | trial.params | {"seed": recipe["seed"]} | stop


def _metrics(
    kind: Kind, training: Sequence[TrainingFacts], networks: Sequence[FitRecord], masks: PostProcess
) -> dict[str, float]:
    """Numbers on the network besides its scores outside; of a fold's network also its scores on that fold."""
    if kind == "ensemble":
        return {"threshold": masks.threshold, "members": float(len(networks))}
    (facts,), (record,) = training, networks
    found = {
        "threshold": masks.threshold,
        "num_train_images": float(facts.num_images),
        "epochs_run": float(facts.num_epochs),
    }
    return found if kind == "refit" else found | fold_scores(record, masks)


def fold_scores(record: FitRecord, masks: PostProcess) -> dict[str, float]:
    """Mean scores over the validation images of one fold, by the masks of its trial."""
    scores = scores_under(record.histograms, masks)
    return {name: float(values.mean()) for name, values in scores.items()}


def _datasets(snapshot: StudySnapshot) -> tuple[DatasetRow, ...]:
    sources, unseen = snapshot.datasets, snapshot.unseen
    trained = [(one.name, one.fingerprint, len(one.cases), "training") for one in sources]
    return (*trained, *((one.name, one.fingerprint, len(one.cases), "unseen") for one in unseen))


def _of_dataset(snapshot: StudySnapshot, outside: dict[str, dict[str, float]]) -> dict[str, tuple[str, str]]:
    """Metric of an outside set -> dataset (name, fingerprint); none for a hold-out of several datasets."""
    plan = snapshot.plan
    measured_on = {name: (name, fingerprint) for name, fingerprint in plan.unseen.items()}
    if len(plan.datasets) == 1:
        measured_on["test"] = next(iter(plan.datasets.items()))
    return {
        f"{prefix(place)}_{metric}": measured_on[place]
        for place, row in outside.items()
        if place in measured_on
        for metric in row
    }
