"""Formatting of scores for people: in percent, differences in percentage points.

MLflow, JSON and plots contain the plain values, Dice in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def percent(value: float | None) -> str:
    """0.8123 -> 81.23; a dash for missing and non-finite values."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.2f}"


def with_ends(interval: tuple[float, float] | None) -> str:
    """(0.8, 0.9) -> ", 95 % 80.0 to 90.0", to follow a share in percent; "" without a finite interval."""
    if interval is None or not all(map(math.isfinite, interval)):
        return ""
    return f", 95 % {100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def points(difference: float) -> str:
    """0.0123 -> +1.23."""
    return f"{100 * difference:+.2f}"


def duration(seconds: float) -> str:
    """90 -> 1 min, 7300 -> 2 h 01 min."""
    minutes = int(seconds) // 60
    if minutes < 1:
        return f"{int(seconds)} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def finite(value: Any) -> Any:
    """Plain values for JSON, which has no NaN and no infinity: both become None."""
    if isinstance(value, Mapping):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
