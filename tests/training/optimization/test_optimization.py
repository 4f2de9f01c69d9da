import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, PolynomialLR

from orchestrator.training.optimization.optimizers import optimizer_of
from orchestrator.training.optimization.schedules import Schedule
from orchestrator.training.recipe import Recipe


def a_weight(value: float = 1.0) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def rates(num: int, **recipe) -> list[float]:
    """Learning rates of the first epochs."""
    schedule = Schedule(
        torch.optim.SGD(a_weight().parameters(), lr=recipe["learning_rate"]), Recipe(**recipe)
    )
    found = []
    for _ in range(num):
        found.append(schedule.rate)
        schedule.optimizer.step()
        schedule.step(0.5)
    return found


def after(gradients: list[float], start: float = 1.0, **recipe) -> float:
    """A weight after steps with these gradients."""
    layer = a_weight(start)
    optimizer = optimizer_of(layer, Recipe(**recipe))
    for gradient in gradients:
        layer.weight.grad = torch.full_like(layer.weight, gradient)
        optimizer.step()
    return layer.weight.item()


def test_sgd_with_momentum_and_nesterov_follow_the_formula_by_hand():
    recipe = {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0.0, "momentum": 0.5}
    # Velocities 1 and 2 + 0.5 x 1; with Nesterov each step goes by gradient + 0.5 x velocity.
    assert after([1.0, 2.0], **recipe) == pytest.approx(1 - 0.1 * (1 + 2.5))
    assert after([1.0, 2.0], **recipe, nesterov=True) == pytest.approx(1 - 0.1 * (1.5 + 3.25))


@pytest.mark.parametrize("optimizer", ["adam", "nadam", "sgd"])
def test_l2_decay_is_added_to_the_gradient(optimizer):
    recipe = {"optimizer": optimizer, "learning_rate": 0.1}
    assert after([0.0], start=2.0, weight_decay=0.5, **recipe) == after(
        [1.0], start=2.0, weight_decay=0.0, **recipe
    )


def test_decoupled_decay_multiplies_the_weight_by_one_less_rate_times_decay():
    assert after([0.0], 2.0, optimizer="adamw", learning_rate=0.1, weight_decay=0.5) == pytest.approx(
        2 * 0.95
    )


@pytest.mark.parametrize(("period", "multiplier"), [(3, 1), (2, 2), (1, 3)])
def test_warm_restarts_are_those_of_torch(period, multiplier):
    found = rates(
        14,
        epochs=14,
        learning_rate=0.1,
        schedule="warm_restarts",
        restart_period=period,
        restart_multiplier=multiplier,
    )
    theirs = torch.optim.SGD(a_weight().parameters(), lr=0.1)
    schedule = CosineAnnealingWarmRestarts(theirs, period, multiplier)
    for rate in found:
        assert rate == pytest.approx(theirs.param_groups[0]["lr"])
        theirs.step()
        schedule.step()


def test_poly_is_that_of_torch_and_ends_above_zero():
    found = rates(5, epochs=5, learning_rate=0.01, schedule="poly", poly_power=0.9)
    theirs = torch.optim.SGD(a_weight().parameters(), lr=0.01)
    schedule = PolynomialLR(theirs, total_iters=5, power=0.9)
    for rate in found:
        assert rate == pytest.approx(theirs.param_groups[0]["lr"]) and rate > 0
        theirs.step()
        schedule.step()


def test_restarts_begin_after_the_warm_up():
    found = rates(
        7,
        epochs=9,
        learning_rate=1.0,
        schedule="warm_restarts",
        warmup_epochs=2,
        restart_period=2,
        restart_multiplier=2,
    )
    assert found == pytest.approx([0.1, 0.55, 1.0, 0.5, 1.0, 0.853553, 0.5], abs=1e-5)


@pytest.mark.parametrize("start", [0.5, -0.6], ids=["Dice", "a refit's loss"])
def test_the_plateau_schedule_divides_the_rate_by_ten_when_what_it_follows_stalls(start):
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1e-2)
    schedule = Schedule(optimizer, Recipe(schedule="plateau", plateau_patience=2))
    rates = []
    for gain in (0.0, 0.1, 0.1, 0.1, 0.1, 0.1):
        rates.append(schedule.rate)
        schedule.step(start + gain)
    assert rates == pytest.approx([1e-2] * 5 + [1e-3])


def test_a_plateau_schedule_takes_up_the_state_of_an_earlier_version():
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1e-2)
    before = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.1, patience=2)
    before.step(0.6)
    schedule = Schedule(optimizer, Recipe(schedule="plateau", plateau_patience=2))
    schedule.load_state_dict(before.state_dict())
    for _ in range(3):
        schedule.step(0.6)
    assert schedule.rate == pytest.approx(1e-3)
