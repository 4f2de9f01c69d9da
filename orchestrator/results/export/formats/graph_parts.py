"""Steps before and after the network in pipeline.onnx, in ONNX Script: the same as in `ExportedModel.predict`.

ONNX has no area average, and its linear interpolation does not round as OpenCV's does. So both are written out: each
output pixel is a weighted sum of the pixels that it covers, or of its four neighbours. Of the two, the one that an
image does not need makes zero rows. Maps are turned between rows and columns as plain matrices, which runtimes do fast.
"""

# mypy: ignore-errors
# A compiler reads these functions, Python never runs them; values are tensors.

from __future__ import annotations

from onnxscript import FLOAT, INT64, UINT8, script
from onnxscript import opset18 as op


@script()
def covered(length, side):
    """Area average of `length` to `side` pixels: which (side, K) pixels make one, and their shares (side, 1, K).

    Counted in parts of a pixel, of which `side` make one, so that all is whole until the last division.
    """
    start = op.Unsqueeze(op.Range(0, side, 1) * length, [1])
    pixel = start / side + op.Range(0, (length + side - 1) / side + 1, 1)
    overlap = op.Max(op.Min(pixel * side + side, start + length) - op.Max(pixel * side, start), 0)
    shares = op.Cast(overlap, to=1) / op.Cast(length, to=1)
    return op.Min(pixel, length - 1), op.Unsqueeze(shares, [1])


@script()
def neighbours(length, side):
    """Linear interpolation of `length` to `side` pixels: the two (2, side) pixels of each, and how much of the second.

    That is in 1/2048, (side,); and whether it lies beyond the first or last center.
    """
    center = op.Range(0, side, 1) * 2 * length + length - side  # in halves of the parts of `covered`
    place = op.Cast(op.Cast(center, to=11) / op.Cast(side * 2, to=11), to=1)
    first = op.Cast(op.Floor(place), to=7)
    pixels = op.Concat(op.Unsqueeze(first, [0]), op.Unsqueeze(first + 1, [0]), axis=0)
    outside = op.Or(first < 0, first >= length - 1)
    return op.Min(op.Max(pixels, 0), length - 1), (place - op.Floor(place)) * 2048.0, outside


@script()
def both(second):
    """second (side,) -> (2, side): how much of the first and the second of two pixels, in whole 1/2048."""
    rest = op.Constant(value_float=2048.0) - second
    return op.Round(op.Concat(op.Unsqueeze(rest, [0]), op.Unsqueeze(second, [0]), axis=0))


@script()
def weighted(lines, index, shares):
    """lines (N, M), index (S, K), shares (S, 1, K) -> (S, M): sums of K lines each."""
    return op.Squeeze(op.MatMul(shares, op.Cast(op.Gather(lines, index, axis=0), to=1)), [1])


@script()
def columns_first(rows, width):
    """rows (R, width * 3) -> (width, 3 * R): lines of one column each, channel after channel."""
    num = op.Shape(rows, start=0, end=1) * 3
    return op.Reshape(op.Transpose(rows), op.Concat(op.Unsqueeze(width, [0]), num, axis=0), allowzero=1)


@script()
def averaged(lines, height, width, num_rows, side):
    """lines (H, W * 3) -> (side, 3, num_rows): area averages, rounded as bytes are."""
    index, shares = covered(height, side)
    some = op.Range(0, num_rows, 1)
    rows = weighted(lines, op.Gather(index, some), op.Gather(shares, some))
    column_index, column_shares = covered(width, side)
    sums = weighted(columns_first(rows, width), column_index, column_shares)
    halves = op.And(height == side * 2, width == side * 2)  # for which OpenCV rounds in a way of its own
    whole = op.Where(halves, op.Floor(sums + 0.5), op.Round(sums))
    return op.Reshape(
        whole, op.Concat(op.Unsqueeze(side, [0]), [3], op.Unsqueeze(num_rows, [0]), axis=0), allowzero=1
    )


@script()
def interpolated(lines, height, width, num_rows, side):
    """lines (H, W * 3) -> (side, 3, num_rows): four neighbours each, in whole numbers, rounded where OpenCV rounds."""
    index, place, _ = neighbours(height, side)
    some = op.Range(0, num_rows, 1)
    rows = op.Gather(lines, op.Reshape(op.Gather(index, some, axis=1), [-1]))
    column_index, column_place, outside = neighbours(width, side)
    column_parts = op.Unsqueeze(op.Transpose(both(op.Where(outside, 0.0, column_place))), [1])
    sums = weighted(columns_first(rows, width), op.Transpose(column_index), column_parts)
    four = op.Concat(op.Unsqueeze(side, [0]), [3, 2], op.Unsqueeze(num_rows, [0]), axis=0)
    across = op.Floor(op.Reshape(sums, four, allowzero=1) / 16.0)
    parts = op.Gather(both(place), some, axis=1)
    products = op.Cast(across, to=11) * op.Cast(parts, to=11)  # beyond what float32 counts exactly
    quarters = op.Cast(op.Floor(products / op.Cast(65536.0, to=11)), to=1)
    return op.Floor((op.ReduceSum(quarters, [2], keepdims=0) + 2.0) / 4.0)


@script()
def network_input(image: UINT8, side: INT64, scale: FLOAT):
    """image (H, W, 3) -> (1, 3, side, side): resized, rounded as bytes are, divided."""
    height = op.Gather(op.Shape(image), 0)
    width = op.Gather(op.Shape(image), 1)
    shrinks = op.And(height >= side, width >= side)
    num_rows = op.Where(shrinks, side, op.Constant(value_int=0))
    lines = op.Reshape(image, op.Constant(value_ints=[0, -1]))
    area = averaged(lines, height, width, num_rows, side)
    linear = interpolated(lines, height, width, side - num_rows, side)
    columns = op.Reshape(op.Concat(area, linear, axis=2), op.Constant(value_ints=[0, -1]))
    shape = op.Concat([1, 3], op.Unsqueeze(side, [0]), op.Unsqueeze(side, [0]), axis=0)
    pixels = op.Reshape(op.Transpose(columns), shape) / scale
    return pixels


@script()
def mask_of(image, logits, threshold: FLOAT):
    """logits (1, 1, S, S) -> probability (H, W), and mask (H, W): 1 from the threshold up."""
    sides = op.Shape(image, start=0, end=2)
    full = op.Concat([1, 1], sides, axis=0)
    large = op.Resize(
        op.Sigmoid(logits), None, None, full, mode="linear", coordinate_transformation_mode="half_pixel"
    )
    probability = op.Squeeze(large, [0, 1])
    mask = op.Cast(probability >= threshold, to=2)
    return probability, mask


@script()
def large_mask_of(image, logits, threshold: FLOAT, white_level: FLOAT, reference_area):
    """The mask of `mask_of`, but empty unless more than a share of the frame reaches the white level."""
    probability, over = mask_of(image, logits, threshold)
    line_sums = op.ReduceSum(op.Cast(probability >= white_level, to=1), [1], keepdims=0)
    num_white = op.ReduceSum(op.Cast(line_sums, to=11), keepdims=0)
    num_pixels = op.Cast(op.Size(probability), to=11)
    mask = over * op.Cast(num_white > reference_area * num_pixels, to=2)
    return probability, mask
