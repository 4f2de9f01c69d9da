"""YAML at the top of a card, as model hubs read it: https://huggingface.co/docs/hub/model-cards#model-card-metadata."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import yaml

from orchestrator.results.export.card.facts import DataFacts, ModelFacts
from orchestrator.results.views.score_lines import CROSS_VALIDATION, ScoreLine
from orchestrator.scoring.metrics import METRICS

TAGS = ("polyp-segmentation", "colonoscopy", "medical", "onnx", "research-only")


def front_matter(model: ModelFacts, data: Sequence[DataFacts], lines: Sequence[ScoreLine]) -> str:
    """YAML block between two lines of dashes; `lines`: scores for its model-index."""
    content: dict[str, Any] = {
        "license": "other",
        "license_name": "not-stated",
        "library_name": "onnx",
        "pipeline_tag": "image-segmentation",
        "tags": [*TAGS, model.network],
        "datasets": [one.name for one in data if one.role == "trained on"],
        "metrics": list(METRICS),
        "model-index": [
            {
                "name": f"{model.study}-trial-{model.trial}",
                "results": [_result(line) for line in lines if line.num_cases],
            }
        ],
    }
    return f"---\n{yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}---"


def _result(line: ScoreLine) -> dict[str, Any]:
    """Entry of the model-index: scores on one set of images, shares from 0 to 1."""
    split = "validation" if line.name in (CROSS_VALIDATION, "cross-validated") else "test"
    return {
        "task": {"type": "image-segmentation", "name": "polyp segmentation"},
        "dataset": {"name": line.name, "type": "polyp-images", "split": split},
        "metrics": [
            {"type": name, "value": round(float(value), 4), "name": name}
            for name, value in line.scores.items()
            if math.isfinite(value)
        ],
    }
