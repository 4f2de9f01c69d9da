"""A bundle as an MLflow pyfunc model. MLflow stores this file and runs it where the model is loaded.

A copy of the orchestrator package travels beside it, so nothing of ours needs to be installed there: only
MLflow, ONNX and its runtime, NumPy, OpenCV, safetensors and pydantic.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from orchestrator.results.export.bundle import Bundle


class PolypSegmentation(PythonModel):
    """RGB images to masks."""

    def load_context(self, context: PythonModelContext) -> None:
        self.bundle = Bundle.load(Path(context.artifacts["bundle"]))

    # Plain np.ndarray, for MLflow takes hints for schemas and warns of those that say more.
    def predict(
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        """RGB uint8 (B, H, W, 3) -> masks uint8 (B, H, W), 1 on polyps."""
        return np.stack([self.bundle.predict(image)[1] for image in model_input]).astype(np.uint8)


set_model(PolypSegmentation())
