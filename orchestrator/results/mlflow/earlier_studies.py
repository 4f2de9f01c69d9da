"""Earlier studies by name, for a warm start: from this home, or from an experiment in MLflow."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.common.errors import BadMachine, BadStudy
from orchestrator.data.cases import load_datasets
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.results.mlflow.client import check_uri, connect
from orchestrator.results.mlflow.runs.run_log import RENAMED
from orchestrator.search.store.study_store import StudyStore
from orchestrator.selection.warm_start import MOST, Earlier, best_of_study, lineage, num_chosen_by

if TYPE_CHECKING:
    from mlflow.entities import Run

WHERE = "--warm-start"
ADVICE = "begin with a study of the same split, or of other data"


def earlier_configurations(
    home: Path,
    names: Sequence[str],
    uri: str,
    plan: SplitPlan,
    outside: Collection[str],
    networks: Collection[str] = (),
) -> list[Earlier]:
    """The best configurations of each of these studies, for a study of this split that holds out the cases `outside`.

    `networks`: those of the new study; of a study over several the best trials of these are taken, where it has any.

    Raises `BadStudy` with every name that no study has, and every study whose trials were chosen by cases that are held
    out now, or that was itself warm-started with such trials. Of an earlier study the names of the studies that it was
    warm-started with are known, not whether one of these was replaced since; of an MLflow experiment neither is.
    """
    found: list[Earlier] = []
    problems: list[str] = []
    for name in names:
        try:
            study = StudyStore(home, name)
            found += (
                _of_home(study, uri, plan, outside, networks)
                if study.exists()
                else best_of_experiment(uri, name, plan, outside, networks)
            )
        except BadStudy as error:
            problems += error.problems
    if problems:
        raise BadStudy(WHERE, problems)
    return found


def _of_home(
    study: StudyStore, uri: str, plan: SplitPlan, outside: Collection[str], networks: Collection[str]
) -> list[Earlier]:
    here = load_datasets(study.home, [*plan.datasets, *plan.unseen]) if outside else ()
    hidden = {case.sha256 for dataset in here for case in dataset.cases if case.id in outside}
    for name in lineage(study) if outside else ():
        ancestor = StudyStore(study.home, name)
        try:
            if not ancestor.exists():
                best_of_experiment(uri, name, plan, outside)  # for its refusals
            elif num := num_chosen_by(ancestor.snapshot(), hidden):
                raise BadStudy(
                    WHERE, f"{name} was chosen by {num} images that this study holds out; {ADVICE}"
                )
        except BadStudy as error:
            begun = "" if name == study.name else f"{study.name} began with configurations of {name}: "
            raise BadStudy(WHERE, [f"{begun}{problem}" for problem in error.problems]) from error
    configuration = best_of_study(study.snapshot(), networks)
    if not configuration:
        raise BadStudy(WHERE, f"{study.name} has no finished trial yet")
    return configuration


def best_of_experiment(
    uri: str, name: str, plan: SplitPlan, outside: Collection[str], networks: Collection[str] = ()
) -> list[Earlier]:
    """Configurations as of `best_of_study`, from runs in MLflow. Raises `BadStudy` if no trial can be used.

    Of several studies of that name it is the newest one with a champion, or the newest one where none has.
    Runs name their datasets and split, not their images: a dataset is shared if its name or fingerprint is equal.
    """
    runs = _of_one_study(_trials(uri, name))
    alike = {number for run in runs for number in _alike(run)}
    best = sorted(runs, key=lambda run: (not _is_champion(run), _trial(run) not in alike, -_worth(run)))
    if not best:
        raise BadStudy(WHERE, f"{name} has no finished trial yet")
    here = plan.datasets | plan.unseen
    chosen_on = {used for run in best for used in _chosen_on(run)}
    shared = sorted({name for name, digest in chosen_on if name in here or digest in here.values()})
    if outside and shared and any(run.data.tags.get("split_digest") != plan.digest for run in best):
        raise BadStudy(
            WHERE,
            f"{name} in MLflow was chosen on {', '.join(shared)} with another split, so maybe on images that this "
            f"study holds out; {ADVICE}",
        )
    best = [run for run in best if run.data.params.get("network") in networks] or best
    return [Earlier(f"trial {_trial(run)} of {name} in MLflow", _params(run)) for run in best[:MOST]]


def _params(run: Run) -> dict[str, str]:
    """The parameters of a run by the names that search spaces have for them."""
    names = {renamed: name for name, renamed in RENAMED.items()}
    return {names.get(name, name): value for name, value in run.data.params.items()}


def _trials(uri: str, name: str) -> list[Run]:
    """The runs of finished trials. Raises `BadStudy` if there is no such experiment, `BadMachine` if MLflow is away."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    check_uri(uri)
    try:
        client = connect(uri)
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            wanted = "tags.role = 'trial' and metrics.dice >= 0"
            return list(client.search_runs([experiment.experiment_id], wanted, max_results=1000))
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise BadMachine(WHERE, f"MLflow at {uri} does not answer: {error}") from error
    raise BadStudy(WHERE, f"no study of this home, and no experiment at {uri}, is named {name!r}")


def _of_one_study(runs: Sequence[Run]) -> list[Run]:
    """The runs of the newest study, of those with a champion where there is one."""
    named = [run for run in runs if _is_champion(run)]
    newest = max(named or runs, key=lambda run: run.info.start_time, default=None)
    return [run for run in runs if newest is not None and _study(run) == _study(newest)]


def _chosen_on(run: Run) -> list[tuple[str, str]]:
    """The datasets that a run was selected on: name and fingerprint."""
    used = run.inputs.dataset_inputs if run.inputs else []
    return [(one.dataset.name, one.dataset.digest) for one in used]


def _study(run: Run) -> str | None:
    """The id of the study of a run."""
    return run.data.tags.get("study_id")


def _trial(run: Run) -> str:
    return run.data.tags["trial"]


def _is_champion(run: Run) -> bool:
    return run.data.tags.get("champion") == "true"


def _alike(run: Run) -> list[str]:
    """The numbers of trials that are not significantly different from this one, if it is the champion."""
    tags = run.data.tags
    in_0_1_0 = tags.get("not_told_from_winner", "")
    numbers = tags.get("not_significantly_different", in_0_1_0)
    return numbers.split(", ") if _is_champion(run) else []


def _worth(run: Run) -> float:
    return run.data.metrics.get("objective", run.data.metrics["dice"])
