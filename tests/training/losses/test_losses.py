from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from orchestrator.models import Supervision
from orchestrator.training.losses.edges import (
    all_pairs_distance_to,
    boundary_f1,
    edge_distance,
    edge_weight,
    outline,
)
from orchestrator.training.losses.registry import LOSSES, segmentation_loss
from orchestrator.training.recipe import Recipe

NAMES = Recipe.model_fields["loss"].annotation.__args__

SQUARE = torch.zeros(1, 1, 64, 64)
SQUARE[..., 16:48, 16:48] = 1
FLAT = torch.zeros(1, 1, 64, 64)
SLOPE = torch.linspace(-3, 3, 64).expand(1, 1, 64, 64)


def value(name: str, logits: Tensor, mask: Tensor) -> float:
    return segmentation_loss(name)((logits,), mask).item()


def random_batch(num_images: int, num_outputs: int = 1) -> tuple[tuple[Tensor, ...], Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_outputs, num_images, 1, 32, 40, generator=generator)
    mask = (torch.rand(num_images, 1, 32, 40, generator=generator) > 0.7).float()
    return tuple(logits), mask


def test_edge_weight_of_a_square_sums_to_the_reference_values():
    weight = edge_weight(SQUARE)
    assert weight.sum().item() == pytest.approx(8451.462, abs=1e-2)
    assert (weight * SQUARE).sum().item() == pytest.approx(3201.732, abs=1e-2)


def test_edge_weight_of_a_full_mask_is_one_inside_and_large_in_the_corner():
    weight = edge_weight(torch.ones(1, 1, 64, 64))
    assert weight[0, 0, 32, 32].item() == pytest.approx(1.0, abs=1e-5)
    assert weight[0, 0, 0, 0].item() == pytest.approx(4.668, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "logits", "expected"),
    [
        ("bce", FLAT, 0.693147),
        ("bce", SLOPE, 1.016325),
        ("mse", FLAT, 0.25),
        ("structure", FLAT, 0.693147 + 0.725124),
        ("structure", SLOPE, 0.952517 + 0.725124),
        ("structure_unweighted_bce", FLAT, 0.693147 + 0.725124),
        ("structure_unweighted_bce", SLOPE, 1.016325 + 0.725124),
        ("structure_pixel_iou", FLAT, 0.693147 + 0.301764),
        ("structure_pixel_iou", SLOPE, 0.952517 + 0.279899),
    ],
)
def test_loss_of_the_square_has_its_reference_value(name, logits, expected):
    assert value(name, logits, SQUARE) == pytest.approx(expected, abs=2e-6)


def test_dice_and_iou_of_a_flat_half_are_what_the_hand_gets():
    # 1024 of 4096 pixels are polyp and every probability is 0.5: overlap 512, sum 2048, mask 1024.
    assert value("dice", FLAT, SQUARE) == pytest.approx(1 - 1025 / 3073)
    assert value("iou", FLAT, SQUARE) == pytest.approx(1 - 513 / 2561)


def test_mean_squared_error_is_that_of_probabilities():
    # Probability 0.75 everywhere: 1024 pixels of polyp are off by 0.25, the other 3072 by 0.75.
    logits = torch.full((1, 1, 64, 64), math.log(3))
    assert value("mse", logits, SQUARE) == pytest.approx((1024 * 0.0625 + 3072 * 0.5625) / 4096)


@pytest.mark.parametrize("overlap", ["dice", "iou"])
def test_bce_and_an_overlap_loss_add_up(overlap):
    together = value(f"bce_{overlap}", SLOPE, SQUARE)
    assert together == pytest.approx(value("bce", SLOPE, SQUARE) + value(overlap, SLOPE, SQUARE))


@pytest.mark.parametrize("name", NAMES)
def test_a_sure_and_right_prediction_costs_nearly_nothing_and_a_sure_wrong_one_much(name):
    sure = 40 * SQUARE - 20
    assert value(name, sure, SQUARE) < 1e-3
    assert value(name, -sure, SQUARE) > 0.9


