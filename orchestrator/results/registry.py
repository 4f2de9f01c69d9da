"""The champion in MLflow's model registry, where other programs find it as models:/NAME@champion."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import orchestrator
from orchestrator.errors import BadMachine, BadStudy
from orchestrator.results.card import what_it_says
from orchestrator.results.mlflow_client import check_uri, connect

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

ALIAS = "champion"
REQUIREMENTS = ("mlflow", "numpy", "onnxruntime", "opencv-python-headless", "pydantic")


def register_champion(
    bundle_folder: Path,
    *,
    tracking_uri: str,
    experiment: str,
    study_id: str,
    model_name: str,
    trial: int | None = None,
    tags: Mapping[str, str] | None = None,
) -> str:
    """Register a bundle under `model_name`, give it the alias "champion" and `tags`, and return its version.

    The model belongs to the run of the trial, or of the study where no trial is given; `study_id` tells the study
    from others of its name. The very same bundle, its card included, is registered once. BadStudy if the
    experiment has no such run, BadMachine if MLflow does not answer.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    check_uri(tracking_uri)
    try:
        return _register_champion(
            bundle_folder, tracking_uri, experiment, study_id, model_name, trial, tags or {}
        )
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise BadMachine(
            tracking_uri,
            f"MLflow did not take the model, {error}; the same command registers it once MLflow does",
        ) from error


def _register_champion(
    bundle_folder: Path,
    tracking_uri: str,
    experiment: str,
    study_id: str,
    model_name: str,
    trial: int | None,
    tags: Mapping[str, str],
) -> str:
    client = connect(tracking_uri)
    run = find_run(client, experiment, study_id, trial)
    digest = _digest(bundle_folder)
    _make_name(client, model_name)
    number = _registered(client, model_name, digest) or _register(
        client, run, bundle_folder, model_name, digest
    )
    for name, value in tags.items():
        client.set_model_version_tag(model_name, number, name, value)
    client.set_registered_model_alias(model_name, ALIAS, number)
    return number


def find_run(client: MlflowClient, experiment: str, study_id: str, trial: int | None) -> Run:
    """The run of a trial of a study, or of the study itself; others may have its name."""
    found = client.get_experiment_by_name(experiment)
    wanted = "tags.role = 'study'" if trial is None else f"tags.role = 'trial' and tags.trial = '{trial}'"
    of_study = f"{wanted} and tags.study_id = '{study_id}'"
    runs = client.search_runs([found.experiment_id], of_study) if found else []
    if not runs:
        what = "run of the study" if trial is None else f"run of trial {trial}"
        raise BadStudy(experiment, f"MLflow at {client.tracking_uri} holds no {what}; search first")
    return runs[0]


def _digest(bundle_folder: Path) -> str:
    """Of what a bundle is and of what its card says: a network that was scored since has another card."""
    config = (bundle_folder / "config.json").read_bytes()  # it holds the digests of the weights
    card = (bundle_folder / "model_card.md").read_text(encoding="utf-8")
    return hashlib.sha256(config + what_it_says(card).encode()).hexdigest()


def _register(client: MlflowClient, run: Run, bundle_folder: Path, model_name: str, digest: str) -> str:
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    logged = client.create_logged_model(
        run.info.experiment_id, name=model_name, source_run_id=run.info.run_id, params=run.data.params
    )
    model = Model(
        artifact_path=logged.artifact_location,
        model_uuid=logged.model_id,
        run_id=run.info.run_id,
        model_id=logged.model_id,
    )
    with _saved_model(bundle_folder, model) as folder:
        client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run.info.run_id, [LoggedModelOutput(logged.model_id, step=0)])
    created = client.create_model_version(
        model_name,
        logged.artifact_location,
        run_id=run.info.run_id,
        model_id=logged.model_id,
        tags={"bundle": digest},
    )
    return str(created.version)


@contextmanager
def _saved_model(bundle_folder: Path, model: object) -> Iterator[Path]:
    """The bundle as MLflow wants a model: code and files, nothing pickled."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    images = Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3), name=None)])
    masks = Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1), name=None)])
    with tempfile.TemporaryDirectory() as temporary:
        package = Path(temporary) / "orchestrator"
        source = Path(orchestrator.__path__[0])
        shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
        folder = Path(temporary) / "model"
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(source / "results" / "mlflow_model.py"),
            artifacts={"bundle": str(bundle_folder)},
            code_paths=[str(package)],
            signature=ModelSignature(images, masks),
            input_example=np.zeros((1, 8, 8, 3), np.uint8),
            pip_requirements=[_requirement(name) for name in REQUIREMENTS],
            mlflow_model=model,
        )
        yield folder


def _requirement(package: str) -> str:
    """With its version, where it is installed under that name: another build of OpenCV may be there instead."""
    try:
        return f"{package}=={version(package)}"
    except PackageNotFoundError:
        return package


def _make_name(client: MlflowClient, model_name: str) -> None:
    if not client.search_registered_models(f"name = '{model_name}'"):
        client.create_registered_model(model_name, description="Polyp segmentation: RGB images to masks")


def _registered(client: MlflowClient, model_name: str, digest: str) -> str | None:
    versions = client.search_model_versions(f"name = '{model_name}'")
    return next((str(found.version) for found in versions if found.tags.get("bundle") == digest), None)
