"""Evidence on a trial besides its mean scores, from the facts that `orchestrator report` shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from orchestrator.common.display import counted
from orchestrator.data.statement import stated
from orchestrator.results.export.card.evidence import Detection, Evidence, Failure, Interval
from orchestrator.results.report.champion_facts import champion_facts, network_metrics
from orchestrator.results.report.facts import StudyFacts
from orchestrator.results.report.figures.champion import calibration_error
from orchestrator.results.report.gather import study_facts
from orchestrator.results.views.study_scores import outside_label
from orchestrator.scoring.metrics import METRICS, OF_MASKS
from orchestrator.search.race.rules import RULES
from orchestrator.search.records.fit_records import FitRecord, scored_as
from orchestrator.search.records.trial_score import TrialScore
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.search.store.trials import StudyTrial
from orchestrator.selection.mask_values import MaskValues, masks_on_record, polyps_of

NUM_FAILURES = 5  # that are named before those with a picture


def evidence(
    snapshot: StudySnapshot,
    trial: StudyTrial,
    score: TrialScore,
    records: Sequence[FitRecord],
) -> Evidence:
    """The evidence on a trial with all its folds; scores outside the folds are those of the networks of `records`."""
    masks = masks_on_record(snapshot, trial, records, score.masks)
    study, champion = study_facts(snapshot, counts_network=False), champion_facts(snapshot, trial.number)
    drawn = dict(champion.pictures)
    return Evidence(
        intervals=_intervals(snapshot, score, records, masks.outside),
        of_masks={} if masks.validation is None else _of_masks(snapshot, masks.validation),
        strata=champion.strata,
        detection=Detection(
            champion.found,
            champion.left_empty,
            None if masks.validation is None else polyps_of(snapshot, masks.validation),
            snapshot.plan.num_repeats,
            {outside_label(name): polyps_of(snapshot, found) for name, found in masks.outside.items()},
        ),
        calibration_error=calibration_error(champion),
        metrics=network_metrics(snapshot, trial.number, counts=True),
        search=tuple(_search(study)),
        space=study.space,
        failures=[
            Failure(one.case_id, one.dice, drawn.get(one))
            for one in dict.fromkeys([*champion.worst[:NUM_FAILURES], *drawn])
        ],
        statements={one.name: stated(one.folder) for one in (*snapshot.datasets, *snapshot.unseen)},
    )


def _intervals(
    snapshot: StudySnapshot,
    score: TrialScore,
    records: Sequence[FitRecord],
    masks: Mapping[str, MaskValues],
) -> dict[str, Mapping[str, tuple[float, Interval]]]:
    """Validation images, hold-out and external datasets: metric -> mean and 95 % interval.

    `masks`: scores of masks outside the folds, where they are known.
    """
    name_of_scores = scored_as([record.fit_id for record in records])
    outside = snapshot.outside_values(name_of_scores, score.masks)
    sets = {"validation images": (score.values_of_case, score.case_ids)}
    sets |= {outside_label(name): (values, snapshot.outside_cases[name]) for name, values in outside.items()}
    of_masks = {outside_label(name): _of_masks(snapshot, found) for name, found in masks.items()}
    return {
        name: {
            metric: (float(values[metric].mean()), snapshot.interval(values[metric], case_ids))
            for metric in METRICS
            if metric in values
        }
        | of_masks.get(name, {})
        for name, (values, case_ids) in sets.items()
    }


def _of_masks(snapshot: StudySnapshot, scored: MaskValues) -> dict[str, tuple[float, Interval]]:
    """Metrics that only masks give -> mean over the images and 95 % interval."""
    values = {name: scored.by_case(name) for name in OF_MASKS}
    return {
        name: (float(column.mean()), snapshot.interval(column, list(scored.case_ids)))
        for name, column in values.items()
    }


def _search(study: StudyFacts) -> Iterator[str]:
    """Sentences on the search: sampler, race, budget, numbers of trials by outcome."""
    states = Counter(trial.state for trial in study.trials)
    by_state = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    race = (
        "every trial got all folds"
        if RULES[study.race].trains_all_folds
        else f"trials were stopped by the race `{study.race}`"
    )
    yield (
        f"Trials are ranked by {study.objective}. Configurations were proposed by the sampler `{study.sampler}` "
        f"(seed {study.seed}); {race}."
    )
    budget = ", ".join(f"{name} {value}" for name, value in study.budget.items())
    yield f"Budget: {budget or 'none'}."
    yield f"{counted(len(study.trials), 'trial')}: {by_state}."
    yield (
        f"{study.num_fits} fits of the search were finished; the race left out {study.num_saved} folds of stopped "
        "trials."
    )
