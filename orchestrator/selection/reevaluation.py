"""The finalists scored again before one is named: on folds dealt anew and with other training seeds.

The highest score of many is partly luck. The winner and those that cannot be told from it are trained once more, on
other folds of the same cases (where folds are dealt; the hold-out stays as it is, unseen) and from other seeds. Each
scoring chooses thresholds in the same way. Named is the highest score over both, in which every image counts once; the
second one alone is what the search did not optimise over. The network that is handed over stays one of the first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.common.errors import BadSplit, FitFailed
from orchestrator.common.files import write_atomically
from orchestrator.common.stored_json import read_json
from orchestrator.data.splits.resplit import FRESH, num_same, resplit
from orchestrator.data.splits.split_file import SplitPlan, read_plan, write_plan
from orchestrator.scoring.mask_choice import MaskChoice
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.records.status import Named
from orchestrator.search.records.trial_score import TrialScore, fold_specs, from_seed, score_trial
from orchestrator.search.significance import all_against, compared_trial, share_of_test
from orchestrator.search.space.space import Configuration
from orchestrator.search.store.study_store import StudyStore, StudyTrial, broken, champion_fit
from orchestrator.training.recipe import FitSpec

if TYPE_CHECKING:
    from orchestrator.search.budget.gate import BudgetGate
    from orchestrator.search.progress.monitor import ProgressMonitor
    from orchestrator.training.ray.dispatcher import News
    from orchestrator.training.ray.lanes import Lanes

AFRESH = "on fresh folds and seeds"
Standing = Sequence[tuple[StudyTrial, TrialScore]]  # trials with all folds, best first


@dataclass(frozen=True)
class Reevaluation:
    """Who was scored again, of which trials, as it is remembered."""

    asked: int  # finalists at most
    standing: tuple[int, ...]  # trials with all folds, best first, when they were chosen
    finalists: tuple[int, ...]  # best first; the winner alone where all others are worse
    failed: Mapping[int, str]  # finalist -> why its second training failed


@dataclass(frozen=True)
class Reevaluated:
    """What a finalist has shown, as the study ranks trials."""

    trial: int
    search: float  # what it was chosen by
    fresh: float  # in the second scoring alone
    both: float  # over both

    @property
    def optimism(self) -> float:
        """How much too good the search's own score was."""
        return self.search - self.fresh

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"optimism": self.optimism}


class ReevaluationReport(Protocol):
    """Receives the events of a re-evaluation."""

    def reevaluation_started(self, trials: Sequence[int], num_fits: int) -> None: ...
    def fold_reevaluated(self, number: int, record: FitRecord, masks: MaskChoice) -> None: ...


def reevaluate(
    home: StudyStore,
    asked: int,
    lanes: Lanes,
    purse: BudgetGate,
    is_over: Callable[[], bool],
    watch: ProgressMonitor,
    report: ReevaluationReport,
) -> bool:
    """Train the finalists again, as many fits at a time as there are lanes, and remember that it was done.

    Returns False if `is_over` ended it before: what is on record by then is not repeated. Raises `FitFailed` if none of
    the finalists can be trained again.
    """
    standing = home.ranked()
    if asked < 2 or not home.contenders() or settled(home, standing, asked) is not None:
        return True
    chosen = finalists(home, standing, asked)
    fits = reevaluation_fits(home, standing, chosen) if len(chosen) > 1 else {}
    owners: dict[str, list[int]] = {}  # of one fit several, where settings differ in their masks alone
    for number, specs in fits.items():
        for spec in specs:
            owners.setdefault(spec.fit_id, []).append(number)
    missing = {s.fit_id: s for specs in fits.values() for s in specs if not home.ledger.has(s.fit_id)}
    if missing and is_over():
        return False
    purse.reserved = len(missing)
    if fits:
        watch.now("rescoring")
        report.reevaluation_started(chosen, len(missing))

    masks = {trial.number: trial.configuration.masks for trial, _ in standing}

    def hear(fit_id: str, news: News) -> None:
        purse.spending.hear(fit_id, news.rows)
        if news.state == "finished":
            record = home.ledger.read(fit_id)
            purse.spending.finish(record)
            purse.reserved -= 1
            for number in owners[fit_id]:
                report.fold_reevaluated(number, record, masks[number])
        watch.step()

    failed = lanes.run_all(missing, hear, is_over)
    home.ledger.drop_weights(owners)  # handed over is a network of the search's own folds
    if not all(home.ledger.has(fit_id) or fit_id in failed for fit_id in owners):
        return False
    errors = {number: error for fit_id, error in failed.items() for number in owners[fit_id]}
    if fits and len(errors) == len(chosen):
        raise FitFailed(f"no finalist could be trained again, on other folds and from another seed: {errors}")
    remember(home, Reevaluation(asked, tuple(trial.number for trial, _ in standing), chosen, errors))
    return True


def finalists(home: StudyStore, standing: Standing, asked: int) -> tuple[int, ...]:
    """The winner and those that cannot be told from it, best first, within the limits, with networks still there."""
    secondary, plan, group_of = home.secondary(), home.plan(), home.group_of_case()
    winner, *others = [compared_trial(trial.number, score) for trial, score in standing]
    groups = [group_of[case_id] for case_id in standing[0][1].case_ids]
    against = all_against(winner, others, groups, share_of_test(plan))
    alike = {winner.number, *(one.other for one in against if not one.is_sure)}
    free = [trial for trial, _ in standing if trial.number in alike and broken(trial, secondary) is None]
    able = [trial.number for trial in free if champion_fit(trial).weights.exists()]
    return tuple(able[:asked])


