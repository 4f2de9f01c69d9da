"""Single values of a search-space file, and lists and tables of them, validated strictly."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from orchestrator.common.user_documents import shown

Scalar = bool | int | float | str
SCALAR_SCHEMA = {"type": ["boolean", "number", "string"]}
MOST_VALUES = 1_000  # of a choice


def same(a: Scalar, b: Scalar) -> bool:
    """Whether two values are equal, where True is not 1 and False is not 0."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def is_whole(value: object) -> bool:
    """Whether a value is an integer, and no boolean."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether a value is an integer or a float, and no boolean."""
    return is_whole(value) or isinstance(value, float)


def _scalars(values: object) -> tuple[Scalar, ...]:
    if not isinstance(values, list) or not values or not all(isinstance(v, Scalar) for v in values):
        raise ValueError(
            f"expected a list of one or more numbers, strings or booleans, found {shown(values)}"
        )
    if len(values) > MOST_VALUES:
        raise ValueError(f"expected at most {MOST_VALUES:,} values, found {len(values):,}")
    twice = [a for i, a in enumerate(values) if any(same(a, b) for b in values[:i])]
    if twice:
        raise ValueError(f"expected values that differ, found {twice[0]!r} twice")
    return tuple(values)


def _two_numbers(values: object) -> tuple[float, float]:
    if not isinstance(values, list) or len(values) != 2 or not all(is_number(v) for v in values):
        raise ValueError(f"expected [low, high], two numbers, found {shown(values)}")
    if not all(math.isfinite(v) for v in values):
        raise ValueError(f"expected finite numbers, found {shown(values)}")
    return float(values[0]), float(values[1])


def _two_wholes(values: object) -> tuple[int, int]:
    if not isinstance(values, list) or len(values) != 2 or not all(is_whole(v) for v in values):
        raise ValueError(f"expected [low, high], two integers, found {shown(values)}")
    return values[0], values[1]


def _conditions(when: object) -> dict[str, tuple[Scalar, ...]]:
    if not isinstance(when, dict) or not when:
        raise ValueError(f'expected a table such as {{ network = "unet" }}, found {shown(when)}')
    return {key: _scalars(values if isinstance(values, list) else [values]) for key, values in when.items()}


def shown_number(value: float) -> str:
    """Text of a number: a whole one in full, any other to three digits."""
    return str(value) if is_whole(value) else f"{value:.3g}"


_PAIR_SCHEMA = {"type": "array", "minItems": 2, "maxItems": 2}
Scalars = Annotated[
    tuple[Scalar, ...],
    BeforeValidator(_scalars),
    WithJsonSchema({"type": "array", "items": SCALAR_SCHEMA, "minItems": 1, "uniqueItems": True}),
]
Numbers = Annotated[
    tuple[float, float],
    BeforeValidator(_two_numbers),
    WithJsonSchema({**_PAIR_SCHEMA, "items": {"type": "number"}}),
]
Wholes = Annotated[
    tuple[int, int],
    BeforeValidator(_two_wholes),
    WithJsonSchema({**_PAIR_SCHEMA, "items": {"type": "integer"}}),
]
_ONE_OR_MORE = {"anyOf": [SCALAR_SCHEMA, {"type": "array", "items": SCALAR_SCHEMA, "minItems": 1}]}
Conditions = Annotated[
    dict[str, tuple[Scalar, ...]],
    BeforeValidator(_conditions),
    WithJsonSchema({"type": "object", "additionalProperties": _ONE_OR_MORE, "minProperties": 1}),
]
