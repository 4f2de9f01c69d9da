"""End times and cost of fits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from orchestrator.results.provenance import PROCESSORS, device_words
from orchestrator.results.report.facts import AGAIN, CUT, REFIT, SEARCH, CostFacts, FitFacts
from orchestrator.search.records.cut_fits import CutFit
from orchestrator.search.records.fit_records import RECORD, FitRecord
from orchestrator.search.records.trial_score import TrialScore
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.search.store.trials import StudyTrial

Times = Mapping[tuple[int, int], float]  # (trial, fold) -> seconds since 1970


def finish_times(snapshot: StudySnapshot) -> Times:
    """(trial, fold) -> time when the race first knew of the fold; for a fit that it cut, time of the cut."""
    found: dict[tuple[int, int], float] = {}
    for line in snapshot.verdicts:
        for fold in line["folds"]:
            if "at" in line:
                found.setdefault((line["trial"], fold), line["at"])
    return found


def fit_facts(
    trial: StudyTrial, score: TrialScore | None, finished: Times, cuts: Sequence[CutFit]
) -> tuple[tuple[FitFacts, ...], tuple[FitFacts, ...]]:
    """Facts of the finished fits of a trial, and of those that were cut.

    Folds of an incomplete trial have no Dice at their own threshold: theirs is that of the best epoch.
    """
    dice = [] if score is None else list(score.fold_dice)
    whole = tuple(
        FitFacts(
            fold=int(record.spec.fold),
            dice=dice[place] if dice else record.curves[record.best_epoch]["val_dice"],
            seconds=record.seconds,
            finished=finished.get((trial.number, int(record.spec.fold)), _written(record)),
            best_epoch=record.best_epoch + 1,
            curve=_curve(record.curves),
        )
        for place, record in enumerate(trial.records)
    )
    return whole, tuple(_cut(cut, trial, finished) for cut in cuts)


def _cut(cut: CutFit, trial: StudyTrial, finished: Times) -> FitFacts:
    dice = [row["val_dice"] for row in cut.rows]
    return FitFacts(
        fold=cut.fold,
        dice=None,
        seconds=cut.seconds,
        finished=finished.get((trial.number, cut.fold)),
        best_epoch=1 + max(range(len(dice)), key=dice.__getitem__, default=0),
        curve=_curve(cut.rows),
    )


def _curve(rows: Iterable[Mapping[str, float]]) -> tuple[tuple[float, float], ...]:
    return tuple((row["train_loss"], row["val_dice"]) for row in rows)


def _written(record: FitRecord) -> float:
    return (record.folder / RECORD).stat().st_mtime


def costs(snapshot: StudySnapshot, cuts: Sequence[CutFit]) -> tuple[CostFacts, ...]:
    """Hours by kind of fit and device: every finished fit on record, and every epoch of those that were cut."""
    found: dict[tuple[str, str], list[tuple[float, int]]] = {}
    device, workers = "unknown", 1
    for record in snapshot.stored():
        device, workers = record.device, record.world_size
        kind = REFIT if not record.case_ids else AGAIN if record.spec.fold.startswith("again") else SEARCH
        found.setdefault((kind, record.device), []).append((record.seconds, record.world_size))
    for cut in cuts:  # the device is not in their lines: that of the other fits
        found.setdefault((CUT, device), []).append((cut.seconds, workers))
    order = (SEARCH, CUT, AGAIN, REFIT)
    return tuple(
        CostFacts(
            kind=kind,
            device=device_words(name),
            is_gpu=name.lower() not in (*PROCESSORS, "unknown"),
            num_fits=len(some),
            hours=sum(seconds for seconds, _ in some) / 3600,
            device_hours=sum(seconds * width for seconds, width in some) / 3600,
        )
        for (kind, name), some in sorted(
            found.items(), key=lambda item: (order.index(item[0][0]), item[0][1])
        )
    )
