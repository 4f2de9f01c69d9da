"""The registered model behind `mlflow models serve`: image files in, masks out, over HTTP."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

from orchestrator.results.export.bundle import ExportedModel
from orchestrator.results.mlflow.client import connect
from orchestrator.results.mlflow.model_registry import _saved_model


@pytest.fixture(scope="module")
def saved(mlflow_uri: str, exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle as an MLflow model."""
    connect(mlflow_uri)  # says which warnings of MLflow about itself are no news
    from mlflow.models import Model

    with _saved_model(exported, Model()) as folder:
        return Path(folder.rename(tmp_path_factory.mktemp("served") / "model"))


@pytest.fixture(scope="module")
def model(saved: Path) -> Any:
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(str(saved))


def file_of(image: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


def text_of(image: np.ndarray, kind: str = "PNG") -> str:
    return base64.b64encode(file_of(image, kind)).decode()


def mask_of(answer: dict[str, Any]) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(base64.b64decode(answer["mask"]))))


def mask_of_runs(answer: dict[str, Any]) -> np.ndarray:
    height, width = answer["mask"]["size"]
    counts = answer["mask"]["counts"]
    flat = np.repeat(np.arange(len(counts)) % 2, counts)
    return flat.reshape(width, height).T


def test_files_of_several_kinds_and_sizes_are_answered_with_masks(model, exported: Path, photo: np.ndarray):
    images = [photo, photo[:30], 255 - photo]
    texts = [text_of(image, kind) for image, kind in zip(images, ("PNG", "TIFF", "BMP"), strict=True)]
    expected = [ExportedModel.load(exported).predict(image)[1] for image in images]
    for given in (texts, {"image": texts}, {"b64": np.array(texts)}, pd.DataFrame({"image": texts})):
        for answer, mask in zip(model.predict(given), expected, strict=True):
            np.testing.assert_array_equal(mask_of(answer), mask * np.uint8(255))
            assert (answer["height"], answer["width"]) == mask.shape
            assert answer["polyp_fraction"] == pytest.approx(mask.mean())


def test_runs_are_those_of_the_columns(model, exported: Path, photo: np.ndarray):
    (answer,) = model.predict([text_of(photo)], params={"answer": "rle"})
    np.testing.assert_array_equal(mask_of_runs(answer), ExportedModel.load(exported).predict(photo)[1])


def test_nested_lists_are_images_as_well(model, exported: Path, photo: np.ndarray):
    masks = model.predict(np.stack([photo]).astype(np.int64))
    np.testing.assert_array_equal(masks[0], ExportedModel.load(exported).predict(photo)[1])


@pytest.mark.parametrize(
    ("given", "params", "said"),
    [
        (["%%%", "aGVsbG8="], {}, "image 0: expected a file in base64.*; image 1: does not decode"),
        (np.zeros((4, 4, 3), int), {}, "expected images as arrays"),
        (np.full((1, 4, 4, 3), 300), {}, "from 300 to 300"),
        ({"picture": ["x"]}, {}, "expected one column, image or b64, found picture"),
        (np.zeros((1, 4, 4, 3), int), {"answer": "jpeg"}, "expected auto, png, rle, array, found 'jpeg'"),
    ],
)
def test_what_is_no_image_is_refused_in_words(model, given, params, said: str):
    with pytest.raises(MlflowException, match=said):
        model.predict(given, params=params)


@pytest.fixture
def server(saved: Path, tmp_path: Path) -> Iterator[str]:
    """The URL of `mlflow models serve`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["models", "serve", "-m", str(saved), "--env-manager", "local", "--port", str(port)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words],
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        for _ in range(600):
            assert process.poll() is None, (tmp_path / "log").read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def asked(url: str, **body: Any) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["predictions"]


@pytest.mark.slow
def test_a_server_takes_an_image_file_and_answers_with_a_png_or_runs(
    server: str, exported: Path, photo: np.ndarray
):
    expected = ExportedModel.load(exported).predict(photo)[1]
    for body in (
        {"inputs": [text_of(photo)]},
        {"instances": [{"b64": text_of(photo)}]},
        {"dataframe_records": [{"image": text_of(photo)}]},
    ):
        (answer,) = asked(server, **body)
        np.testing.assert_array_equal(mask_of(answer), expected * np.uint8(255))
    (answer,) = asked(server, inputs=[text_of(photo)], params={"answer": "rle"})
    np.testing.assert_array_equal(mask_of_runs(answer), expected)
    (mask,) = asked(server, inputs=photo[None].tolist())
    np.testing.assert_array_equal(mask, expected)
    with pytest.raises(urllib.error.HTTPError) as refused:
        asked(server, inputs=["%%%"])
    assert refused.value.code == 400 and "expected a file in base64" in refused.value.read().decode()
