"""Scores and intervals computed from the records of a study, cached on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.scoring.postprocess import PostProcess
from orchestrator.scoring.statistics import cluster_interval
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.records.trial_score import ScoredCases, TrialScore, score_trial
from orchestrator.search.space.space import Configuration
from orchestrator.search.store.derived import DerivedFiles, key_of


def derived_score(
    derived: DerivedFiles, records: Sequence[FitRecord], configuration: Configuration, metric: str
) -> TrialScore:
    """The score of `score_trial`, cached in `derived` by the digests of the records."""
    digests = [record.digest for record in records]
    if None in digests:  # of an earlier version: nothing says what its arrays hold
        return score_trial(records, configuration, metric)
    key = key_of("score", digests, asdict(configuration.masks), metric)
    if (found := derived.find(key)) is not None:
        return _as_score(found.plain, found.values, records)
    score = score_trial(records, configuration, metric)
    derived.keep(key, _as_plain(score), np.stack([*score.values_of_case.values()]))
    return score


def derived_interval(
    derived: DerivedFiles, values: NDArray[np.float64], groups: Sequence[str]
) -> tuple[float, float]:
    """The `cluster_interval` of values (N,) with their groups (N,), cached in `derived`."""
    key = key_of("interval", digest_of(values), groups)
    found = derived.find(key)
    if found is None:
        ends = cluster_interval(values, groups)
        derived.keep(key, {}, np.array(ends))
        return ends
    low, high = found.values
    return float(low), float(high)


def digest_of(values: NDArray[np.float64]) -> str:
    """64 hex digits of the SHA-256 of numbers as float64."""
    return hashlib.sha256(np.ascontiguousarray(values, dtype=np.float64).tobytes()).hexdigest()


def _as_plain(score: TrialScore) -> dict[str, Any]:
    return {
        "masks": score.masks.as_dict(),
        "metrics": score.metrics,
        "fold_metrics": score.fold_metrics,
        "is_cross_fitted": score.is_cross_fitted,
        "fold_means_of_case": score.fold_means_of_case,
        "names": list(score.values_of_case),
    }


def _as_score(
    plain: dict[str, Any], values: NDArray[np.float64], records: Sequence[ScoredCases]
) -> TrialScore:
    return TrialScore(
        masks=PostProcess(**plain["masks"]),
        metrics=plain["metrics"],
        fold_metrics=tuple(plain["fold_metrics"]),
        case_ids=tuple(sorted({case_id for record in records for case_id in record.case_ids})),
        values_of_case=dict(zip(plain["names"], values, strict=True)),
        is_cross_fitted=plain["is_cross_fitted"],
        fold_means_of_case=tuple(plain["fold_means_of_case"]),
    )
