"""What a study is once it is over, in numbers that another run of it can be compared with."""

from __future__ import annotations

from typing import Any

from orchestrator.results.mlflow.client import connect
from orchestrator.results.views.study_scores import board
from orchestrator.search.race.verdict_log import read_verdicts
from orchestrator.search.store.study_store import StudyStore

REPEATABLE = ("epoch", "train_loss", "val_dice", "learning_rate", "micro_batch")


def outcome_of(study: StudyStore, uri: str | None = None) -> dict[str, Any]:
    """All of it; `uri`: of MLflow, by default a file in the home."""
    champion = study.champion()
    return {
        "leaderboard": [
            (row.number, row.state, row.searched, row.folds_done, row.scores, row.threshold)
            for row in board(study.snapshot())
        ],
        "trials": trials_of(study),
        "fits": curves_of(study),
        "runs": runs_of(study, uri),
        "champion": champion and (champion.trial, champion.fit_id),
    }


def records(study: StudyStore) -> dict[str, int]:
    """Every finished fit, and when it was written."""
    return {file.parent.name: file.stat().st_mtime_ns for file in study.ledger.fits.glob("[!.]*/record.json")}


def trials_of(study: StudyStore) -> list[tuple[Any, ...]]:
    stored = study.optuna_study().get_trials(deepcopy=False)
    return [(trial.number, trial.state.name, rounded(trial.value), trial.params) for trial in stored]


def verdicts_of(study: StudyStore) -> list[dict[str, Any]]:
    """The verdicts of the race, without the time they were passed."""
    return [rounded({**line, "at": None}) for line in read_verdicts(study.race_file)]


def rounded(value: Any) -> Any:
    """Sums of the same numbers in another order differ in their last digits."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return round(value, 9) if isinstance(value, float) else value


def curves_of(study: StudyStore) -> dict[str, list[list[float]]]:
    """Fit -> the part of its curves that does not depend on the speed of the machine."""
    return {
        fit_id: [[row[key] for key in REPEATABLE] for row in study.ledger.read(fit_id).curves]
        for fit_id in records(study)
    }


def runs_of(study: StudyStore, uri: str | None = None) -> list[tuple[Any, ...]]:
    """The runs of MLflow: what they are, how they ended, and their curves."""
    client = connect(uri or f"sqlite:///{study.home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(study.name)
    found = []
    for run in client.search_runs([experiment.experiment_id], max_results=1000):
        curve = client.get_metric_history(run.info.run_id, "val_dice")
        tags = run.data.tags
        what = (tags["role"], tags.get("trial", ""), tags.get("fit_id", ""), tags.get("champion", ""))
        found.append((*what, run.info.status, sorted((point.step, rounded(point.value)) for point in curve)))
    return sorted(found)


def leftovers(study: StudyStore) -> list[str]:
    """Files that somebody began to write and did not end."""
    partial = study.folder.rglob("*.partial*")
    return sorted(str(path.relative_to(study.folder)) for path in partial)
