"""The status of a study that no process works on: from its records, and from the last status that was written."""

from __future__ import annotations

from orchestrator.search.budget.usage import ResourceUsage
from orchestrator.search.records.partial_score import NOTHING_SEEN, partial
from orchestrator.search.records.status import Best, FoldView, Left, Status, TrialView
from orchestrator.search.records.trial_score import TrialScore
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.search.store.trials import STATES, StudyTrial, broken


def recorded_status(snapshot: StudySnapshot) -> Status:
    """The status of a study that no process works on."""
    last, store = snapshot.last_status, snapshot.store
    usage = ResourceUsage(snapshot, last.unfinished if last else None)
    touched = store.journal_file.stat().st_mtime if store.journal_file.exists() else 0.0
    rule = last.race if last is not None else "paired"
    found = last or Status(store.name, "killed", rule, "unknown", touched, touched, 0, "unknown")
    state = found.state if found.state in ("ended", "interrupted", "failed") else "killed"
    views, best = trials_on_record(snapshot, rule)
    return Status(
        study=store.name,
        state=state,
        race=rule,
        budget=found.budget,
        started=found.started,
        heartbeat=found.heartbeat,
        pid=found.pid,
        host=found.host,
        trials=views,
        best=best,
        champion=found.champion,
        objective=snapshot.objective.label(),
        front=snapshot.front,
        fits_done=usage.num_finished,
        epochs_done=int(usage.spent().epochs),
        gpu_hours=found.gpu_hours,
        gpus_per_lane=found.gpus_per_lane,
        left=Left(how="no process works on it; the same `orchestrator search` continues it"),
        end=found.end,
        unfinished=found.unfinished,
    )


def trials_on_record(snapshot: StudySnapshot, rule: str) -> tuple[tuple[TrialView, ...], Best | None]:
    """Every trial, the best first, and the best one so far.

    The score of a trial that lacks folds is imputed by the race, so the race is replayed for it.
    """
    if any(0 < len(trial.records) < trial.num_folds or _is_cut(snapshot, trial) for trial in snapshot.trials):
        from orchestrator.search.progress.trial_views import replayed_views

        return replayed_views(snapshot, rule)
    return _whole_or_unseen(snapshot), _best(snapshot)


def _is_cut(snapshot: StudySnapshot, trial: StudyTrial) -> bool:
    """Whether a trial has a verdict but no finished fold, as after a cut fit."""
    return not trial.records and trial.number in snapshot.last_verdicts


def _whole_or_unseen(snapshot: StudySnapshot) -> tuple[TrialView, ...]:
    """Views of trials that have all their folds, or none."""
    trials = {trial.number: trial for trial in snapshot.trials}
    over = {trial.number: trial for trial in snapshot.stored_trials if trial.state.is_finished()}
    views = []
    for number in {**trials, **over}:
        verdict = snapshot.last_verdicts.get(number)
        waits = verdict is not None and verdict["action"] == "pause"
        state = STATES[over[number].state] if number in over else "waiting" if waits else "open"
        score = snapshot.score(trials[number]) if number in trials and trials[number].records else None
        views.append(_view(snapshot, number, state, trials.get(number), score))
    return tuple(
        sorted(views, key=lambda view: (view.partial is not None, -(view.objective or -1.0), view.number))
    )


def _view(
    snapshot: StudySnapshot, number: int, state: str, trial: StudyTrial | None, score: TrialScore | None
) -> TrialView:
    num_folds, verdict = len(snapshot.plan.folds), snapshot.last_verdicts.get(number)
    worth = None if score is None else snapshot.objective(score)
    return TrialView(
        number=number,
        state=state,  # type: ignore[arg-type]  # one of its words
        dice=None if score is None else score.metrics["dice"],
        folds=tuple(FoldView("done", dice=dice) for dice in score.fold_dice)
        if score is not None
        else (FoldView(),) * num_folds,
        params=trial.searched if trial is not None else {},
        said=verdict["reason"] if verdict is not None else None,
        objective=worth,
        partial=partial(None, num_folds, NOTHING_SEEN) if score is None else None,
        estimate=worth,
    )


def _best(snapshot: StudySnapshot) -> Best | None:
    """The trial with the highest objective that keeps the constraints, with the interval of its Dice."""
    scored = [(trial, score) for trial in snapshot.trials if (score := snapshot.score(trial)) is not None]
    able = [pair for pair in scored if broken(pair[0], snapshot.secondary) is None]
    if not able:
        return None
    trial, score = max(able, key=lambda pair: (snapshot.objective(pair[1]), -pair[0].number))
    is_mean = snapshot.objective.is_mean and len(set(snapshot.groups_of(score.case_ids))) > 1
    return Best(
        number=trial.number,
        dice=snapshot.objective(score),
        interval=snapshot.interval(score.dice_of_case, score.case_ids) if is_mean else None,
        num_folds=trial.num_folds,
        cross_fitted=(score.cross_fitted or {}).get("dice"),
    )
