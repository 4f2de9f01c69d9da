"""The facts of a report from a study on disk.

Nothing is scored here in a way of its own: trials are rows of the leaderboard, the champion is the trial that `best`
names, with the lines of its table.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from pydantic import BaseModel

from orchestrator.common.redaction import without_secrets
from orchestrator.common.stored_json import Unreadable, parse_json
from orchestrator.results.provenance import environment_file
from orchestrator.results.report.champion_facts import champion_facts, network_metrics
from orchestrator.results.report.cost_facts import costs, finish_times, fit_facts
from orchestrator.results.report.facts import ChampionFacts, Gain, StudyFacts, TrialFacts
from orchestrator.results.report.origin_facts import commands, dataset_facts
from orchestrator.results.views.by_network import networks_of
from orchestrator.results.views.study_scores import board, front_lines, nested_lines
from orchestrator.search.progress.recorded import recorded_status
from orchestrator.search.records.cut_fits import CutFit
from orchestrator.search.records.partial_score import PartialScore
from orchestrator.search.records.status import OVER, Status, is_alive
from orchestrator.search.space.space import SearchSpace
from orchestrator.search.store.damage import damage
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.selection.ranking import BASELINE, Selection, select_trial

LIMITS = ("trials", "hours", "gpu_hours", "epochs")


def study_facts(snapshot: StudySnapshot, *, counts_network: bool = True) -> StudyFacts:
    """All that a report says of a study. `counts_network`: parameters and arithmetic of the champion's network, which
    loads torch where they were never counted."""
    spec, plan, status = snapshot.record.spec, snapshot.plan, _status(snapshot)
    selection, why_none = _selection(snapshot)
    champion = None if selection is None else champion_facts(snapshot, selection.chosen)
    cuts = snapshot.cut_fits
    environment = _environment(snapshot)
    return StudyFacts(
        name=snapshot.name,
        network=", ".join(_networks(snapshot.space)),
        objective=snapshot.objective.label(),
        race=spec.chosen_race,
        sampler=environment.sampler or spec.sampler or "unknown",
        seed=spec.seed,
        state=_state(status),
        budget={name: value for name in LIMITS if (value := getattr(spec, name)) is not None},
        space=snapshot.space.text,
        split=plan.name,
        split_digest=plan.digest,
        splits=tuple((fold.name, len(fold.train), len(fold.val)) for fold in plan.folds),
        num_test=len(plan.test),
        num_near_duplicates=None if plan.near_duplicates is None else len(plan.near_duplicates),
        groups_known=plan.groups_known,
        datasets=dataset_facts(snapshot),
        trials=_trials(snapshot, cuts),
        verdicts=tuple(
            (line.get("at", 0.0), line["trial"], line["action"], line["reason"]) for line in snapshot.verdicts
        ),
        selection=() if selection is None else selection.sentences(),
        champion=champion,
        metrics={} if champion is None else network_metrics(snapshot, champion.trial, counts=counts_network),
        costs=costs(snapshot, [*chain.from_iterable(cuts.values())]),
        initial=_initial(snapshot, champion),
        versions=environment.packages,
        commands=tuple(map(without_secrets, commands(snapshot))),
        remarks=tuple(damage(snapshot)),
        secondary=snapshot.secondary.names,
        constraints=spec.constraints,
        front=tuple(line.strip() for line in front_lines(snapshot)[1:]),
        nested=nested_lines(snapshot),
        reevaluated=()
        if selection is None
        else tuple((one.trial, one.search, one.fresh, one.both) for one in selection.reevaluated),
        log_scaled=snapshot.space.log_scaled,
        networks=tuple(networks_of(snapshot, board(snapshot))),
        gains=() if selection is None else _gains(selection),
        why_no_champion=why_none,
        code=environment.git_revision,
        machine=f"{environment.machine}, Python {environment.python}",
        program=environment.packages.get("polyp-orchestrator", ""),
    )


def _status(snapshot: StudySnapshot) -> Status:
    """The last status of a running study, else that of its records, as `status` shows it."""
    last = snapshot.last_status
    if last is not None and last.state not in OVER and is_alive(snapshot.store.status_file):
        return last
    return recorded_status(snapshot)


def _state(status: Status) -> str:
    why = f": {status.end}" if status.end else ""
    words = {"killed": "not running, and not ended", "interrupted": "interrupted, can be resumed"}
    running = "" if status.state in OVER else ", still running: all that follows is preliminary"
    return f"{words.get(status.state, status.state)}{why}{running}"


def _selection(snapshot: StudySnapshot) -> tuple[Selection | None, str | None]:
    """The choice that `best` makes; or why there is none."""
    standing = snapshot.ranked()
    if not standing:
        return None, "No trial has all its folds yet, so there is no champion."
    if not snapshot.feasible():
        limits = ", ".join(snapshot.record.spec.constraints)
        return None, f"No finished trial meets the limits of the study ({limits}), so there is no champion."
    return select_trial(snapshot, standing), None


def _networks(space: SearchSpace) -> list[str]:
    """The network of a study, or those that it chooses among."""
    return list(space.networks)


def _trials(snapshot: StudySnapshot, cuts: Mapping[int, list[CutFit]]) -> tuple[TrialFacts, ...]:
    rows = {row.number: row for row in board(snapshot)}
    finished = finish_times(snapshot)
    found = []
    for trial in snapshot.trials:
        row, score = rows[trial.number], snapshot.score(trial)
        partial = snapshot.partial(trial) if trial.records else None
        fits, cut = fit_facts(trial, score, finished, cuts.get(trial.number, []))
        found.append(
            TrialFacts(
                number=row.number,
                state=row.state,
                searched=row.searched,
                fits=fits,
                num_folds=row.num_folds,
                dice=row.scores.get("dice"),
                interval=row.interval,
                cross_fitted=row.cross_fitted,
                seen=None if partial is None else partial.dice_on_seen_folds,
                reason=row.error,
                objective=row.scores.get("dice") if row.objective is None else row.objective,
                secondary=row.secondary,
                on_front=row.on_front,
                cut=cut,
                against=_against(partial),
            )
        )
    return tuple(found)


def _against(partial: PartialScore | None) -> tuple[float, int] | None:
    """Paired difference in the race, and the number of the trial compared with; None without these."""
    if partial is None or partial.paired_difference is None or partial.compared_with is None:
        return None
    return partial.paired_difference, partial.compared_with


def _gains(selection: Selection) -> tuple[Gain, ...]:
    """Differences of the winner to the baseline and to all trials that are not worse."""
    tests = [("not significantly different", one) for one in selection.alike]
    tests += [("better by Dice", one) for one in selection.better]
    if selection.baseline is not None:
        tests = [(kind, one) for kind, one in tests if one.other != BASELINE]
        tests.insert(0, ("baseline", selection.baseline))
    return tuple(
        Gain(one.other, kind, one.difference, one.interval, one.p_images, one.p_folds, one.p_value)
        for kind, one in tests
    )


def _initial(snapshot: StudySnapshot, champion: ChampionFacts | None) -> str | None:
    """Sentence on the initial weights of the champion's network; None without a champion."""
    if champion is None:
        return None
    from orchestrator import models

    trial = next(one for one in snapshot.trials if one.number == champion.trial)
    configuration = trial.configuration
    known = {name: one.default for name, one in models.params(configuration.network).items()}
    params = known | configuration.network_params
    digest = trial.records[0].spec.weights_sha256
    if params.get("weights"):
        file = f"{params['weights']} (SHA-256 {digest or 'not recorded'})"
        return f"From the file {file}; all other weights begin at random."
    if params.get("pretrained"):
        file = f" (SHA-256 of their file {digest})" if digest else ""
        return (
            f"The encoder begins with its published weights (pretrained = true){file}, "
            "all other layers at random."
        )
    return "All weights begin at random" + (
        " (pretrained = false)." if "pretrained" in params else "; the network has no weights to begin with."
    )


class _Environment(BaseModel):
    """`environment.json` of a study, as far as a report shows it."""

    python: str = "unknown"
    machine: str = "unknown"
    packages: dict[str, str] = {}
    git_revision: str = "unknown"
    sampler: str | None = None


def _environment(snapshot: StudySnapshot) -> _Environment:
    """Environment of the last run; defaults where its file is missing or does not read."""
    try:
        found: _Environment = parse_json(environment_file(snapshot.folder), _Environment)
    except (Unreadable, OSError):
        return _Environment()
    return found
