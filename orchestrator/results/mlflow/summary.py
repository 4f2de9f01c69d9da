"""The scores and tags that a study gets at its end: champion, Pareto front, re-evaluation, nested estimate."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.results.export.exported_network import outside_metrics, training_facts
from orchestrator.results.sinks.records import fold_label
from orchestrator.search.goals.objective import Objective
from orchestrator.search.records.status import read_status
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.store.trials import StudyTrial, champion_fit, finished_score
from orchestrator.selection.nested import nested_of
from orchestrator.selection.ranking import select_trial
from orchestrator.selection.reevaluation import Reevaluated


@dataclass(frozen=True)
class Late:
    """Metrics and tags that a trial's run gets at the end of its study."""

    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    note: str | None = None  # its description, in Markdown

    def __or__(self, other: Late) -> Late:
        return Late(self.metrics | other.metrics, self.tags | other.tags, other.note or self.note)


@dataclass(frozen=True)
class ChampionFold:
    """The fold network that stands for the champion, with its scores outside the search."""

    trial: int
    name: str  # "fold 0"
    label: str  # "0"
    fit_id: str
    metrics: dict[str, float]


@dataclass(frozen=True)
class Chosen:
    """The champion, and why it is that one, in sentences."""

    champion: StudyTrial
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """Metrics and tags that a study gets at its end."""

    trials: dict[int, Late] = field(default_factory=dict)
    fold: ChampionFold | None = None
    tags: dict[str, str] = field(default_factory=dict)  # of the study's own run
    metrics: dict[str, float] = field(default_factory=dict)  # of the study's own run
    end: Chosen | None = None  # None: no trial can be champion
    ended: str | None = None  # why no new trial was begun


def summary_of(store: StudyStore, champion: StudyTrial | None) -> Summary:
    """The summary of a study that is over; None: no trial can be champion."""
    if champion is None:
        return Summary()
    now = store.snapshot()
    standing = now.ranked()
    selection = select_trial(now, standing)
    fold, outside = _champion_fold(store, champion)
    scored_by = {"outside_scores_of": f"network of {fold.name} of trial {champion.number}"} if outside else {}
    late: dict[int, Late] = {}
    if now.secondary.objectives:
        front = now.front
        late = {trial.number: Late({}, {"pareto": _truth(trial.number in front)}) for trial, _ in standing}
    for one in selection.reevaluated:
        again = Late(reevaluation_metrics(one, now.objective), {"reevaluated": "true"})
        late[one.trial] = late.get(one.trial, Late()) | again
    reasons = tuple(selection.sentences())
    note = "\n\n".join((f"**Champion** of study `{store.name}`.", *reasons))
    chosen = Late(outside | selection.metrics(), {"champion": "true"} | scored_by | selection.tags(), note)
    late[champion.number] = late.get(champion.number, Late()) | chosen
    nested = nested_of(store)
    rescored = reevaluation_metrics(selection.reevaluated[0], now.objective) if selection.reevaluated else {}
    return Summary(
        trials=late,
        fold=fold if outside else None,
        tags=scored_by | ({"nested": nested.sentences()[0]} if nested is not None else {}),
        metrics={
            "champion_trial": float(champion.number),
            **finished_score(champion).metrics,
            **outside,
            **rescored,
            **(nested.metrics() if nested is not None else {}),
        },
        end=Chosen(champion, reasons),
        ended=end_of(store),
    )


def end_of(store: StudyStore) -> str | None:
    """Why no new trial was begun; None where nothing says so."""
    status, end = read_status(store.status_file), store.ledger.trials.end()
    if status is not None and status.end is not None:
        return status.end
    return None if end is None else str(end["why"])


def reevaluation_metrics(one: Reevaluated, objective: Objective) -> dict[str, float]:
    """Scores of a finalist by the objective: over both trainings, of the re-evaluation, and optimism."""
    name = f"rescored_{objective.label()}".replace("-", "_").replace(" ", "_")
    return {name: one.both, f"{name}_fresh": one.fresh, "search_optimism": one.optimism}


def _champion_fold(store: StudyStore, champion: StudyTrial) -> tuple[ChampionFold, dict[str, float]]:
    record, masks = champion_fit(champion), finished_score(champion).masks
    outside = outside_metrics(store.outside_scores(record.fit_id, masks))
    name = training_facts(store.plan(), record).label
    label = fold_label(name, int(record.spec.fold))
    return ChampionFold(champion.number, name, label, record.fit_id, outside), outside


def _truth(value: bool) -> str:
    return "true" if value else "false"