def reevaluation_plan(home: StudyStore) -> SplitPlan:
    """The folds of the second scoring, from the file that the first call writes."""
    file = _plan_file(home)
    if not file.exists():
        write_plan(resplit(home.plan(), *home.datasets()), file)
    try:
        return read_plan(file, *home.datasets())
    except BadSplit:  # the file was damaged: it follows from the study's own split
        return resplit(home.plan(), *home.datasets())


def existing_reevaluation_plan(home: StudyStore) -> SplitPlan | None:
    """As `reevaluation_plan`, of a study whose finalists were re-evaluated, or are being; None of any other."""
    return reevaluation_plan(home) if _plan_file(home).exists() else None


def reevaluated_on(home: StudyStore) -> str:
    """What finalists are scored again on, in words: where groups are few, or folds were given, folds stay the same."""
    again = reevaluation_plan(home)
    same, num_folds = num_same(home.plan(), again), len(again.folds)
    if not same:
        return AFRESH
    which = "the folds" if same == num_folds else f"folds of which {same} of {num_folds} are those"
    return f"from fresh seeds, on {which} of the search"


def reevaluation_specs(configuration: Configuration, plan: SplitPlan) -> tuple[FitSpec, ...]:
    """The fits of a setting on the folds of `reevaluation_plan`, from seeds that no fold of the search had."""
    first, specs = configuration.recipe.seed, fold_specs(configuration, plan)
    return tuple(
        from_seed(spec.model_copy(update={"fold": f"again {spec.fold}"}), first + place * FRESH)
        for place, spec in enumerate(specs, start=len(specs))
    )


def reevaluation_fits(
    home: StudyStore, standing: Standing, numbers: Sequence[int]
) -> dict[int, tuple[FitSpec, ...]]:
    """The fits of the second scoring, of each of these trials."""
    plan = reevaluation_plan(home)
    return {
        trial.number: reevaluation_specs(trial.configuration, plan)
        for trial, _ in standing
        if trial.number in numbers
    }


def settled(home: StudyStore, standing: Standing, asked: int = 0) -> Reevaluation | None:
    """What is remembered of these very trials and of so many finalists or more; None if nothing is.

    Nothing is remembered, either, where a record of theirs is lost.
    """
    found = read_rescoring(home)
    if found is None or found.standing != tuple(trial.number for trial, _ in standing) or found.asked < asked:
        return None
    numbers = [number for number in found.finalists if number not in found.failed]
    fits = reevaluation_fits(home, standing, numbers) if len(found.finalists) > 1 else {}
    is_whole = all(home.ledger.has(spec.fit_id) for specs in fits.values() for spec in specs)
    return found if is_whole else None


def read_rescoring(home: StudyStore) -> Reevaluation | None:
    """What is remembered of the last second scoring. Raises `BadStudy` where its file was damaged."""
    file = _file(home)
    if not file.exists():
        return None
    return read_json(
        file, Reevaluation, "the same `orchestrator search` writes it anew, and trains nothing for it"
    )


def remember(home: StudyStore, rescoring: Reevaluation) -> None:
    """Keep it, whole or not at all."""
    write_atomically(_file(home), json.dumps(asdict(rescoring)).encode())


def reevaluation_of(home: StudyStore, standing: Standing) -> tuple[Reevaluated, ...]:
    """The finalists by their mean over both scorings, best first; none where nothing was scored again.

    `standing` is ranked by Dice, as the search ranks trials.
    """
    found = settled(home, standing)
    if found is None or len(found.finalists) < 2:
        return ()
    numbers = [number for number in found.finalists if number not in found.failed]
    fits = reevaluation_fits(home, standing, numbers)
    records = {number: [home.ledger.read(spec.fit_id) for spec in specs] for number, specs in fits.items()}
    shown = [
        _again(home, trial, score, records[trial.number])
        for trial, score in standing
        if trial.number in records
    ]
    return tuple(sorted(shown, key=lambda one: -one.both))  # of equals the one before in the search


def failed_reevaluations(home: StudyStore, standing: Standing) -> dict[int, str]:
    """Finalists that could not be trained again, and are left out for it; with the reason."""
    found = settled(home, standing)
    return dict(found.failed) if found is not None else {}


def named(home: StudyStore, standing: Standing, metric: str = "dice") -> tuple[StudyTrial, TrialScore]:
    """The champion of trials ranked by the metric, which are not none: by both scorings where there are two."""
    again = reevaluation_of(home, standing) if metric == "dice" else ()
    number = again[0].trial if again else standing[0][0].number
    return next(pair for pair in standing if pair[0].number == number)


def as_named(home: StudyStore, champion: StudyTrial) -> Named:
    """The champion as the status tells it."""
    standing = home.ranked()
    for again in reevaluation_of(home, standing):
        if again.trial == champion.number:
            return Named(again.trial, again.search, again.fresh)
    score = next(score for trial, score in standing if trial.number == champion.number)
    return Named(champion.number, home.objective()(score))


def _again(home: StudyStore, trial: StudyTrial, score: TrialScore, fresh: Sequence[FitRecord]) -> Reevaluated:
    worth, configuration = home.objective(), trial.configuration
    return Reevaluated(
        trial=trial.number,
        search=worth(score),
        fresh=worth(score_trial(fresh, configuration)),
        both=worth(score_trial([*trial.records, *fresh], configuration)),
    )


def _file(home: StudyStore) -> Path:
    return home.folder / "rescored.json"


def _plan_file(home: StudyStore) -> Path:
    return home.folder / "splits-again.json"
