"""What can be searched or fixed: the fields of a recipe, the parameters of networks, and how maps become masks.

A key is one of these names; a value is refused in words, never by an exception.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from orchestrator import models
from orchestrator.common.user_documents import MAX_TEXT, shown
from orchestrator.training.recipe import Recipe

NETWORK = "network"
THRESHOLD = "threshold"
RECIPE = tuple(Recipe.model_fields)
AREA = "reference_area"
SWEPT = (THRESHOLD, AREA)  # may be left open: the best is chosen after training
MASKS: dict[str, tuple[type, Any]] = {
    THRESHOLD: (float, Field(gt=0, lt=1, description="probability from which a pixel counts as polyp")),
    AREA: (
        float,
        Field(
            ge=0, lt=1, description="share of the frame that white must exceed, else the case has no polyp"
        ),
    ),
    "white_level": (
        float,
        Field(gt=0, lt=1, description="probability from which a pixel is white; by default the threshold"),
    ),
    "fill_holes": (bool, Field(description="whether holes in a mask are filled")),
    "min_component_area": (
        float,
        Field(ge=0, lt=1, description="share of the frame; smaller components of a mask are dropped"),
    ),
}


def known_keys(networks: Iterable[str]) -> tuple[str, ...]:
    """Every key that a file which opens these networks can use."""
    own = {key: None for network in networks for key in models.params(network)}
    return (*RECIPE, *MASKS, *own)


def owners(key: str, networks: Sequence[str]) -> tuple[str, ...]:
    """Those of `networks` that the key means something to: all of them for recipe and masks."""
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
            expected = " or ".join(_expected(line["msg"]) for line in error.errors())
            return f"{whose}expected {expected}, found {shown(value)}"
    return None


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


def not_known(name: object, known: Sequence[str], what: str) -> str:
    """'no parameter has this name', with the nearest of the known names and all of them."""
    near = difflib.get_close_matches(str(name)[:MAX_TEXT], known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"no {what} is named {shown(str(name))}; {hint}known: {', '.join(known)}"


def problems_in(error: ValidationError, where: str, known: Sequence[str] = ()) -> list[str]:
    """pydantic's findings in our words, one line each; `known` are the keys that there could be."""
    lines = []
    for finding in error.errors():
        path = ".".join(str(part) for part in (where, *finding["loc"]) if part != "")
        if finding["type"] == "extra_forbidden":
            lines.append(f"{where}: {not_known(finding['loc'][-1], known, 'key')}")
        elif finding["type"] == "value_error":
            lines.append(f"{path}: {finding['ctx']['error']}")
        else:
            lines.append(f"{path}: expected {_expected(finding['msg'])}, found {shown(finding['input'])}")
    return lines


def value_schema(key: str, networks: Sequence[str]) -> dict[str, Any]:
    """JSON Schema of the values of a known key."""
    schemas: list[dict[str, Any]] = []
    for network in owners(key, networks):
        schema = _value_of(key, network).model_json_schema()["properties"]["value"]
        schemas += [schema] if schema not in schemas else []
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def listed(values: Iterable[object]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    *most, last = (str(value) for value in values)
    return f"{', '.join(most)} and {last}" if most else last


@cache
def _value_of(key: str, network: str) -> type[BaseModel]:
    """A model of one field, `value`, that accepts what the key accepts."""
    config = ConfigDict(title=key)
    if key in MASKS:
        return create_model("Value", __config__=config, value=MASKS[key])
    if key in RECIPE:
        field = Recipe.model_fields[key]
        return create_model("Value", __config__=config, value=(cast(Any, field.annotation), field))
    parameter = models.params(network)[key]
    field = Field(parameter.default, description=f"of {network}")
    return create_model("Value", __config__=config, value=(parameter.annotation, field))


def _expected(message: str) -> str:
    """'a valid integer' out of pydantic's 'Input should be a valid integer'."""
    return message.removeprefix("Input should be ").split(", got")[0]
