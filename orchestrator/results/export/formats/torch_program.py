"""model.pt2: the network as a program of `torch.export`, which loads without our code."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

TOLERANCE = 1e-4


def write_program(prediction: nn.Module, size: int, path: Path) -> float:
    """Write float32 (B, 3, size, size) -> logits (B, 1, size, size), with a free batch dimension.

    Returns the largest |found - expected| / max(1, |expected|) over logits, after it was loaded again. RuntimeError
    where that is above 1e-4.
    """
    prediction = prediction.eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch's exporter, of itself
        warnings.filterwarnings(
            "ignore", "The given buffer is not writable", UserWarning
        )  # of torch 2.10's loader
        program = torch.export.export(
            prediction,
            (torch.rand(2, 3, size, size),),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
        torch.export.save(program, path)
        loaded = torch.export.load(path).module()
        difference = max(_difference(prediction, loaded, size, batch) for batch in (1, 3))
    if not difference <= TOLERANCE:  # written so that NaN is refused too
        raise RuntimeError(f"{path.name} differs from the network by {difference:.2g}")
    return difference


def _difference(expected: nn.Module, found: nn.Module, size: int, batch: int) -> float:
    image = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(batch))
    ours = expected(image)
    return float(((found(image) - ours).abs() / ours.abs().clamp(min=1)).max())
