"""Nested cross-validation of a whole study: the studies of the outer folds, one after another, and their estimate."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.common.display import Display
from orchestrator.common.errors import FitFailed
from orchestrator.ray_cluster.machine import Machine
from orchestrator.search.store.trials import StudyTrial
from orchestrator.selection.nested import outer_estimate, remember_nested
from orchestrator.study.checks import check
from orchestrator.study.run import begin, inner_studies
from orchestrator.study.runnable_study import RunnableStudy


def run_outer_folds(
    whole: RunnableStudy,
    num_outer: int,
    machine: Machine,
    run: Callable[[RunnableStudy], StudyTrial | None],
    display: Display,
) -> None:
    """Run the study of every outer fold, and store the scores of their champions on these folds.

    `run` returns the champion of a study, None if its hours were over before it had one; then there is no estimate
    yet. Raises `FitFailed` where no trial can be a champion.
    """
    inner = inner_studies(whole, num_outer)
    for study in (whole, *inner):
        check(study, machine)
    for study in (whole, *inner):  # all at once: the same command must mean the same studies
        begin(study)
    waiting = []
    for outer, study in enumerate(inner, start=1):
        held_out = len(study.plan.test)
        display.announce(f"outer fold {outer} of {num_outer}: {study.store.name}, without {held_out} cases")
        if run(study) is None:
            if not study.store.feasible():
                raise FitFailed(
                    f"study {study.store.name}: no trial can be its champion; `leaderboard` says why"
                )
            waiting.append(study.store.name)
    if waiting:
        display.note(
            f"no nested estimate yet: {', '.join(waiting)} named no champion in its hours; "
            "the same command continues from here"
        )
        return
    stores = [study.store for study in inner]
    remember_nested(whole.store, outer_estimate(whole.store, stores, str(whole.budget)))
