"""The champion in MLflow's model registry, where other programs find it as models:/NAME@champion."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import orchestrator
from orchestrator.results.export.exported_network import Network
from orchestrator.results.export.model_card import what_it_says
from orchestrator.results.mlflow.client import connect
from orchestrator.results.mlflow.network_run import answering
from orchestrator.results.mlflow.runs.run_log import MAX_DIGEST, apart

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

ALIAS = "champion"
REQUIREMENTS = (
    *("mlflow", "numpy", "onnx", "onnxruntime", "opencv-python-headless"),
    *("pillow", "pydantic", "safetensors", "tifffile"),
)
# One black pixel, as an example of what a server takes.
BLACK_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGAAAAAEAAH2FzhVAAAAAElFTkSuQmCC"
MAX_DESCRIPTION = 5000  # characters, of MLflow


@dataclass(frozen=True)
class Registered:
    """A registered bundle, and the version that the alias `champion` points to."""

    version: str
    name: str  # "refit of trial 4"
    before: str | None  # what the alias pointed to, "version 1 (refit of trial 4)"; None: to nothing
    moved: bool  # whether it points to this version now
    reason: str

    def sentence(self, model_name: str) -> str:
        """Sentence that says which version was registered and which one models:/NAME@champion points to."""
        registered = f"in MLflow models:/{model_name}, version {self.version} ({self.name}); @{ALIAS} "
        if not self.moved:
            return f"{registered}stays with {self.before or 'nobody'}, because {self.reason}: --champion moves it"
        return f"{registered}moved to it from {self.before}" if self.before else f"{registered}stands for it"


def register_champion(
    bundle_folder: Path,
    *,
    tracking_uri: str,
    study: str,
    study_id: str,
    network: Network,
    run_id: str,
    description: str = "",
    tags: Mapping[str, str] | None = None,
    move: bool | None = None,
    is_chosen: bool = True,
) -> Registered:
    """Register the bundle of a network under the name of its study, as a model of the run `run_id`.

    The very same bundle, its card included, is registered once. Its version has `tags` and says which study, trial and
    network it is; `description` is Markdown. The logged model has the network's scores.

    `move`: whether the alias "champion" moves to it; None: where nobody has the alias, or a network of the same kind
    of the same study, and the study itself chose this trial (`is_chosen`). BadMachine if MLflow does not answer.
    """
    with answering(tracking_uri):
        client = connect(tracking_uri)
        digest = _digest(bundle_folder)
        _make_name(client, study)
        number = _registered(client, study, digest, run_id) or _register(
            client, run_id, network, bundle_folder, study, digest
        )
        named = _tags(study, study_id, network) | dict(tags or {})
        for name, value in named.items():
            client.set_model_version_tag(study, number, name, value)
        client.update_model_version(study, number, description[:MAX_DESCRIPTION])
        _link(client, study, number)
        before = client.get_registered_model(study).aliases.get(ALIAS)
        holder = None if before is None else client.get_model_version(study, before)
        move, reason = (
            (move, "--no-champion was given") if move is not None else _moves(holder, named, is_chosen)
        )
        if move:
            client.set_registered_model_alias(study, ALIAS, number)
        is_held = holder is not None and str(holder.version) == number
        was = None if holder is None or is_held else _named(holder)
        return Registered(number, network.name, was, bool(move) or is_held, reason)


def _tags(study: str, study_id: str, network: Network) -> dict[str, str]:
    """The tags of a version: study, trial and network."""
    which = {
        "refit": network.fit_id,
        "fold": network.training[0].label,
        "ensemble": ", ".join(one.label for one in network.training),
    }
    return {
        "study": study,
        "study_id": study_id,
        "trial": str(network.trial),
        "kind": network.kind,
        "network": network.name,
        "fit_id": network.fit_id,
        network.kind: which[network.kind],
    }


def _moves(holder: ModelVersion | None, named: Mapping[str, str], is_chosen: bool) -> tuple[bool, str]:
    """Whether the alias moves where nothing was asked for, and the reason if it does not."""
    if holder is None:
        return True, ""
    if holder.tags.get("study_id") != named["study_id"]:
        return False, "that is of another study of this name, or of an earlier version of this program"
    if holder.tags.get("kind") != named["kind"]:
        return False, "that is a network of another kind"
    return is_chosen, "" if is_chosen else "the study did not choose this trial"


def _named(holder: ModelVersion) -> str:
    return f"version {holder.version} ({holder.tags.get('network', 'of an unknown kind')})"


def _link(client: MlflowClient, model_name: str, number: str) -> None:
    """Tag the logged model with its version, as `mlflow.register_model` does: MLflow shows it as registered then."""
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

    model_id = logged_model_of(client.get_model_version(model_name, number))
    if model_id is None:
        return
    known = json.loads(client.get_logged_model(model_id).tags.get(MLFLOW_MODEL_VERSIONS, "[]"))
    own = {"name": model_name, "version": int(number)}
    if own not in known:
        client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: json.dumps([*known, own])})


def _digest(bundle_folder: Path) -> str:
    """SHA-256 of the files of a bundle, its card included: a network that was scored since has another card."""
    config = (bundle_folder / "config.json").read_bytes()  # it holds the digests of the weights
    card = (bundle_folder / "model_card.md").read_text(encoding="utf-8")
    return hashlib.sha256(config + what_it_says(card).encode()).hexdigest()


def logged_model_of(version: ModelVersion) -> str | None:
    """The id of the logged model that a version was made of, from its source URI: MLflow's databases keep no other."""
    found = re.search(r"\bm-[0-9a-f]{32}\b", version.source or "")
    return version.model_id or (found.group() if found else None)


