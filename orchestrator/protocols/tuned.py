"""Tuned rows, which papers lack: each is searched with the same budget, on the table's folds, then scored.

A search opens what the row's own space file opens, except size, which the table fixes, and threshold, which papers hold
at one half. Trial 0 is the paper's configuration, so that a row loses nothing by being searched but by chance.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.common.display import Display
from orchestrator.common.errors import BadSpace
from orchestrator.common.files import appearing
from orchestrator.common.user_documents import parse_toml
from orchestrator.data.cases import Dataset
from orchestrator.protocols.fits import RowPlan, row_values
from orchestrator.protocols.plan import TablePlan
from orchestrator.protocols.run import Performer, masks_of, score_job
from orchestrator.protocols.set_scores import SetScoreJob, SetScores, read_scores
from orchestrator.protocols.work import Places
from orchestrator.search.fit_jobs import FitJobRunner
from orchestrator.search.space.combine import table_text, value_text
from orchestrator.search.space.space import SearchSpace
from orchestrator.search.space.space_file import load_space, parse_space
from orchestrator.search.store.optuna_journal import ANEW
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.store.trials import StudyTrial
from orchestrator.search.study_spec import StudySpec
from orchestrator.study.runnable_study import RunnableStudy

HELD = ("image_size", "epochs", "threshold", "reference_area", "white_level")
Search = Callable[[RunnableStudy, FitJobRunner], StudyTrial | None]


@dataclass(frozen=True)
class TunedRow:
    """A row after its search: fold -> test set -> scores of the best trial's fits, and its searched parameters."""

    scores: Mapping[tuple[int, int, str], SetScores]  # seed 0, fold, test set
    params: Mapping[str, Any]


def tune_rows(
    plan: TablePlan,
    places: Places,
    trials: int,
    search: Search,
    performer: Callable[[], AbstractContextManager[Performer]],
    display: Display,
) -> dict[str, TunedRow]:
    """Row -> the best of `trials` configurations, by Dice on the validation images; the same number for every row.

    Rows that read the same network by other rules share its search. A row without any finished trial is missing.
    """
    champions: dict[str, StudyTrial] = {}
    for row in plan.rows:
        if not row.fits:
            continue
        study = study_of(plan, row, places, trials)
        name = study.store.name
        if name not in champions:
            display.note(f"tuning {row.name}: {trials} trials (study {name})")
            give_baseline(row, places, study)
            found = search(study, FitJobRunner(places.home, places.cache, study.store.ledger))
            if found is None:
                display.note(f"{row.name}: no trial was finished")
                continue
            champions[name] = found
    return _scored(plan, places, champions, trials, performer)


def study_of(plan: TablePlan, row: RowPlan, places: Places, trials: int) -> RunnableStudy:
    """The study of a row, named by everything that decides its results."""
    assert plan.split is not None and plan.table.train is not None
    space = space_of(plan, row)
    dataset: Dataset = plan.taken[plan.table.train].dataset
    meaning = json.dumps([space.digest, plan.split.digest, trials])
    digest = hashlib.sha256(meaning.encode()).hexdigest()[:8]
    name = f"reproduce-{plan.protocol.name}-{plan.table_name}-{row.row.space}-{plan.scale_name}-{digest}"
    spec = StudySpec(trials=trials, race="none", rescore=0)
    return RunnableStudy(StudyStore(places.home, name), space, plan.split, (dataset,), (), spec)


def space_of(plan: TablePlan, row: RowPlan) -> SearchSpace:
    """Search space of a row: parameters of its own file, around the values that the table fixes."""
    shipped = load_space(Path(row.row.space))
    values = row_values(plan.protocol, row.name, row.row, plan.scale, plan.wishes, shipped)
    params = {**shipped.baseline_params(), **values}
    params = {key: value for key, value in params.items() if value is not None}
    network = params.pop("network")
    held = {*HELD, *row.row.params}
    opened = {
        key: _with_paper(table, params[key])
        for key, table in parse_toml(shipped.text)["search"].items()
        if key not in held and key in params
    }
    if not opened:
        raise BadSpace(row.row.space, "searches nothing but size and threshold, so there is nothing to tune")
    fixed = {key: value for key, value in params.items() if key not in opened} | {"threshold": 0.5}
    baseline = {key: params[key] for key in opened}
    tables = {"search": opened, "fixed": fixed, "baseline": baseline}
    texts = [f"network = {value_text(network)}", *(table_text(name, table) for name, table in tables.items())]
    return parse_space("\n".join(texts) + "\n")


def _with_paper(table: Mapping[str, Any], value: Any) -> dict[str, Any]:
    """A distribution that holds the paper's value: choices get it, ranges are widened to it."""
    for kind, ends in table.items():
        if kind == "choice":
            return {**table, kind: ends if value in ends else [*ends, value]}
        if kind in ("log_uniform", "uniform", "int"):
            return {**table, kind: [min(ends[0], value), max(ends[1], value)]}
    return dict(table)


def give_baseline(row: RowPlan, places: Places, study: RunnableStudy) -> None:
    """Begin the study, and give it the table's own fits of the paper's configuration: they are its trial 0."""
    with study.store.lock():
        study.store.begin(study.space, study.plan, study.spec)
        # Without the mark, fits without trials are taken for a lost journal.
        study.store.optuna_study().set_user_attr(ANEW, True)
    for spec in row.specs[0]:
        source, target = places.ledger.fits / spec.fit_id, study.store.ledger.fits / spec.fit_id
        if places.ledger.has(spec.fit_id) and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with appearing(target) as partial:
                shutil.copytree(source, partial, dirs_exist_ok=True)


def _scored(
    plan: TablePlan,
    places: Places,
    champions: Mapping[str, StudyTrial],
    trials: int,
    performer: Callable[[], AbstractContextManager[Performer]],
) -> dict[str, TunedRow]:
    """Score the champions' networks on the images of the table, unless that is on record."""
    wanted: dict[str, dict[tuple[int, int, str], SetScoreJob]] = {}
    params: dict[str, Mapping[str, Any]] = {}
    for row in plan.rows:
        if not row.fits:
            continue
        study = study_of(plan, row, places, trials)
        if (champion := champions.get(study.store.name)) is not None:
            wanted[row.name] = dict(_jobs(plan, row, study, champion))
            params[row.name] = champion.searched
    missing = _missing([job for jobs in wanted.values() for job in jobs.values()], places)
    if missing:
        with performer() as lanes:
            lanes.run_all(missing)
    tuned = {}
    for name, jobs in wanted.items():
        found = {key: read_scores(places.set_scores, job) for key, job in jobs.items()}
        tuned[name] = TunedRow({key: one for key, one in found.items() if one is not None}, params[name])
    return tuned


def _missing(jobs: Sequence[SetScoreJob], places: Places) -> dict[str, SetScoreJob]:
    return {job.name: job for job in jobs if read_scores(places.set_scores, job) is None}


def _jobs(
    plan: TablePlan, row: RowPlan, study: RunnableStudy, champion: StudyTrial
) -> Iterator[tuple[tuple[int, int, str], SetScoreJob]]:
    ledger = study.store.ledger
    for fold, record in enumerate(champion.records):
        masks = masks_of(row.configuration, record.spec, ledger)
        for test in plan.images:
            job = score_job(plan, row.row.reads, record.fit_id, ledger.fits.parent, masks, test, fold)
            yield (0, fold, test), job
