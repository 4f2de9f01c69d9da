"""An evaluation of an exported model as a run in its study's experiment: scores, the data, the files."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.common.errors import BadBundle, BadStudy
from orchestrator.data.cases import Dataset
from orchestrator.results.export.bundle import BundleConfig
from orchestrator.results.export.formats.names import FACTS, MADE
from orchestrator.results.mlflow.client import connect
from orchestrator.results.mlflow.network_run import answering
from orchestrator.results.mlflow.runs.run_log import MAX_DIGEST

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput


@dataclass(frozen=True)
class Origin:
    """Study and trial of an export."""

    study: str
    trial: str


def origin_of(bundle: Path) -> Origin:
    """Study and trial of an export. `BadBundle` for one of an earlier version, which did not store them."""
    path = bundle / FACTS
    made = json.loads(path.read_text(encoding="utf-8")).get(MADE, {}) if path.is_file() else {}
    if not {"study", "trial"} <= made.keys():
        raise BadBundle(
            str(bundle), f"--log needs the study in {FACTS}, which this export lacks; export the model again"
        )
    return Origin(str(made["study"]), str(made["trial"]))


def log_evaluation(
    uri: str,
    origin: Origin,
    config: BundleConfig,
    datasets: Sequence[Dataset],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    files: Sequence[Path],
) -> str:
    """Write the run of an evaluation; returns its id. Repeated for a network and data, it updates their run.

    Raises `BadStudy` where MLflow has no experiment of the study, `BadMachine` where it does not answer.
    """
    with answering(uri):
        client = connect(uri)
        experiment = client.get_experiment_by_name(origin.study)
        if experiment is None:
            raise BadStudy(
                origin.study, f"MLflow at {uri} has no experiment of it; `orchestrator sync` writes it"
            )
        names = " and ".join(one.name for one in datasets)
        key = _key(config, datasets)
        found = client.search_runs([experiment.experiment_id], f"tags.evaluation = '{key}'")
        run = (
            found[0]
            if found
            else client.create_run(
                experiment.experiment_id,
                run_name=f"evaluation of trial {origin.trial} on {names}",
                tags={"role": "evaluation", "evaluation": key, "trial": origin.trial},
            )
        )
        run_id = run.info.run_id
        if not found:
            client.log_inputs(run_id, datasets=_inputs(datasets))
        for name, tag in tags.items():
            client.set_tag(run_id, name, tag)
        at = int(time.time() * 1000)
        for name, value in metrics.items():
            client.log_metric(run_id, name, value, timestamp=at, step=0)
        for file in files:
            client.log_artifact(run_id, str(file))
        client.set_terminated(run_id)
        return str(run_id)


def _key(config: BundleConfig, datasets: Sequence[Dataset]) -> str:
    """A key for a network and the data that it was scored on."""
    parts = [config.sha256["model.safetensors"], *sorted(one.fingerprint for one in datasets)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _inputs(datasets: Sequence[Dataset]) -> list[DatasetInput]:
    from mlflow.entities import Dataset as Input
    from mlflow.entities import DatasetInput, InputTag

    return [
        DatasetInput(
            Input(
                one.name,
                one.fingerprint[:MAX_DIGEST],
                source_type="orchestrator",
                source=json.dumps({"dataset": one.name, "fingerprint": one.fingerprint}),
                profile=json.dumps({"num_cases": len(one.cases)}),
            ),
            tags=[InputTag("mlflow.data.context", "evaluation")],
        )
        for one in datasets
    ]
