"""A bundle as an MLflow pyfunc model. MLflow stores this file and runs it where the model is loaded.

A copy of the orchestrator package is stored with it, so nothing of ours needs to be installed there: only MLflow, ONNX
and its runtime, NumPy, OpenCV, Pillow, tifffile, safetensors and pydantic.

Images come as arrays, uint8 (B, H, W, 3), or as the bytes of image files in base64: a list of strings, or a column
`image` or `b64` of a table. Answers to arrays are arrays; to files, one {"mask", "height", "width", "polyp_fraction"}
each, upright, where the mask is a PNG of 0 and 255 in base64, or with params {"answer": "rle"} run lengths by columns.
"""

from __future__ import annotations

import base64
import binascii
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext

from orchestrator.common.errors import BadData
from orchestrator.data.images import read_image, refuse_animated
from orchestrator.results.export.bundle import ExportedModel

COLUMNS = ("image", "b64")
ANSWERS = ("auto", "png", "rle", "array")
TIFF = (b"II*\0", b"MM\0*")
EXPECTED = "expected images as arrays (B, H, W, 3) of whole numbers from 0 to 255, or files in base64"


class PolypSegmentation(PythonModel):
    """MLflow model from RGB images to masks."""

    def load_context(self, context: PythonModelContext) -> None:
        self.bundle = ExportedModel.load(Path(context.artifacts["bundle"]))

    # MLflow makes schemas of hints and warns of their absence; of np.ndarray it makes none. Lists and tables come, too.
    def predict(
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> Any:
        """Arrays -> uint8 (B, H, W), 1 on polyps; files -> a dict each, as the module says.

        MlflowException, which a server answers with status 400, names every image that does not decode.
        """
        answer = str((params or {}).get("answer", "auto"))
        if answer not in ANSWERS:
            raise refused(f"answer: expected {', '.join(ANSWERS)}, found {answer!r}")
        images = images_of(model_input)
        masks = [self.bundle.predict(image)[1] for image in images]
        if answer == "array" or (answer == "auto" and isinstance(images, np.ndarray)):
            if len({mask.shape for mask in masks}) > 1:
                raise refused("answer: masks of several sizes do not make one array; ask for png or rle")
            return np.stack(masks).astype(np.uint8)
        return [described(mask, as_runs=answer == "rle") for mask in masks]


def images_of(model_input: Any) -> np.ndarray | list[np.ndarray]:
    """RGB uint8, as one array (B, H, W, 3) or of several sizes. Raises `MlflowException` with every problem."""
    if hasattr(model_input, "columns"):  # a table of pandas
        model_input = {name: list(model_input[name]) for name in model_input.columns}
    if isinstance(model_input, Mapping):
        named = [name for name in COLUMNS if name in model_input]
        if len(named) != 1 or len(model_input) != 1:
            raise refused(f"expected one column, image or b64, found {', '.join(map(str, model_input))}")
        model_input = model_input[named[0]]
    values = np.asarray(model_input)
    if values.dtype.kind in "USO":
        return decoded(values.ravel().tolist())
    if values.dtype.kind not in "iu" or values.ndim != 4 or values.shape[3] != 3 or not values.size:
        raise refused(f"{EXPECTED}, found {values.dtype} {values.shape}")
    if values.min() < 0 or values.max() > 255:
        raise refused(f"{EXPECTED}, found numbers from {values.min()} to {values.max()}")
    return values.astype(np.uint8)


def decoded(files: Sequence[str | bytes]) -> list[np.ndarray]:
    """Image files, as bytes or in base64 -> RGB uint8 (H, W, 3), upright. Raises `MlflowException`."""
    images, problems = [], []
    for number, file in enumerate(files):
        try:
            content = base64.b64decode(file, validate=True) if isinstance(file, str) else bytes(file)
            images.append(_read(content))
        except (binascii.Error, ValueError, TypeError):
            problems.append(f"image {number}: expected a file in base64, found other text")
        except BadData as bad:
            problems += [f"image {number}: {problem}" for problem in bad.problems]
    if problems:
        raise refused("; ".join(problems))
    return images


def _read(content: bytes) -> np.ndarray:
    """Image RGB uint8 (H, W, 3) from the bytes of a file, by a temporary file with the format's suffix."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("image.tif" if content[:4] in TIFF else "image.png")
        path.write_bytes(content)
        refuse_animated(path)
        return read_image(path)


def described(mask: np.ndarray, *, as_runs: bool) -> dict[str, Any]:
    """Mask bool (H, W) -> answer on one image: mask as PNG or runs, height, width and polyp fraction."""
    height, width = mask.shape
    _, png = cv2.imencode(".png", mask.astype(np.uint8) * 255)
    return {
        "mask": runs(mask) if as_runs else base64.b64encode(png.tobytes()).decode("ascii"),
        "height": height,
        "width": width,
        "polyp_fraction": float(mask.mean()),
    }


def runs(mask: np.ndarray) -> dict[str, list[int]]:
    """bool (H, W) -> lengths of runs down the columns, the first of 0, as COCO's uncompressed RLE counts them."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], edges, [mask.size]]))
    return {"size": list(mask.shape), "counts": counts.tolist()}


def refused(problem: str) -> MlflowException:
    """The exception that makes MLflow's server answer with status 400."""
    return MlflowException(problem, error_code=INVALID_PARAMETER_VALUE)


set_model(PolypSegmentation())
