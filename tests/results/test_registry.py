from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from orchestrator.errors import BadMachine, BadStudy
from orchestrator.results.bundle import Bundle
from orchestrator.results.mlflow_client import connect
from orchestrator.results.registry import register_champion

MODEL, STUDY = "polyp-tiny", "ours"


@pytest.fixture(scope="module")
def version(mlflow_uri: str, exported: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The version of a bundle that was registered for trial 3 of a study."""
    client = connect(mlflow_uri)
    experiment = client.create_experiment("registry", str(tmp_path_factory.mktemp("artifacts")))
    for study_id in (STUDY, "another"):  # of that name
        client.create_run(experiment, tags={"role": "trial", "trial": "3", "study_id": study_id})
    return register(mlflow_uri, exported)


def register(uri: str, bundle: Path, trial: int | None = 3, study_id: str = STUDY) -> str:
    return register_champion(
        bundle,
        tracking_uri=uri,
        experiment="registry",
        study_id=study_id,
        model_name=MODEL,
        trial=trial,
    )


def test_a_server_that_does_not_answer_is_told_with_what_to_do(
    exported: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(BadMachine, match=r"did not take the model.*the same command registers it"):
        register("http://127.0.0.1:9", exported)


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
    bundle = Bundle.load(exported)
    np.testing.assert_array_equal(masks, np.stack([bundle.predict(image)[1] for image in batch]))


def test_the_same_bundle_is_registered_once(mlflow_uri: str, exported: Path, version: str):
    assert register(mlflow_uri, exported) == version
    assert connect(mlflow_uri).get_model_version_by_alias(MODEL, "champion").version == int(version)


def test_the_model_is_known_to_its_trial_and_holds_nothing_pickled(mlflow_uri: str, version: str):
    client = connect(mlflow_uri)
    found = client.get_model_version_by_alias(MODEL, "champion")
    tags = client.get_run(found.run_id).data.tags
    assert (tags["trial"], tags["study_id"]) == ("3", STUDY)
    suffixes = {path.suffix for path in Path(found.source).rglob("*")}
    assert ".onnx" in suffixes and not suffixes & {".pkl", ".pickle", ".pt", ".pth"}


def test_a_changed_bundle_is_a_new_version_and_takes_the_alias(
    mlflow_uri: str, bundle_folder: Path, version: str
):
    config = bundle_folder / "config.json"
    config.write_text(config.read_text().replace('"width": 4', '"width": 5'))
    assert int(register(mlflow_uri, bundle_folder)) == int(version) + 1
    assert connect(mlflow_uri).get_model_version_by_alias(MODEL, "champion").version == int(version) + 1


def test_a_card_that_says_more_is_a_new_version(mlflow_uri: str, bundle_folder: Path, version: str):
    card = bundle_folder / "model_card.md"
    card.write_text("# Tiny\n\nIt was not scored yet.\n")
    before = register(mlflow_uri, bundle_folder)
    card.write_text("# Tiny\n\nScored once, after the search.\n")
    assert int(register(mlflow_uri, bundle_folder)) == int(before) + 1
    found = connect(mlflow_uri).get_model_version_by_alias(MODEL, "champion")
    (stored,) = Path(found.source).rglob("model_card.md")
    assert "Scored once" in stored.read_text()


def test_a_trial_that_mlflow_does_not_know_is_refused(mlflow_uri: str, exported: Path, version: str):
    with pytest.raises(BadStudy, match="no run of trial 7"):
        register(mlflow_uri, exported, trial=7)
    with pytest.raises(BadStudy, match="no run of trial 3"):
        register(mlflow_uri, exported, study_id="a third")
