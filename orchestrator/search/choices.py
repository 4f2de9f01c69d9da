"""Names of the entries of registries; each registry checks on import that it has an entry for each name.

No heavy package is imported here, since the command line reads this module.
"""

from __future__ import annotations

from typing import Literal

RuleName = Literal["paired", "asha", "none"]  # the classes: race/rules.py
SamplerName = str  # a name of samplers/registry.py, or optuna:CLASS(...); checked there
BestRule = Literal["best", "one-se"]
EnsembleName = Literal["folds", "greedy", "best"]
DeviceName = Literal["auto", "cpu", "cuda"]  # what trains; auto: GPUs where there are any
ObjectiveName = Literal["mean", "worst-fold", "center-mean", "worst-center"]  # scores, maximised
CostName = Literal["parameters", "gmacs", "inference_ms"]  # minimised
SEARCH_METRIC = "dice"  # of the objectives that are scores; trials are raced and finalists re-evaluated by it
GoalName = Literal[ObjectiveName, CostName]
# What a verdict of the race says of a trial: goes on to the next fold, waits and may go on later, or is over for good.
Action = Literal["go", "pause", "stop"]
