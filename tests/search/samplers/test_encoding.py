"""Where configurations lie in a box, and that a model is asked about configurations alone."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from orchestrator.search.samplers.encoding import ORDER_LENGTH, SpaceEncoding
from orchestrator.search.samplers.expected_gain import suggest
from orchestrator.search.samplers.fold_aware_sampler import FoldAwareSampler
from orchestrator.search.samplers.gaussian_process import GaussianProcess

SPACE = {
    "lr": FloatDistribution(1e-4, 1e-2, log=True),
    "share": FloatDistribution(0.1, 0.9, step=0.2),
    "width": IntDistribution(8, 64, step=8),
    "depth": IntDistribution(1, 8, log=True),
    "size": CategoricalDistribution((352, 256, 512)),
    "flip": CategoricalDistribution((True, False)),
    "loss": CategoricalDistribution(("dice", "bce", "both")),
}
BOX = SpaceEncoding(SPACE)
points = st.lists(st.floats(-0.5, 2.5), min_size=len(BOX.lengths), max_size=len(BOX.lengths)).map(np.array)


def test_numbers_lie_by_their_scale_choices_among_numbers_in_order_and_names_in_corners():
    first = {"lr": 1e-3, "share": 0.1, "width": 8, "depth": 8, "size": 512, "flip": True, "loss": "bce"}
    assert BOX.point(first) == pytest.approx([0.5, 0, 0, 1, ORDER_LENGTH, 0, 0, 1, 0])
    last = {"lr": 1e-2, "share": 0.5, "width": 64, "depth": 1, "size": 352, "flip": False, "loss": "both"}
    assert BOX.point(last) == pytest.approx([1, 0.5, 1, 0, ORDER_LENGTH / 2, ORDER_LENGTH, 0, 0, 1])


def test_a_parameter_that_a_configuration_does_not_have_is_in_the_middle():
    assert SpaceEncoding({"lr": SPACE["lr"], "flip": SPACE["flip"]}).point({"lr": 1e-4}) == pytest.approx(
        [0, ORDER_LENGTH / 2]
    )


@given(points)
def test_any_point_is_moved_to_a_configuration_of_the_space_and_that_stays_where_it_is(point):
    params = BOX.params(point)
    assert all(SPACE[name]._contains(SPACE[name].to_internal_repr(value)) for name, value in params.items())
    assert isinstance(params["width"], int) and isinstance(params["lr"], float)
    (snapped,) = BOX.snap(point[None])
    assert snapped == pytest.approx(BOX.point(params), abs=1e-12)
    assert BOX.params(snapped) == params or params["lr"] == pytest.approx(BOX.params(snapped)["lr"])


@pytest.mark.parametrize("seed", range(3))
def test_where_scores_are_noise_no_configuration_is_asked_for_twice(seed):
    """Between the corners of choices a model knows nothing: asked there, it came back to a few points for ever."""
    space = {
        "lr": FloatDistribution(1e-4, 3e-2, log=True),
        "width": CategoricalDistribution((4, 6, 8)),
        "loss": CategoricalDistribution(("dice", "bce", "both")),
    }
    rng = np.random.default_rng(seed)
    study = optuna.create_study(direction="maximize", sampler=FoldAwareSampler(seed))
    for _ in range(40):
        study.tell(study.ask(space), rng.normal(0.43, 0.01))
    box = SpaceEncoding(space)
    asked = np.array([box.point(trial.params) for trial in study.trials[12:]])  # those before are random
    apart = np.abs(asked[:, None] - asked[None]).max(axis=2)
    assert apart[~np.eye(len(asked), dtype=bool)].min() > 0.0099


def test_what_was_tried_is_not_asked_for_again_while_there_is_anything_else():
    box = SpaceEncoding(
        {"a": CategoricalDistribution((1, 2, 3)), "b": CategoricalDistribution(("x", "y", "z"))}
    )
    grid = [{"a": a, "b": b} for a in (1, 2, 3) for b in "xyz"]
    rng = np.random.default_rng(0)
    tried = np.array([box.point(one) for one in grid[:-1]])
    model = GaussianProcess.fit(tried, rng.normal(0.5, 0.05, len(tried)), np.ones(len(tried)))
    assert box.params(suggest(model, rng, box)) == grid[-1]
