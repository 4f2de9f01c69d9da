"""Description of a sampler for a study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from optuna.samplers import BaseSampler

OPTION = "--sampler"


@dataclass(frozen=True)
class SamplerKind:
    """A sampler as a study uses it: a new object for every configuration, from a seed and the number of objectives."""

    make: Callable[[int, int], BaseSampler]
    for_several_objectives: bool = True
    reads_constraints: bool = False  # else trials that exceed a limit are shown with the lowest score
    reads_failures: bool = (
        False  # else failed trials are shown with the lowest score; an excess counts as failure
    )
    reads_trials: bool = True  # else it is shown none: listing thousands takes longer than the draw
    keeps_notes: bool = False  # the system attributes it writes on a trial are stored and shown to it again
    remarks: tuple[str, ...] = ()  # what a user should know before a study begins
