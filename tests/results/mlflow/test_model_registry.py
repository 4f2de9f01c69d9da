from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.common.errors import BadMachine, BadStudy
from orchestrator.results.export.bundle import ExportedModel
from orchestrator.results.export.card.facts import TrainingFacts
from orchestrator.results.export.exported_network import Network
from orchestrator.results.mlflow.client import connect
from orchestrator.results.mlflow.model_registry import Registered, register_champion
from orchestrator.results.mlflow.network_run import find_run

MODEL, STUDY = "polyp-tiny", "ours"


@pytest.fixture(scope="module")
def run_id(mlflow_uri: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The run of a fold."""
    client = connect(mlflow_uri)
    experiment = client.create_experiment("registry", str(tmp_path_factory.mktemp("artifacts")))
    run = client.create_run(experiment, tags={"role": "fold", "trial": "3", "study_id": STUDY})
    client.log_metric(run.info.run_id, "test_dice", 0.5, step=0)
    return run.info.run_id


@pytest.fixture(scope="module")
def version(mlflow_uri: str, exported: Path, run_id: str) -> str:
    """The version of a bundle that was registered for that fold."""
    return register(mlflow_uri, exported, run_id).version


FOLD = Network(
    kind="fold",
    trial=3,
    fit_id="f" * 20,
    name="network of fold 2 of trial 3",
    records=(),
    training=(TrainingFacts("fold 2", 80, 20, 5, 4, 5, {}),),
    params={},
    metrics={"test_dice": 0.5},
    datasets=(),
    of_dataset={"test_dice": ("near", "0" * 32)},
)
REFIT = replace(FOLD, kind="refit", fit_id="e" * 20, name="refit of trial 3")


def register(uri: str, bundle: Path, run_id: str, network: Network = FOLD, **words: Any) -> Registered:
    return register_champion(
        bundle, tracking_uri=uri, study=MODEL, network=network, run_id=run_id, **{"study_id": STUDY} | words
    )


def test_a_server_that_does_not_answer_is_reported_with_what_to_do(
    exported: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(BadMachine, match=r"did not accept what was logged.*run the same command again"):
        register("http://127.0.0.1:9", exported, "none")


@pytest.mark.slow
def test_another_program_gets_the_masks_of_the_bundle_without_our_package(
    mlflow_uri: str, exported: Path, version: str, photo: np.ndarray, tmp_path: Path
):
    batch = np.stack([photo, photo[::-1], 255 - photo])
    np.save(tmp_path / "batch.npy", batch)
    program = f"""
import sys, numpy, mlflow
sys.path[:] = [entry for entry in sys.path if "__editable__" not in entry]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in str(finder).lower()]
model = mlflow.pyfunc.load_model("models:/{MODEL}@champion")
numpy.save("masks.npy", model.predict(numpy.load("batch.npy")))
assert "torch" not in sys.modules, "torch was imported"
print(sys.modules["orchestrator"].__file__)
"""
    environment = {
        "PATH": os.environ["PATH"],
        "MLFLOW_TRACKING_URI": mlflow_uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "/code/orchestrator/" in done.stdout
    masks = np.load(tmp_path / "masks.npy")
    assert masks.dtype == np.uint8 and masks.max() == 1
    bundle = ExportedModel.load(exported)
    np.testing.assert_array_equal(masks, np.stack([bundle.predict(image)[1] for image in batch]))


def test_the_same_bundle_is_registered_once(mlflow_uri: str, exported: Path, run_id: str, version: str):
    assert register(mlflow_uri, exported, run_id).version == version
    assert connect(mlflow_uri).get_model_version_by_alias(MODEL, "champion").version == int(version)


def test_the_model_is_known_to_its_trial_and_holds_nothing_pickled(mlflow_uri: str, version: str):
    client = connect(mlflow_uri)
    found = client.get_model_version_by_alias(MODEL, "champion")
    tags = client.get_run(found.run_id).data.tags
    assert (tags["trial"], tags["study_id"]) == ("3", STUDY)
    suffixes = {path.suffix for path in Path(found.source).rglob("*")}
    assert ".onnx" in suffixes and not suffixes & {".pkl", ".pickle", ".pt", ".pth"}


def test_a_changed_bundle_is_a_new_version_and_takes_the_alias(
    mlflow_uri: str, bundle_folder: Path, run_id: str, version: str
):
    config = bundle_folder / "config.json"
    config.write_text(config.read_text().replace('"width": 4', '"width": 5'))
    assert int(register(mlflow_uri, bundle_folder, run_id).version) == int(version) + 1
    assert connect(mlflow_uri).get_model_version_by_alias(MODEL, "champion").version == int(version) + 1


def test_a_card_that_says_more_is_a_new_version(
    mlflow_uri: str, bundle_folder: Path, run_id: str, version: str
):
    card = bundle_folder / "model_card.md"
    card.write_text("# Tiny\n\nIt was not scored yet.\n")
    before = register(mlflow_uri, bundle_folder, run_id).version
    card.write_text("# Tiny\n\nScored once, after the search.\n")
    assert int(register(mlflow_uri, bundle_folder, run_id).version) == int(before) + 1
    found = connect(mlflow_uri).get_model_version_by_alias(MODEL, "champion")
    (stored,) = Path(found.source).rglob("model_card.md")
    assert "Scored once" in stored.read_text()


def test_a_trial_that_mlflow_does_not_know_is_refused(mlflow_uri: str, run_id: str):
    client = connect(mlflow_uri)
    for trial, study_id in ((7, STUDY), (3, "a third")):
        with pytest.raises(BadStudy, match=f"no run of trial {trial}"):
            find_run(client, "registry", study_id, trial)


@pytest.mark.slow
def test_the_alias_moves_by_itself_to_the_same_kind_of_the_same_study_alone(
    mlflow_uri: str, bundle_folder: Path, run_id: str, version: str
):
    def again(network: Network = FOLD, **words: Any) -> Registered:
        card.write_text(f"{card.read_text()}\n{network.kind} {words}\n")
        return register(mlflow_uri, bundle_folder, run_id, network, **words)

    card = bundle_folder / "model_card.md"
    assert again().moved, "a newer export of the same kind"
    stays = again(REFIT)
    assert (
        not stays.moved
        and "(network of fold 2 of trial 3), because that is a network of another kind"
        in (stays.sentence(MODEL))
    )
    assert not again(study_id="another").moved and not again(is_chosen=False).moved
    asked = again(REFIT, move=True)
    assert asked.moved and "@champion moved to it from version" in asked.sentence(MODEL)
    assert int(asked.version) == connect(mlflow_uri).get_model_version_by_alias(MODEL, "champion").version
