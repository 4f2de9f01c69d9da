"""Parameters to search or fix: fields of a recipe, parameters of networks, and how maps become masks.

A key is one of these names; a value is refused in words, never by an exception.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from orchestrator import models
from orchestrator.common.names import meant
from orchestrator.common.user_documents import shown
from orchestrator.search.space.keys import (
    MASKS,
    RECIPE,
    Registry,
    expected_in,
    listed,
    not_known,
    value_of_all,
)


def known_keys(networks: Iterable[str]) -> tuple[str, ...]:
    """Every key that a file which opens these networks can use."""
    own = {key: None for network in networks for key in models.params(network)}
    return (*RECIPE, *MASKS, *own)


def owners(key: str, networks: Sequence[str]) -> tuple[str, ...]:
    """Names of the networks that have this parameter: all of them for parameters of recipe and masks."""
    if key in RECIPE or key in MASKS:
        return tuple(networks)
    return tuple(network for network in networks if key in models.params(network))


def refusal(key: str, value: object, networks: Sequence[str]) -> str | None:
    """Why a known key cannot have this value, as 'expected ..., found ...'; None where it can."""
    for network in owners(key, networks):
        try:
            _value_of(key, network).model_validate({"value": value}, strict=True)
        except ValidationError as error:
            whose = "" if key in RECIPE or key in MASKS else f"{network}: "
            expected = " or ".join(expected_in(line["msg"]) for line in error.errors())
            return f"{whose}expected {expected}, found {shown(value)}{meant(value, _choices(expected))}"
    return None


def _choices(expected: str) -> list[str]:
    """The names in "'adam', 'sgd' or 'lion'", or in "none, flips, or a pipeline of ..."."""
    names = expected.partition(", or a ")[0]
    return re.findall(r"'([^']*)'", names) or names.split(", ")


def size_refusal(sizes: Iterable[int], network: str) -> str | None:
    """Why a network cannot take images of these sides in pixels; None where it can."""
    stride = models.stride(network)
    wrong = [size for size in sizes if size % stride]
    if not wrong:
        return None
    near = sorted(
        {max(stride, size // stride * stride) for size in wrong}
        | {-(-size // stride) * stride for size in wrong}
    )
    return (
        f"{network} needs multiples of {stride} pixels, found {listed(wrong[:4])}; "
        f"near ones are {listed(near[:8])}"
    )


def batch_refusal(sizes: Iterable[int], network: str) -> str | None:
    """Why a network cannot be trained with batches of so few images; None where it can."""
    smallest = models.smallest_batch(network)
    wrong = [size for size in sizes if size < smallest]
    if not wrong:
        return None
    return f"{network} needs at least {smallest} images in a batch, found {listed(wrong)}"


def unknown_key(key: str, networks: Sequence[str]) -> str:
    """Why a key cannot be used, with the nearest known one."""
    elsewhere = owners(key, [name for name in models.names() if name not in networks])
    if elsewhere:
        return f"belongs to {listed(elsewhere)}, not to {listed(networks)}"
    return not_known(key, known_keys(networks), "parameter")


REGISTRY = Registry(models.names, known_keys, unknown_key)


def value_schema(key: str, networks: Sequence[str]) -> dict[str, Any]:
    """JSON Schema of the values of a known key."""
    schemas: list[dict[str, Any]] = []
    for network in owners(key, networks):
        schema = _value_of(key, network).model_json_schema()["properties"]["value"]
        schemas += [schema] if schema not in schemas else []
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


@cache
def _value_of(key: str, network: str) -> type[BaseModel]:
    """A model of one field, `value`, that accepts what the key accepts."""
    if key in MASKS or key in RECIPE:
        return value_of_all(key)
    parameter = models.params(network)[key]
    field = Field(parameter.default, description=f"of {network}")
    return create_model("Value", __config__=ConfigDict(title=key), value=(parameter.annotation, field))
