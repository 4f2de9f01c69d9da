"""Labels of masks, as nnU-Net's dataset.json states them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = "dataset.json"
NO_POLYP = {"background", "ignore"}


def stated_labels(path: Path) -> tuple[str, ...]:
    """Labels that are not background, as for --mask-classes: polyp=1; empty if the file states none."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return ()
    labels: Any = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(labels, dict):
        return ()
    # nnU-Net 2 has {"polyp": 1}, nnU-Net 1 {"1": "polyp"}; regions of several labels are no classes.
    named = [(str(value), key) if str(key).isdigit() else (key, str(value)) for key, value in labels.items()]
    if not all(number.isdigit() and name and "=" not in name and "," not in name for name, number in named):
        return ()
    return tuple(
        f"{name}={number}" for name, number in named if name.lower() not in NO_POLYP and number != "0"
    )
