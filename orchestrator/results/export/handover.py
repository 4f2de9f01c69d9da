"""From a finished study to an exported model: bundle, model card, registry entry."""

from __future__ import annotations

import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from orchestrator import models
from orchestrator.common.display import counted
from orchestrator.common.redaction import without_secrets
from orchestrator.data.cases import Dataset
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.results.export.bundle import MemberNetwork
from orchestrator.results.export.card.evidence import Evidence
from orchestrator.results.export.card.facts import DataFacts, Making, ModelFacts, SplitFacts
from orchestrator.results.export.card.gather import evidence
from orchestrator.results.export.exported_network import distinct, num_trials, trained_of, training_facts
from orchestrator.results.export.formats.names import need_images
from orchestrator.results.export.model_card import card_summary, model_card
from orchestrator.results.export.write import write_bundle
from orchestrator.results.provenance import device_words, git_revision
from orchestrator.results.views.study_scores import fold_lines, nested_lines, outside_lines, validation_line
from orchestrator.search.fit_jobs import inference_ms, load_network
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.records.trial_score import TrialScore
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.search.store.trials import StudyTrial
from orchestrator.selection.ranking import Selection

if TYPE_CHECKING:
    from orchestrator.results.export.formats.fewer_bits import StudyImages

NUM_CALIBRATION = 64  # images that say which values the layers of int8 take
NUM_MEASURED = 200  # images, at most, that the loss of Dice is measured on


def export_trial(
    snapshot: StudySnapshot,
    trial: StudyTrial,
    score: TrialScore,
    records: Sequence[FitRecord],
    folder: Path,
    selection: Selection | None = None,
    remarks: Sequence[str] = (),
    formats: Sequence[str] = ("onnx",),
) -> Path:
    """Write the bundle of one trial, with the network of one fold, of its refit, or the mean of several.

    Networks of further trials may be among them; one that is named twice counts twice. `remarks`: on their choice.
    `formats`: of `formats_of`; some look at images of the study.
    """
    plan = snapshot.plan
    networks = [load_network(record) for record in distinct(records)]
    image_size = trial.configuration.recipe.image_size
    known = _timed(evidence(snapshot, trial, score, records), networks[0], image_size)
    return write_bundle(
        folder,
        networks,
        network_name=trial.configuration.network,
        network_params=trial.configuration.network_params,
        image_size=image_size,
        members=_members(records),
        tta=trial.configuration.recipe.tta,
        masks=score.masks,
        trained_on=plan.datasets,
        held_out=plan.test,
        near_duplicates=tuple(sorted(plan.left_out)),
        card=trial_card(snapshot, trial, score, records, selection, remarks, known),
        pictures=[one.picture for one in known.failures],
        formats=formats,
        images=study_images(snapshot, records) if need_images(formats) else None,
        metadata={"study": snapshot.name, "trial": str(trial.number), "git_revision": git_revision()},
    )


def _timed(known: Evidence, network: nn.Module, image_size: int) -> Evidence:
    """Evidence with the time of an image on this machine's processor, where no fit has measured it."""
    if "fps" in known.metrics:
        return known
    fps = 1000 / inference_ms(network, image_size, torch.device("cpu"))
    where = f"{counted(torch.get_num_threads(), 'core')} of the machine that exported it"
    return replace(known, metrics={**known.metrics, "fps": fps}, timed_on=where)


def study_images(snapshot: StudySnapshot, records: Sequence[FitRecord]) -> StudyImages:
    """Images that fp16 and int8 are made and measured with; measured on what the networks never saw, if anything is.

    They choose nothing here: the loss of Dice is reported, whatever it is.
    """
    from orchestrator.results.export.formats.fewer_bits import StudyImages

    of_id = {case.id: case for one in (*snapshot.datasets, *snapshot.unseen) for case in one.cases}
    networks = distinct(records)
    seen = {case_id for record in networks for case_id in record.spec.train}
    validated = [case_id for record in networks for case_id in record.spec.val if case_id not in seen]
    choices = {
        "hold-out test": snapshot.plan.test,
        "unseen datasets": [case.id for one in snapshot.unseen for case in one.cases],
        "validation images of the fold": validated,
        "images that the network was trained on: there are no others": sorted(seen),
    }
    said, measured = next((said, ids) for said, ids in choices.items() if ids)
    return StudyImages(
        [of_id[case_id] for case_id in _spread(sorted(seen), NUM_CALIBRATION)],
        [of_id[case_id] for case_id in _spread(measured, NUM_MEASURED)],
        said,
    )