@pytest.mark.parametrize(
    "name",
    [
        "dice",
        "iou",
        "bce_dice",
        "structure",
        "tversky",
        "focal_tversky",
        "lovasz_hinge",
        "dice_boundary",
        "bce_dice_boundary_f1",
    ],
)
def test_an_empty_mask_that_is_left_empty_costs_nearly_nothing(name):
    assert value(name, torch.full((1, 1, 64, 64), -20.0), torch.zeros(1, 1, 64, 64)) < 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_over_workers_is_the_loss_of_the_whole_batch(name):
    outputs, mask = random_batch(4, num_outputs=2)
    loss = segmentation_loss(name)
    halves = [loss(tuple(o[part] for o in outputs), mask[part]) for part in (slice(0, 2), slice(2, 4))]
    assert torch.stack(halves).mean().item() == pytest.approx(loss(outputs, mask).item(), rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_add_up_with_equal_weight(name):
    outputs, mask = random_batch(3, num_outputs=3)
    loss = segmentation_loss(name)
    alone = sum(loss((output,), mask).item() for output in outputs)
    assert loss(outputs, mask).item() == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_large_half_precision_logits_give_a_finite_float32_loss_and_gradient(name, dtype):
    logits = (SLOPE * 1000).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        loss = segmentation_loss(name)((logits,), SQUARE)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_step_down_the_gradient_lowers_the_loss(name):
    (logits,), mask = random_batch(2)
    logits = logits.clone().requires_grad_()
    loss = segmentation_loss(name)
    (gradient,) = torch.autograd.grad(loss((logits,), mask), logits)
    assert loss((logits - gradient / gradient.norm(),), mask) < loss((logits,), mask)


def test_an_unknown_loss_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'dicee'.*bce_dice.*structure"):
        segmentation_loss("dicee")


def test_a_mask_that_would_be_broadcast_is_refused():
    outputs, mask = random_batch(2)
    with pytest.raises(ValueError, match=r"\(1, 1, 32, 40\)"):
        segmentation_loss("bce")(outputs, mask[:1])


def test_squared_dice_of_a_flat_map_over_a_quarter_has_its_value_by_hand():
    # I = 512, squared probabilities 1024, mask 1024: 1 - 1025 / 2049.
    assert value("bce_squared_dice", FLAT, SQUARE) == pytest.approx(math.log(2) + 1 - 1025 / 2049, abs=2e-6)


def test_the_outline_is_the_inner_line_of_one_pixel():
    ring = SQUARE.clone()
    ring[..., 17:47, 17:47] = 0
    assert torch.equal(outline(SQUARE), ring)
    assert outline(torch.ones(1, 1, 8, 8)).sum() == 0


def test_supervision_weighs_outputs_and_trains_outlines_by_cross_entropy_on_the_outline():
    outputs, mask = random_batch(3, num_outputs=3)
    told = (Supervision(weight=2.0), Supervision(), Supervision(of="outline", weight=0.5))
    expected = (
        2 * segmentation_loss("dice")(outputs[:1], mask)
        + segmentation_loss("dice")(outputs[1:2], mask)
        + 0.5 * segmentation_loss("bce")(outputs[2:], outline(mask))
    )
    assert segmentation_loss("dice", told)(outputs, mask).item() == pytest.approx(expected.item(), rel=1e-6)


def test_supervision_for_another_number_of_outputs_is_refused():
    outputs, mask = random_batch(2, num_outputs=3)
    with pytest.raises(ValueError, match="3 outputs, but supervision for 2"):
        segmentation_loss("bce", [Supervision()] * 2)(outputs, mask)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_empty_and_full_masks_have_a_finite_loss_and_gradient(name, share):
    for sure in (-20.0, 0.0, 20.0):
        logits = torch.full((2, 1, 32, 32), sure, requires_grad=True)
        loss = segmentation_loss(name)((logits,), torch.full((2, 1, 32, 32), share))
        loss.backward()
        assert loss.isfinite() and logits.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_is_that_of_finite_differences(name):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(1, 1, 6, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    mask = (torch.rand(1, 1, 6, 7, generator=generator) > 0.5).double()
    assert torch.autograd.gradcheck(lambda one: LOSSES[name](one, mask), logits)


def test_tversky_of_a_flat_half_is_what_the_hand_gets():
    # Overlap 512, too many 0.5 x 3072, missed 0.5 x 1024.
    index = 513 / (512 + 0.3 * 1536 + 0.7 * 512 + 1)
    assert value("tversky", FLAT, SQUARE) == pytest.approx(1 - index)
    assert value("focal_tversky", FLAT, SQUARE) == pytest.approx((1 - index) ** 0.75)


def test_tversky_with_halves_would_be_dice_so_a_missed_polyp_costs_more_than_one_too_many():
    small, large = SQUARE.roll(8, -1) * SQUARE, (SQUARE + SQUARE.roll(8, -1)).clamp(max=1)
    missing, more = (value("tversky", 40 * one - 20, SQUARE) for one in (small, large))
    assert missing == pytest.approx(1 - 769 / (768 + 0.7 * 256 + 1), abs=1e-6)
    assert more == pytest.approx(1 - 1025 / (1024 + 0.3 * 256 + 1), abs=1e-6)


def test_lovasz_of_sure_maps_is_one_less_iou_and_of_four_pixels_what_the_hand_gets():
    # Hinges 2 where sure and wrong, 0 where right: twice 1 - IoU.
    wrong = SQUARE.roll(8, -1) * 2 - 1
    assert value("lovasz_hinge", wrong, SQUARE) == pytest.approx(2 * (1 - 768 / 1280), abs=1e-6)
    # Hinges 3 (polyp), 1.5 (rest), 0.5 (polyp), 0 (rest); 1 - IoU grows by 1/2, 1/6, 1/3 and 0.
    logits, mask = torch.tensor([-2.0, 0.5, 0.5, -1.0]), torch.tensor([1.0, 0.0, 1.0, 0.0])
    expected = 3 / 2 + 1.5 / 6 + 0.5 / 3
    assert value("lovasz_hinge", logits.view(1, 1, 2, 2), mask.view(1, 1, 2, 2)) == pytest.approx(expected)


def test_a_pixel_away_from_the_edge_costs_its_distance_over_the_side():
    # One sure and wrong pixel, 11 columns left of the square: 11 - 0.5 pixels of 64 from the edge.
    logits = 40 * SQUARE - 20
    wrong = logits.clone()
    wrong[0, 0, 32, 5] = 20
    cost = value("dice_boundary", wrong, SQUARE) - value("dice", wrong, SQUARE)
    assert cost == pytest.approx(10.5 / 64 / 4096, abs=1e-8)


@pytest.mark.parametrize("shape", [(40, 40), (24, 57)])
def test_distances_on_a_gpu_are_those_of_opencv(shape):
    generator = np.random.default_rng(0)
    masks = torch.from_numpy((generator.random((3, 1, *shape)) > 0.95).astype(np.float32))
    kinds = (1 - masks[:, 0]).numpy().astype(np.uint8)
    expected = [cv2.distanceTransform(one, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for one in kinds]
    np.testing.assert_allclose(all_pairs_distance_to(masks)[:, 0], np.stack(expected), atol=1e-5)


def test_a_mask_without_an_edge_has_no_distances():
    assert edge_distance(torch.zeros(1, 1, 8, 8)).sum() == edge_distance(torch.ones(1, 1, 8, 8)).sum() == 0


def test_outlines_within_the_tolerance_agree_and_beyond_it_do_not():
    # At 64 pixels the tolerance is one: a square moved by one pixel has the same outline, by four a third of it.
    assert boundary_f1(SQUARE.roll(1, -1), SQUARE).item() == pytest.approx(1)
    assert boundary_f1(SQUARE.roll((4, 4), (-2, -1)), SQUARE).item() < 0.1


def test_a_flat_map_has_no_outline():
    assert outline(torch.full((1, 1, 8, 8), 0.3)).abs().max() < 1e-7
