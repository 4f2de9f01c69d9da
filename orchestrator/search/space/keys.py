"""The keys of a search-space file, and texts on problems with them, independent of any network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from orchestrator.common.names import hint
from orchestrator.common.user_documents import shown
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


@cache
def value_of_all(key: str) -> type[BaseModel]:
    """A model of one field, `value`, that accepts what a key of recipe or masks accepts, for every network."""
    config = ConfigDict(title=key)
    if key in MASKS:
        return create_model("Value", __config__=config, value=MASKS[key])
    field = Recipe.model_fields[key]
    return create_model("Value", __config__=config, value=(cast(Any, field.annotation), field))


def may_be(key: str, value: object) -> bool:
    """Whether a key of recipe or masks could have this value; True for parameters of networks, which know their own."""
    if key not in RECIPE and key not in MASKS:
        return True
    try:
        value_of_all(key).model_validate({"value": value}, strict=True)
    except ValidationError:
        return False
    return True


def plain(name: str) -> str:
    """The parameter of a stored name: "learning_rate" of "unet.learning_rate", which is that of one network alone."""
    return name.rpartition(".")[2]


def network_of(name: str) -> str:
    """The network whose own parameter a stored name is; "" where networks share it."""
    return name.rpartition(".")[0]


@dataclass(frozen=True)
class Registry:
    """The networks that a file can name, and the keys that these bring."""

    names: Callable[[], tuple[str, ...]]
    keys: Callable[[Iterable[str]], tuple[str, ...]]  # of a file that opens these networks
    unknown: Callable[[str, Sequence[str]], str]  # why a key cannot be used with these networks


def not_known(name: object, known: Sequence[str], what: str) -> str:
    """Text on an unknown name, with the nearest of the known names and all of them."""
    return f"no {what} is named {shown(str(name))}; {hint(str(name), known)}known: {', '.join(known)}"


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
            lines.append(f"{path}: expected {expected_in(finding['msg'])}, found {shown(finding['input'])}")
    return lines


def listed(values: Iterable[object]) -> str:
    """One or more values as text: 'a', 'a and b', 'a, b and c'."""
    *most, last = (str(value) for value in values)
    return f"{', '.join(most)} and {last}" if most else last


def expected_in(message: str) -> str:
    """'a valid integer' out of pydantic's 'Input should be a valid integer'."""
    return message.removeprefix("Input should be ").split(", got")[0]
