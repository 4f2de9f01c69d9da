"""Formatting of scores for people: in percent, differences in percentage points.

MLflow, JSON and plots contain the plain values, Dice in [0, 1].
"""

from __future__ import annotations

import math


def percent(value: float | None) -> str:
    """0.8123 -> 81.23; a dash for missing and non-finite values."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.2f}"


def points(difference: float) -> str:
    """0.0123 -> +1.23."""
    return f"{100 * difference:+.2f}"
