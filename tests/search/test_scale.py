"""What a decision costs does not grow with the study: counted, not timed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from formula import carry_out, formula_study
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from visits import DiskStudy

from orchestrator.search.goals.goals import front
from orchestrator.search.race import predictions
from orchestrator.search.race.early_stopping import Curve, Finished
from orchestrator.search.race.rules import Race
from orchestrator.search.samplers import inducing_points as inducing
from orchestrator.search.samplers.encoding import SpaceEncoding
from orchestrator.search.samplers.expected_gain import suggest
from orchestrator.search.samplers.gaussian_process import GaussianProcess
from orchestrator.search.samplers.inducing_points import EXACT, SparseGaussianProcess, fitted
from orchestrator.search.store import snapshot
from orchestrator.study.cleanup import KEEP_WEIGHTS, WeightCleanup


def counting(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[tuple]:
    """What a function is called with from now on."""
    calls: list[tuple] = []
    plain = getattr(owner, name)

    def counted(*args: Any, **options: Any) -> Any:
        calls.append(args)
        return plain(*args, **options)

    monkeypatch.setattr(owner, name, counted)
    return calls


def seen(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points in three dimensions, best in the middle, with noise; values on 1 to 5 folds."""
    rng = np.random.default_rng(seed)
    points, folds = rng.random((count, 3)), rng.integers(1, 6, count).astype(np.float64)
    values = 0.8 - 0.3 * ((points - 0.5) ** 2).sum(axis=1) + rng.normal(0, 0.01, count) / np.sqrt(folds)
    return points, values, folds


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> DiskStudy:
    """A race of some 50 trials, most of which wait with one fold."""
    home = tmp_path_factory.mktemp("home")
    disk = DiskStudy(
        home, home / "e", num_trials=None, epochs=10**6, race="paired", sampler="random", noise=0.3
    )
    disk.run(60)
    assert len(disk.engine.waiting) > 15
    return disk


def one_more(disk: DiskStudy) -> None:
    name, visit = disk.suggest()
    disk.carry_out(name, visit)


def test_up_to_a_number_of_configurations_nothing_is_approximated():
    points, values, folds = seen(60)
    exact, found = GaussianProcess.fit(points, values, folds), fitted(points, values, folds)
    assert isinstance(found, GaussianProcess) and np.array_equal(found.weights, exact.weights)


def test_the_model_of_many_configurations_agrees_with_the_exact_one(monkeypatch):
    points, values, folds = seen(EXACT + 200)
    exact, found = GaussianProcess.fit(points, values, folds), fitted(points, values, folds)
    assert isinstance(found, SparseGaussianProcess)
    asked = np.random.default_rng(1).random((500, 3))
    (mean, sd), (near, near_sd) = exact.predict(asked), found.predict(asked)
    assert np.abs(near - mean).max() < 0.003 and np.median(near_sd / sd) == pytest.approx(1, abs=0.2)
    assert np.abs(exact.mean(asked) - mean).max() < 1e-12 and np.abs(found.mean(asked) - near).max() < 1e-9
    together = [model.covariance(asked[:40], asked[40:80]) for model in (exact, found)]
    assert np.abs(together[1] - together[0]).max() < 0.2 * float((sd**2).max())


def test_the_model_of_many_configurations_knows_that_folds_differ():
    points, values, folds = seen(EXACT + 100)
    easier = np.array([0.04, -0.02, -0.02])
    scores = values[:, None] + easier
    scores[np.arange(len(values)) % 5 > 0, 1:] = np.nan
    model = fitted(points, np.nanmean(scores, axis=1), folds, scores)
    assert isinstance(model, SparseGaussianProcess) and np.allclose(model.effects, easier, atol=0.005)
    assert np.abs(model.predict(points)[0] - values).mean() < 0.01


def test_the_kernel_of_many_configurations_is_found_from_as_many_as_of_few_and_once(monkeypatch):
    fits = counting(monkeypatch, inducing.GaussianProcess, "fit")
    points, values, folds = seen(3 * EXACT, seed=2)
    for last in range(3 * EXACT - 5, 3 * EXACT):
        fitted(points[:last], values[:last], folds[:last]).seeing(points[last:])
    assert [len(call[0]) for call in fits] == [inducing.SUBSET]


def test_of_very_many_values_those_near_the_leader_and_some_of_the_others_speak(monkeypatch):
    monkeypatch.setattr(inducing, "MOST", 600)
    points, values, folds = seen(2 * EXACT, seed=3)
    model = SparseGaussianProcess.fit(points, values, folds)
    assert len(model.points) == 600 and len(model.tried) == 2 * EXACT
    asked = suggest(
        model, np.random.default_rng(0), SpaceEncoding({n: FloatDistribution(0, 1) for n in "abc"})
    )
    assert np.abs(asked - 0.5).max() < 0.2


def test_configurations_in_flight_lower_what_is_not_known_beside_them():
    points, values, folds = seen(EXACT + 50, seed=4)
    there = np.array([[1.0, 1.0, 1.0]])
    alone, secondary = fitted(points, values, folds), fitted(points, values, folds).seeing(there)
    assert secondary.predict(there)[1] < alone.predict(there)[1]
    assert secondary.predict(there)[0] == pytest.approx(alone.predict(there)[0], abs=1e-3)


def test_configurations_are_placed_together_as_one_by_one():
    space = {
        "rate": FloatDistribution(1e-5, 1e-1, log=True),
        "width": IntDistribution(8, 64, step=8),
        "size": CategoricalDistribution([224, 352, 256]),
        "loss": CategoricalDistribution(["a", "b", "c"]),
    }
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    configuration = [study.ask(space).params for _ in range(20)]
    box = SpaceEncoding(space)
    assert np.array_equal(box.points(configuration), np.array([box.point(one) for one in configuration]))


