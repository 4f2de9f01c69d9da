"""Lanes for the jobs of tables, and searches for rows, on all GPUs of the machine or of the cluster."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import ray

from orchestrator.common.display import Display
from orchestrator.protocols.run import Performer
from orchestrator.protocols.work import Places, TableWork
from orchestrator.ray_cluster.machine import Machine, cluster, shape_lanes
from orchestrator.results.mlflow.sink import MlflowSink
from orchestrator.results.sinks.console import ConsoleSink
from orchestrator.results.sinks.csv_files import CsvSink
from orchestrator.search.fit_jobs import FitJobRunner
from orchestrator.search.store.trials import StudyTrial
from orchestrator.study.run import run_study
from orchestrator.study.runnable_study import RunnableStudy
from orchestrator.training.ray.lanes import Lanes


def lanes_of(machine: Machine, places: Places) -> Callable[[], AbstractContextManager[Performer]]:
    """Function that opens a context with lanes of this machine for jobs; Ray starts when it is entered."""

    @contextmanager
    def performer() -> Iterator[Performer]:
        with cluster(machine):
            shape, train = shape_lanes(ray.nodes(), machine), places.folder / "train"
            with Lanes(TableWork(places), shape, train, machine.num_lanes or math.inf) as lanes:
                yield lanes
        shutil.rmtree(train, ignore_errors=True)  # of Ray Train alone, which does not tidy up

    return performer


def search_of(
    machine: Machine, display: Display
) -> Callable[[RunnableStudy, FitJobRunner], StudyTrial | None]:
    """Function that runs a study as `orchestrator search` does, with MLflow and CSV; returns the champion."""

    def search(study: RunnableStudy, work: FitJobRunner) -> StudyTrial | None:
        with display.view() as (say, show):
            store = study.store
            sinks = [ConsoleSink(store, say=say, show=show), MlflowSink(store, None), CsvSink(store)]
            return run_study(study, machine, work, sinks)

    return search