def _register(
    client: MlflowClient, run_id: str, network: Network, bundle_folder: Path, model_name: str, digest: str
) -> str:
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    run = client.get_run(run_id)
    logged = client.create_logged_model(
        run.info.experiment_id,
        name=model_name,
        source_run_id=run_id,
        tags={"network": network.name},
        params=run.data.params,
    )
    model = Model(
        artifact_path=logged.artifact_location,
        model_uuid=logged.model_id,
        run_id=run_id,
        model_id=logged.model_id,
    )
    with _saved_model(bundle_folder, model) as folder:
        client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    _log_scores(client, run_id, logged.model_id, network)
    created = client.create_model_version(
        model_name,
        logged.artifact_location,
        run_id=run_id,
        model_id=logged.model_id,
        tags={"bundle": digest},
    )
    return str(created.version)


def _log_scores(client: MlflowClient, run_id: str, model_id: str, network: Network) -> None:
    """Log the scores of the run for the model as well, each with the dataset that it was measured on."""
    from mlflow.entities import Metric

    metrics, params = [], client.get_run(run_id).data.params
    for name, value in network.metrics.items():
        dataset, fingerprint = network.of_dataset.get(name, (None, None))
        name = apart(name, params)
        metrics.append(
            Metric(
                name,
                value,
                # The same point of the run, not another one.
                timestamp=client.get_metric_history(run_id, name)[-1].timestamp,
                step=0,
                model_id=model_id,
                dataset_name=dataset,
                dataset_digest=fingerprint[:MAX_DIGEST] if fingerprint else None,
                run_id=run_id,
            )
        )
    client.log_batch(run_id, metrics=metrics)


@contextmanager
def _saved_model(bundle_folder: Path, model: object) -> Iterator[Path]:
    """Write the bundle as an MLflow model: code and files, nothing pickled."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import DataType, ParamSchema, ParamSpec

    # No schema of inputs: images come as arrays or as files, and MLflow's schemas know one form alone.
    answer = ParamSchema([ParamSpec("answer", DataType.string, "auto")])
    with tempfile.TemporaryDirectory() as temporary:
        package = Path(temporary) / "orchestrator"
        source = Path(orchestrator.__path__[0])
        shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
        folder = Path(temporary) / "model"
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(source / "results" / "mlflow" / "pyfunc.py"),
            artifacts={"bundle": str(bundle_folder)},
            code_paths=[str(package)],
            signature=ModelSignature(params=answer),
            input_example=[BLACK_PNG],
            pip_requirements=[_requirement(name) for name in REQUIREMENTS],
            mlflow_model=model,
        )
        yield folder


def _requirement(package: str) -> str:
    """Requirement of a package, with its version where it is installed: OpenCV may be another build."""
    try:
        return f"{package}=={version(package)}"
    except PackageNotFoundError:
        return package


def _make_name(client: MlflowClient, model_name: str) -> None:
    if not client.search_registered_models(f"name = '{model_name}'"):
        client.create_registered_model(model_name, description="Polyp segmentation: RGB images to masks")


def _registered(client: MlflowClient, model_name: str, digest: str, run_id: str) -> str | None:
    """Version of this bundle of this run; earlier versions of the program gave some to another run."""
    versions = client.search_model_versions(f"name = '{model_name}'")
    same = (one for one in versions if one.tags.get("bundle") == digest and one.run_id == run_id)
    return next((str(found.version) for found in same), None)
