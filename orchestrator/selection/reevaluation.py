"""Re-evaluation of the finalists before one of them is named: on re-drawn folds and with other training seeds.

The highest score of many is partly luck. The winner and the trials that are not significantly different are trained
once more, on other folds of the same cases (unless the folds were given; the hold-out cases stay unseen) and from other
seeds. Search and re-evaluation choose thresholds in the same way. The champion has the highest score over both
together, in which every image counts once; the search did not optimise over the score of the re-evaluation alone. The
exported network is one of the search.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.common.errors import BadSplit, FitFailed
from orchestrator.common.files import write_atomically
from orchestrator.common.stored_json import read_json
from orchestrator.data.splits.resplit import FRESH, num_same, resplit
from orchestrator.data.splits.split_file import read_plan, write_plan
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.scoring.mask_choice import MaskChoice
from orchestrator.search.choices import SEARCH_METRIC
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.records.status import Named
from orchestrator.search.records.trial_score import TrialScore, fold_specs, from_seed
from orchestrator.search.significance import all_against, compared_trial, share_of_test
from orchestrator.search.space.space import Configuration
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.store.trials import StudyTrial, broken
from orchestrator.training.recipe import FitSpec

if TYPE_CHECKING:
    from orchestrator.search.budget.gate import BudgetGate
    from orchestrator.search.progress.monitor import ProgressMonitor
    from orchestrator.training.ray.dispatcher import JobUpdate
    from orchestrator.training.ray.lanes import Lanes

NEW_FOLDS = "on fresh folds and seeds"
Standing = Sequence[tuple[StudyTrial, TrialScore]]  # trials with all folds, best first


@dataclass(frozen=True)
class Reevaluation:
    """Trials that were candidates, finalists among them and failures of a re-evaluation, as stored."""

    asked: int  # finalists at most
    standing: tuple[int, ...]  # trials with all folds, best first, when they were chosen
    finalists: tuple[int, ...]  # best first; the winner alone where all others are worse
    failed: Mapping[int, str]  # finalist -> why its second training failed


@dataclass(frozen=True)
class Reevaluated:
    """Scores of a finalist in the search and in its re-evaluation."""

    trial: int
    search: float  # what it was chosen by
    fresh: float  # in the re-evaluation alone
    both: float  # over both

    @property
    def optimism(self) -> float:
        """Score in the search minus score in the re-evaluation."""
        return self.search - self.fresh

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"optimism": self.optimism}


class ReevaluationReport(Protocol):
    """Receives the events of a re-evaluation."""

    def reevaluation_started(self, trials: Sequence[int], num_fits: int) -> None: ...
    def fold_reevaluated(self, number: int, record: FitRecord, masks: MaskChoice) -> None: ...


def reevaluate(
    store: StudyStore,
    asked: int,
    lanes: Lanes,
    gate: BudgetGate,
    is_over: Callable[[], bool],
    monitor: ProgressMonitor,
    report: ReevaluationReport,
    expected: Mapping[int, float] | None = None,
) -> bool:
    """Train the finalists again, as many fits at a time as there are lanes, and remember that it was done.

    expected: Dice by a model of the search, of each trial; the finalists are those of which it expects most.
    Returns False if `is_over` ended it before: what is on record by then is not repeated. Raises `FitFailed` if none of
    the finalists can be trained again.
    """
    snapshot = store.snapshot()
    standing = snapshot.ranked()
    if asked < 2 or not snapshot.feasible() or settled(snapshot, standing, asked) is not None:
        return True
    chosen = finalists(snapshot, standing, asked, expected)
    fits = reevaluation_fits(snapshot, standing, chosen) if len(chosen) > 1 else {}
    owners: dict[str, list[int]] = {}  # of one fit several, where configurations differ in their masks alone
    for number, specs in fits.items():
        for spec in specs:
            owners.setdefault(spec.fit_id, []).append(number)
    missing = {s.fit_id: s for specs in fits.values() for s in specs if not store.ledger.has(s.fit_id)}
    if missing and is_over():
        return False
    gate.reserved = len(missing)
    if fits:
        monitor.now("rescoring")
        report.reevaluation_started(chosen, len(missing))

    masks = {trial.number: trial.configuration.masks for trial, _ in standing}

    def count_epochs(fit_id: str, update: JobUpdate) -> None:
        gate.usage.add_epochs(fit_id, update.rows)
        if update.state == "finished":
            record = store.ledger.read(fit_id)
            gate.usage.finish(record)
            gate.reserved -= 1
            for number in owners[fit_id]:
                report.fold_reevaluated(number, record, masks[number])
        monitor.step()

    failed = lanes.run_all(missing, count_epochs, is_over)
    store.ledger.drop_weights(owners)  # a network of the search's own folds is exported
    if not all(store.ledger.has(fit_id) or fit_id in failed for fit_id in owners):
        return False
    errors = {number: error for fit_id, error in failed.items() for number in owners[fit_id]}
    if fits and len(errors) == len(chosen):
        raise FitFailed(f"no finalist could be trained again, on other folds and from another seed: {errors}")
    remember(store, Reevaluation(asked, tuple(trial.number for trial, _ in standing), chosen, errors))
    return True


def finalists(
    snapshot: StudySnapshot,
    standing: Standing,
    asked: int,
    expected: Mapping[int, float] | None = None,
) -> tuple[int, ...]:
    """The winner and those not significantly different from it, best first, within the limits, with networks there.

    Of more than were asked for, those of which most is `expected` are taken: the highest scores are partly luck.
    """
    winner, *others = [compared_trial(trial.number, score) for trial, score in standing]
    groups = snapshot.groups_of(standing[0][1].case_ids)
    against = all_against(winner, others, groups, share_of_test(snapshot.plan))
    alike = {winner.number, *(one.other for one in against if not one.is_sure)}
    free = [
        trial for trial, _ in standing if trial.number in alike and broken(trial, snapshot.secondary) is None
    ]
    able = [trial.number for trial in free if snapshot.champion_fit(trial).weights.exists()]
    likely = sorted(able, key=lambda number: -(expected or {}).get(number, -math.inf))[:asked]
    return tuple(number for number in able if number in likely)


def reevaluation_plan(snapshot: StudySnapshot) -> SplitPlan:
    """The re-drawn folds, from the file that the first call writes."""
    file, data = snapshot.folder / "splits-again.json", (snapshot.datasets, snapshot.unseen)
    if not file.exists():
        write_plan(resplit(snapshot.plan, *data), file)
    try:
        return read_plan(file, *data)
    except BadSplit:  # the file was damaged: it follows from the study's own split
        return resplit(snapshot.plan, *data)


def existing_reevaluation_plan(snapshot: StudySnapshot) -> SplitPlan | None:
    """The plan of a study whose finalists were re-evaluated, or are being; None of any other."""
    file = snapshot.folder / "splits-again.json"
    return reevaluation_plan(snapshot) if file.exists() else None


def reevaluation_specs(configuration: Configuration, plan: SplitPlan) -> tuple[FitSpec, ...]:
    """The fits of a configuration on the folds of `reevaluation_plan`, from seeds that no fold of the search had."""
    first, specs = configuration.recipe.seed, fold_specs(configuration, plan)
    return tuple(
        from_seed(spec.model_copy(update={"fold": f"again {spec.fold}"}), first + place * FRESH)
        for place, spec in enumerate(specs, start=len(specs))
    )


@dataclass(frozen=True)
class StoredReevaluation:
    """The re-evaluation of a study as it is on disk; each of its files is read once."""

    snapshot: StudySnapshot

    @cached_property
    def remembered(self) -> Reevaluation | None:
        """The last re-evaluation, as stored; None if there was none. Raises `BadStudy` if its file is damaged."""
        return read_rescoring(self.snapshot.store)

    @cached_property
    def plan(self) -> SplitPlan:
        """The re-drawn folds."""
        return reevaluation_plan(self.snapshot)

    def where(self) -> str:
        """Folds of the re-evaluation in words: new ones; with few groups or given folds the same ones."""
        same, num_folds = num_same(self.snapshot.plan, self.plan), len(self.plan.folds)
        if not same:
            return NEW_FOLDS
        which = "the folds" if same == num_folds else f"folds of which {same} of {num_folds} are those"
        return f"from fresh seeds, on {which} of the search"

    def fits(self, standing: Standing, numbers: Sequence[int]) -> dict[int, tuple[FitSpec, ...]]:
        """Trial -> its fits on the re-drawn folds."""
        return {
            trial.number: reevaluation_specs(trial.configuration, self.plan)
            for trial, _ in standing
            if trial.number in numbers
        }

    def settled(self, standing: Standing, asked: int = 0) -> Reevaluation | None:
        """The stored re-evaluation if of these very trials and of `asked` finalists or more; else None.

        None, too, where the record of one of its fits is lost.
        """
        found = self.remembered
        is_of_these = found is not None and found.standing == tuple(trial.number for trial, _ in standing)
        if found is None or not is_of_these or found.asked < asked:
            return None
        specs = [spec for specs in self._fits_of(found, standing).values() for spec in specs]
        return found if all(self.snapshot.find(spec.fit_id) for spec in specs) else None

    def _fits_of(self, found: Reevaluation, standing: Standing) -> dict[int, tuple[FitSpec, ...]]:
        """Fits of the finalists that were trained again; none where there was one alone."""
        numbers = [number for number in found.finalists if number not in found.failed]
        return self.fits(standing, numbers) if len(found.finalists) > 1 else {}

    def of(self, standing: Standing, metric: str = SEARCH_METRIC) -> tuple[Reevaluated, ...]:
        """The finalists by their score over both, best first; none where nothing was re-evaluated.

        None either where `standing` is ranked by a metric that finalists were not re-evaluated by.
        """
        if metric != SEARCH_METRIC:
            return ()
        found = self.settled(standing)
        if found is None or len(found.finalists) < 2:
            return ()
        fits = self._fits_of(found, standing)
        shown = [
            self._reevaluated(trial, score, fits[trial.number])
            for trial, score in standing
            if trial.number in fits
        ]
        return tuple(sorted(shown, key=lambda one: -one.both))  # of equals the one before in the search

    def _reevaluated(self, trial: StudyTrial, score: TrialScore, specs: Sequence[FitSpec]) -> Reevaluated:
        worth, configuration = self.snapshot.objective, trial.configuration
        found = [self.snapshot.find(spec.fit_id) for spec in specs]
        fresh = [record for record in found if record is not None]  # all are: it is settled
        both = [*trial.records, *fresh]
        return Reevaluated(
            trial=trial.number,
            search=worth(score),
            fresh=worth(self.snapshot.score_of(fresh, configuration)),
            both=worth(self.snapshot.score_of(both, configuration)),
        )

    def failed(self, standing: Standing) -> dict[int, str]:
        """Finalists that could not be trained again, and are left out for it; with the reason."""
        found = self.settled(standing)
        return dict(found.failed) if found is not None else {}


def reevaluated_on(snapshot: StudySnapshot) -> str:
    """Folds that finalists are trained on again, in words."""
    return StoredReevaluation(snapshot).where()


def reevaluation_fits(
    snapshot: StudySnapshot, standing: Standing, numbers: Sequence[int]
) -> dict[int, tuple[FitSpec, ...]]:
    """The fits of the re-evaluation, of each of these trials."""
    return StoredReevaluation(snapshot).fits(standing, numbers)


def settled(snapshot: StudySnapshot, standing: Standing, asked: int = 0) -> Reevaluation | None:
    """The stored re-evaluation if of these very trials and of `asked` finalists or more; else None."""
    return StoredReevaluation(snapshot).settled(standing, asked)


def read_rescoring(store: StudyStore) -> Reevaluation | None:
    """The last re-evaluation, as stored; None if there was none. Raises `BadStudy` if its file is damaged."""
    file = _file(store)
    if not file.exists():
        return None
    result: Reevaluation | None = read_json(
        file, Reevaluation, "the same `orchestrator search` writes it again, and trains nothing for it"
    )
    return result


def remember(store: StudyStore, rescoring: Reevaluation) -> None:
    """Write a re-evaluation, whole or not at all."""
    write_atomically(_file(store), json.dumps(asdict(rescoring)).encode())


def reevaluation_of(
    snapshot: StudySnapshot, standing: Standing, metric: str = SEARCH_METRIC
) -> tuple[Reevaluated, ...]:
    """The finalists by their score over search and re-evaluation, best first: see `StoredReevaluation.of`."""
    return StoredReevaluation(snapshot).of(standing, metric)


def named(snapshot: StudySnapshot, standing: Standing, metric: str = "dice") -> tuple[StudyTrial, TrialScore]:
    """The champion of trials ranked by the metric, at least one: over search and re-evaluation if there was one."""
    again = reevaluation_of(snapshot, standing, metric)
    number = again[0].trial if again else standing[0][0].number
    return next(pair for pair in standing if pair[0].number == number)


def as_named(snapshot: StudySnapshot, champion: StudyTrial) -> Named:
    """The champion as the status shows it."""
    standing = snapshot.ranked()
    for again in reevaluation_of(snapshot, standing):
        if again.trial == champion.number:
            return Named(again.trial, again.search, again.fresh)
    score = next(score for trial, score in standing if trial.number == champion.number)
    return Named(champion.number, snapshot.objective(score))


def _file(store: StudyStore) -> Path:
    return store.folder / "rescored.json"
