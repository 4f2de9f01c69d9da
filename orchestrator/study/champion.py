"""The champion of a study: its choice, its scores on hold-out and external cases, and its refit on all cases."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import ray

from orchestrator.data.cases import Dataset
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.ray_cluster.machine import Machine, cluster, open_widths, shape_lanes
from orchestrator.search.forecast.width import quickest
from orchestrator.search.records.fit_records import FitRecord, scored_as
from orchestrator.search.records.trial_score import refit_spec
from orchestrator.search.score_job import ScoreJob
from orchestrator.search.store.optuna_storage import explained_errors
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.store.trials import Champion, StudyTrial, fingerprints_of, outside_cases
from orchestrator.selection.reevaluation import named, settled
from orchestrator.training.ray.lane_worker import Perform
from orchestrator.training.ray.lanes import Lanes
from orchestrator.training.recipe import FitSpec


def chosen_champion(study: StudyStore, rescore: int) -> StudyTrial | None:
    """Champion of a finished study with its scores outside the search; None if something is left to do."""
    now = study.snapshot()
    standing = now.ranked()
    if not now.feasible():
        return None
    if rescore > 1 and settled(now, standing, rescore) is None:
        return None
    best, _ = named(now, standing)
    choice = Champion(best.number, now.champion_fit(best).fit_id)
    is_scored = all(now.find_scores(choice.fit_id, case_ids) for case_ids in now.outside_cases.values())
    return best if is_scored and now.champion == choice else None


def choose_champion(study: StudyStore, lanes: Lanes) -> StudyTrial | None:
    """Choose the best trial and score its network once on hold-out cases and external datasets.

    Returns None if no trial can be a champion.
    """
    now = study.snapshot()
    standing = now.ranked()
    if not now.feasible():
        return None
    champion, _ = named(now, standing)
    choice = Champion(champion.number, now.champion_fit(champion).fit_id)
    _score_outside(lanes, (choice.fit_id,), now.plan, now.unseen)
    with (
        explained_errors()
    ):  # Optuna's own best trial is that of the highest value, whatever a re-evaluation has shown
        study.optuna_study().set_user_attr("champion", champion.number)
    study.choose_champion(choice)
    return champion


def refit(
    study: StudyStore,
    trial: StudyTrial,
    machine: Machine,
    work: Perform,
    on_epoch: Callable[[dict[str, float]], None],
) -> FitRecord:
    """Train the configuration of a trial on all cases of the folds; score it on hold-out and external cases."""
    plan, spec = study.plan(), spec_of_refit(study, trial)
    with study.lock(), cluster(machine):
        if widths := open_widths(ray.nodes(), machine, {spec.network: (spec.recipe.batch_size,)}):
            machine = replace(machine, workers_per_fit=quickest(study.speeds_file, spec, widths))
        shape = shape_lanes(ray.nodes(), machine, num_lanes=1)
        with Lanes(work, shape, study.folder / "train") as lanes:
            lanes.run(spec.fit_id, spec, on_epoch)
            _score_outside(lanes, (spec.fit_id,), plan, study.datasets()[1])
    return study.ledger.read(spec.fit_id)


def spec_of_refit(study: StudyStore, trial: StudyTrial) -> FitSpec:
    """Specification of a refit, with as many epochs as the median of the folds' best epochs."""
    epochs = statistics.median_high(record.best_epoch + 1 for record in trial.records)
    return refit_spec(trial.configuration, study.plan(), epochs)


def score_networks(study: StudyStore, fit_ids: tuple[str, ...], machine: Machine, work: Perform) -> None:
    """Score networks, their probabilities averaged, on hold-out and external cases, unless that is on record."""
    plan, (_, unseen) = study.plan(), study.datasets()
    cases = outside_cases(plan, unseen).values()
    if all(study.ledger.has_scores(scored_as(fit_ids), case_ids) for case_ids in cases):
        return
    with study.lock(), cluster(machine):
        shape = shape_lanes(ray.nodes(), machine, num_lanes=1)
        with Lanes(work, shape, study.folder / "train") as lanes:
            _score_outside(lanes, fit_ids, plan, unseen)


@contextmanager
def scoring(
    study: StudyStore, machine: Machine, work: Perform
) -> Iterator[Callable[[Sequence[ScoreJob]], None]]:
    """Context with a function that scores networks together, unless on record; lanes start when needed."""
    with ExitStack() as stack:
        up: list[Lanes] = []

        def score(jobs: Sequence[ScoreJob]) -> None:
            missing = [job for job in jobs if not study.ledger.has_scores(job.scored_as, job.case_ids)]
            if not missing:
                return
            if not up:
                stack.enter_context(study.lock())
                stack.enter_context(cluster(machine))
                shape = shape_lanes(ray.nodes(), machine)
                up.append(stack.enter_context(Lanes(work, shape, study.folder / "train")))
            with ThreadPoolExecutor(len(missing)) as waiting:
                list(waiting.map(lambda job: up[0].run(f"{job.scored_as}-{job.name}", job), missing))

        yield score


def _score_outside(
    lanes: Lanes, fit_ids: tuple[str, ...], plan: SplitPlan, unseen: tuple[Dataset, ...]
) -> None:
    first, *others = fit_ids
    for name, case_ids in outside_cases(plan, unseen).items():
        datasets = fingerprints_of(plan, case_ids)
        lanes.run(f"{scored_as(fit_ids)}-{name}", ScoreJob(first, name, datasets, case_ids, tuple(others)))