def _spread(ids: Sequence[str], count: int) -> list[str]:
    """At most `count` of the ids, evenly spaced."""
    return [ids[position * len(ids) // count] for position in range(count)] if len(ids) > count else list(ids)


def _members(records: Sequence[FitRecord]) -> list[MemberNetwork]:
    """Name, parameters and share of each network, where they are of several trials; else []."""
    if num_trials(records) == 1:
        return []
    shares = Counter(record.fit_id for record in records)
    return [
        MemberNetwork(
            network=one.spec.network, network_params=one.spec.network_params, share=shares[one.fit_id]
        )
        for one in distinct(records)
    ]


def trial_card(
    snapshot: StudySnapshot,
    trial: StudyTrial,
    score: TrialScore,
    records: Sequence[FitRecord],
    selection: Selection | None = None,
    remarks: Sequence[str] = (),
    known: Evidence | None = None,
) -> str:
    """The model card of one trial, with the networks of `records`; Markdown. `known`: gathered if not given."""
    plan = snapshot.plan
    sources, unseen = snapshot.datasets, snapshot.unseen
    return model_card(
        _model_facts(snapshot, trial, score, records),
        [*_facts(sources, "trained on", records), *_facts(unseen, "never trained on")],
        _split_facts(plan, sources),
        fold_lines(snapshot, trial, score),
        validation_line(snapshot, score),
        outside_lines(snapshot, records, score.masks),
        Making(
            command=without_secrets(shlex.join(["orchestrator", *sys.argv[1:]])),
            git_revision=git_revision(),
            hardware=_hardware(records[0]),
            versions=records[0].versions,
            date=time.strftime("%Y-%m-%d"),
            num_trials=sum(bool(other.records) for other in snapshot.trials),
        ),
        chosen=(*(selection.sentences() if selection else ()), *remarks),
        nested=nested_lines(snapshot),
        evidence=evidence(snapshot, trial, score, records) if known is None else known,
    )


def summary(
    snapshot: StudySnapshot, trial: StudyTrial, score: TrialScore, records: Sequence[FitRecord]
) -> str:
    """Summary of the model card, as Markdown: which network it is, and its scores."""
    lines = [validation_line(snapshot, score), *outside_lines(snapshot, records, score.masks)]
    return card_summary(_model_facts(snapshot, trial, score, records), lines)


def _model_facts(
    snapshot: StudySnapshot, trial: StudyTrial, score: TrialScore, records: Sequence[FitRecord]
) -> ModelFacts:
    plan = snapshot.plan
    return ModelFacts(
        study=snapshot.name,
        trial=trial.number,
        network=trial.configuration.network,
        summary=models.summary(trial.configuration.network),
        weights=_which_weights(plan, records),
        params=trial.params,
        image_size=trial.configuration.recipe.image_size,
        masks=score.masks,
        choice=trial.configuration.masks,
        members=len(distinct(records)),
        num_trials=num_trials(records),
        tta=trial.configuration.recipe.tta,
        training=tuple(training_facts(plan, record) for record in distinct(records)),
    )


def _which_weights(plan: SplitPlan, records: Sequence[FitRecord]) -> str:
    if (several := num_trials(records)) > 1:
        is_refit = records[0].spec.fold == "refit"
        which = (
            "each trained again on all cases of the folds" if is_refit else "the networks of all their folds"
        )
        return f"those of {several} trials, {which}, averaged"
    if len(records) > 1:
        return f"the networks of all {len(records)} folds, averaged"
    (record,) = records
    if record.spec.fold == "refit":
        return "trained again on all cases of the folds"
    return (
        "the one fold"
        if len(plan.folds) == 1
        else f"{plan.folds[int(record.spec.fold)].name}, of median Dice"
    )


def _split_facts(plan: SplitPlan, sources: Sequence[Dataset]) -> SplitFacts:
    in_folds = {case_id for fold in plan.folds for case_id in (*fold.train, *fold.val)}
    return SplitFacts(
        num_cases=sum(len(dataset.cases) for dataset in sources),
        num_in_folds=len(in_folds),
        name=plan.name,
        digest=plan.digest,
        num_folds=len(plan.folds),
        num_repeats=plan.num_repeats,
        num_test=len(plan.test),
        groups_known=plan.groups_known,
        num_near_duplicates=plan.num_near_duplicates,
        num_unseen_near_duplicates=plan.num_unseen_near_duplicates,
        dropped=plan.num_dropped,
    )


def _facts(datasets: Sequence[Dataset], role: str, records: Sequence[FitRecord] = ()) -> list[DataFacts]:
    return [
        DataFacts(
            name=dataset.name,
            fingerprint=dataset.fingerprint,
            num_cases=len(dataset.cases),
            num_groups=len({case.group for case in dataset.cases}) if dataset.groups_known else None,
            role=role,
            num_trained=trained_of(dataset.name, records),
        )
        for dataset in datasets
    ]


def _hardware(record: FitRecord) -> str:
    """Hardware of a fit in words: "4 workers, each on Tesla V100-SXM2-32GB", "1 worker on CPU (x86_64)"."""
    device = device_words(record.device)
    return (
        f"1 worker on {device}"
        if record.world_size == 1
        else f"{record.world_size} workers, each on {device}"
    )