def test_a_decision_looks_at_no_record_of_trials_that_wait(raced, monkeypatch):
    looks = counting(monkeypatch, os, "scandir")
    reads = counting(monkeypatch, raced.state, "score_of")
    one_more(raced)
    waiting = {fit for number in raced.engine.waiting[:-6] for fit in raced.state.fit_ids[number]}
    assert not waiting & {Path(folder).name for (folder,) in looks}
    assert len(looks) < 60 and len(reads) == 1


def test_a_decision_copies_no_trial_of_the_study(raced, monkeypatch):
    copied = counting(monkeypatch, optuna.storages._in_memory.copy, "deepcopy")
    one_more(raced)
    assert not [args for args in copied if isinstance(args[0], list) and len(args[0]) > 10]


def test_a_sampler_is_shown_the_same_trial_as_before_where_nothing_else_is_known(raced):
    stored = raced.engine.trials.study.get_trials(deepcopy=False)
    before = [raced.state.past(trial).shown for trial in stored]
    again = [raced.state.past(trial).shown for trial in stored]
    assert all(one is other for one, other in zip(before, again, strict=True))


def test_of_many_configurations_only_what_is_new_is_predicted_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(inducing, "EXACT", 30)
    disk = DiskStudy(
        tmp_path, tmp_path / "disk", num_trials=None, epochs=10**6, race="paired", sampler="random"
    )
    disk.run(45)
    monkeypatch.setattr(predictions, "MORE", 10.0)
    predicted = counting(monkeypatch, GaussianProcess, "predict")
    before = dict(disk.state.race.board.predictions)
    one_more(disk)
    number = max(disk.state.configurations)
    assert [len(args[1]) for args in predicted] == [1]
    after = disk.state.race.board.predictions
    assert number in after and before.items() <= after.items()


def test_who_has_no_chance_is_not_judged_again_until_more_is_known(raced, monkeypatch):
    monkeypatch.setattr("orchestrator.search.race.paired_scores.FEW", 0)
    board = raced.state.race.board
    raced.state.race.recall(raced.engine.waiting, True)
    compared = counting(monkeypatch, board, "compare")
    raced.state.race.recall(raced.engine.waiting, True)
    assert len(compared) <= 1


def test_a_configuration_keeps_its_place_among_those_that_are_ranked():
    rng = np.random.default_rng(0)
    race = Race("asha", [[f"{fold}-{image}" for image in range(8)] for fold in range(3)], reduction=2)
    for number in [*range(30), *range(0, 30, 2), *range(0, 30, 4)]:
        folds = range(race.board.folds(number) + 1)
        race.see(number, {fold: np.clip(rng.normal(0.5, 0.1, 8), 0, 1) for fold in folds})
        race.board.ranked()
    ranks, board = race.board.ranked(), race.board
    for folds in (1, 2, 3):
        level = [number for number in board.means if board.folds(number) == folds]
        expected = sorted(level, key=lambda number: (-board.worth(number), number))
        assert list(ranks.with_folds(folds)) == expected and [ranks.place(n) for n in expected] == [
            *range(len(level))
        ]


def test_a_curve_is_looked_at_once_for_every_share_of_a_schedule(monkeypatch):
    finished = Finished(Curve([0.1, 0.2 + place / 100, 0.5], 3) for place in range(20))
    looked = counting(monkeypatch, Curve, "best_at")
    gains = []
    for _ in range(10):
        finished.append(Curve([0.1, 0.1, 0.9], 3))
        gains.append(finished.largest_gain(2 / 3))
    assert gains == [pytest.approx(0.8)] * 10 and len(looked) == 2 * 30


def test_the_front_of_many_is_that_of_all_pairs():
    rng = np.random.default_rng(0)
    values = {number: tuple(map(float, rng.integers(0, 12, 3))) for number in range(200)}
    signs = np.array([1, -1, 1])
    points = {number: signs * own for number, own in values.items()}
    better = lambda one, own: bool((one >= own).all() and (one > own).any())  # noqa: E731
    expected = [n for n, own in points.items() if not any(better(one, own) for one in points.values())]
    assert list(front(values, ["maximize", "minimize", "maximize"])) == expected


def test_usage_is_counted_as_it_comes_in(raced):
    usage, fits = raced.gate.usage, raced.gate.usage.fits.values()
    assert usage.spent().epochs == sum(fit.epochs for fit in fits)
    assert usage.spent().gpu_hours == pytest.approx(sum(fit.seconds for fit in fits) / 3600)
    assert usage.per_fit().epochs == np.mean([fit.epochs for fit in fits if fit.finished])


def test_weights_of_a_trial_are_dropped_once(tmp_path, monkeypatch):
    disk = DiskStudy(tmp_path, tmp_path / "disk", num_trials=8)
    disk.run()
    dropped: list[set[str]] = []
    monkeypatch.setattr(type(disk.ledger), "drop_weights", lambda self, fits: dropped.append({*fits}))
    tidy = WeightCleanup(disk.study, disk.state)
    for trial in disk.trials:
        tidy([trial])
    assert sum(map(len, dropped)) == len(set().union(*dropped)) == (8 - KEEP_WEIGHTS) * 5
    best = sorted(disk.trials, key=lambda trial: -trial.value)[:KEEP_WEIGHTS]
    assert tidy.kept == {trial.number for trial in best}


def test_a_record_is_read_once_for_a_leaderboard(tmp_path, monkeypatch):
    study = formula_study(tmp_path, num_trials=2)
    carry_out(study, [1e-3, 1e-4])
    reads = counting(monkeypatch, snapshot, "read_fit")
    assert [len(trial.records) for trial in study.store.trials()] == [5, 5]
    assert len(reads) == 10
