from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from orchestrator.errors import BadBundle
from orchestrator.results.bundle import Bundle


def test_all_problems_are_told_at_once(bundle_folder: Path):
    (bundle_folder / "model_card.md").unlink()
    (bundle_folder / "model.safetensors").unlink()
    (bundle_folder / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(BadBundle) as caught:
        Bundle.load(bundle_folder)
    assert [problem.split(":")[0] for problem in caught.value.problems[:3]] == [
        "model.safetensors",
        "model_card.md",
        "model.onnx",
    ]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(BadBundle, match="no such folder"):
        Bundle.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("threshold", 0.3),
        ("image_size", "big"),
        ("format_version", 2),
        ("post_processing", "magic"),
        ("post_processing", {"magic": 1}),
        ("sha256", {}),
    ],
)
def test_a_config_that_cannot_be_followed_is_refused_by_key(bundle_folder: Path, key: str, value: object):
    path = bundle_folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(BadBundle, match=f"config.json: {key}"):
        Bundle.load(bundle_folder)


def test_a_config_that_is_not_json_is_refused(bundle_folder: Path):
    (bundle_folder / "config.json").write_text("{")
    with pytest.raises(BadBundle, match=r"config\.json: Invalid JSON"):
        Bundle.load(bundle_folder)


def test_rules_besides_the_threshold_are_read_and_kept_in_bounds(bundle_folder: Path, photo: np.ndarray):
    path = bundle_folder / "config.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"post_processing": {"reference_area": 0.99}}))
    assert not Bundle.load(bundle_folder).predict(photo)[1].any()
    path.write_text(json.dumps(stored | {"post_processing": {"reference_area": 2}}))
    with pytest.raises(BadBundle, match=r"config\.json: reference_area must be a share"):
        Bundle.load(bundle_folder)


@pytest.mark.parametrize("image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)])
def test_only_rgb_bytes_are_images(exported: Path, image: np.ndarray):
    with pytest.raises(ValueError, match="expected RGB uint8"):
        Bundle.load(exported).predict(image)


def test_extreme_logits_become_probabilities_of_zero_and_one(exported: Path):
    probability, _ = Bundle.load(exported).predict(np.full((4, 4, 3), 255, np.uint8))
    assert ((probability >= 0) & (probability <= 1)).all()


def test_loading_and_predicting_needs_no_torch(exported: Path):
    program = (
        "import sys, numpy, pathlib; from orchestrator.results.bundle import Bundle;"
        f"Bundle.load(pathlib.Path({str(exported)!r})).predict(numpy.zeros((9, 7, 3), numpy.uint8));"
        "assert not {'torch', 'mlflow', 'ray', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
