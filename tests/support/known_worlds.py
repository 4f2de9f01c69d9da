"""The worlds in which searches are compared: search_simulation.py measures them all, tests use some."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.search.simulated.networks import NetworksWorld
from orchestrator.search.simulated.worlds import World

V12 = World("as in V12", fit_sd=0.006, image_sd=0.07, fold_sd=0.0, fold_configuration_sd=0.0)
CURVES = replace(V12, num_epochs=30, amplitude=0.9, rates=(0.8, 0.8), epoch_sd=0.01)
WORLDS = (
    V12,
    replace(V12, name="sequences alike", sequence_share=0.3),
    replace(V12, name="strong folds", fold_sd=0.04, fold_configuration_sd=0.006),
    replace(V12, name="six parameters", num_parameters=6),
    replace(V12, name="noisy fits", fit_sd=0.012),
    replace(V12, name="choices", num_parameters=4, num_choices=2, scale=(0.005, 0.05), fit_sd=0.012),
    replace(V12, name="few sequences", num_sequences=30, sequence_length=20, sequence_share=0.3),
    replace(CURVES, name="curves alike"),
    replace(CURVES, name="curves cross", rates=(0.2, 2.0)),
    World("as recorded", num_epochs=30),
    World("narrow peak", num_epochs=30, scale=(0.6, 1.4), most_lost=0.3),
    World("twelve parameters", num_parameters=12, scale=(0.005, 0.05)),
    World("memory runs out", num_epochs=30, memory_left=(0.02, 0.2)),
)
# A search over networks: conditional parameters, costs that differ 20-fold.
OVER_NETWORKS = NetworksWorld("a search over networks")
