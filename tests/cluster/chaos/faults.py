"""The faults by name: where each happens, and what it does to a study. Other pages of this folder add theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from chaos.disturbed_study import DisturbedStudy
from chaos.home import SHORT

Part = Literal["processes", "nodes", "mlflow", "database", "disk", "data", "ends", "clock"]
Act = Callable[[DisturbedStudy], None]


@dataclass(frozen=True)
class Fault:
    """Something that happens to a study, and how it is made to happen."""

    name: str
    part: Part  # what it is about
    text: str  # in the table
    act: Act
    nodes: int = 0  # network namespaces with Ray; 0: the search starts Ray itself, on one machine
    lanes: int = 1
    epochs: int = SHORT
    options: tuple[tuple[str, Any], ...] = ()


FAULTS: dict[str, Fault] = {}


def fault(
    name: str,
    text: str,
    part: Part,
    **options: Any,
) -> Callable[[Act], Act]:
    """Register a function as what a fault does. The study is neither started before it nor need it be over after."""

    def register(act: Act) -> Act:
        FAULTS[name] = Fault(name, part, text, act, **options)
        return act

    return register


def names() -> list[str]:
    """Of all faults, in the order of what they are about."""
    return sorted(FAULTS, key=lambda name: get_args(Part).index(FAULTS[name].part))
