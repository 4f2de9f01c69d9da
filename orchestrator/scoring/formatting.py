"""How scores are written for people: in percent, differences in points of a percent.

MLflow, JSON and pictures hold the plain values, Dice in [0, 1].
"""

from __future__ import annotations

import math


def percent(value: float | None) -> str:
    """0.8123 -> 81.23; what is not there, or not finite, is a dash."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.2f}"


def points(difference: float) -> str:
    """0.0123 -> +1.23."""
    return f"{100 * difference:+.2f}"
