"""Milliseconds of a training step on a GPU, as torch lays maps out and with channels last, as fits have them.

    python tests/benchmarks/channels_last.py                            # on a machine with a GPU; a minute
    python tests/benchmarks/channels_last.py --networks unet --size 352 --precision fp32

Each network at its paper's width on a batch of noise that is on the GPU already; the optimizer is that of a fit.
Layouts take turns, three rounds each, and the median round is shown.

Printed on an H100 with torch 2.11, in bf16: U-Net 38.9 and 20.8 ms (1.87 times as fast), ResUNet++ 66.0 and 40.7
(1.62), in fp16 1.94 and 1.48 times. Most of it is BatchNorm, whose kernels for the default layout are slow. PraNet took
76.6 and 94.8 ms, GMSRF-Net 137 and 151, in another run 92.9 and 90.7, 147 and 159: such a GPU waits there for one core
of the CPU to start its kernels, whatever the layout; several fits may share it (shared_gpu.py). No V100 was at hand.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from rows import Row, add_rows_option, save_rows

from orchestrator import models
from orchestrator.training.losses.registry import segmentation_loss
from orchestrator.training.optimization.precision import Precision
from orchestrator.training.process import configure_process
from orchestrator.training.recipe import Recipe

DEVICE = torch.device("cuda")
ROUNDS, STEPS, WARM_UP = 3, 8, 3
LAYOUTS = (torch.contiguous_format, torch.channels_last)


def step_of(name: str, layout: torch.memory_format, recipe: Recipe) -> Callable[[], None]:
    """A training step of a network that is laid out so."""
    params = {"pretrained": False} if "pretrained" in models.params(name) else {}
    torch.manual_seed(0)
    network = models.build(name, **params).to(DEVICE).to(memory_format=layout).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate)
    loss_of = segmentation_loss(recipe.loss, models.supervision(network))
    amp = Precision(recipe.precision, DEVICE)
    shape = (recipe.batch_size, 1, recipe.image_size, recipe.image_size)
    image = torch.rand(shape, device=DEVICE).repeat(1, 3, 1, 1)
    mask = (torch.rand(shape, device=DEVICE) > 0.9).float()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with amp.autocast():
            outputs = network(image)
        amp.scaler.scale(loss_of(outputs, mask)).backward()
        amp.scaler.step(optimizer)
        amp.scaler.update()

    return step


def milliseconds(step: Callable[[], None], count: int) -> float:
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(count):
        step()
    torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - began) / count


def main() -> None:
    parser = argparse.ArgumentParser(description="Training steps in two layouts of memory.")
    parser.add_argument("--networks", nargs="+", default=["unet", "resunet_pp", "pranet", "gmsrf_net"])
    parser.add_argument("--size", type=int, default=256, help="side of images, in pixels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16", "fp16"], default="auto")
    add_rows_option(parser)
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        print("skipped: a GPU is needed, found none")
        return
    configure_process()
    recipe = Recipe(image_size=asked.size, epochs=1, batch_size=asked.batch, precision=asked.precision)
    table = Table(
        *("network", "by default, ms", "channels last, ms", "times as fast"),
        title=f"a step of {asked.batch} images of {asked.size} pixels, {asked.precision}; "
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}",
    )
    rows = []
    for name in asked.networks:
        steps = [step_of(name, layout, recipe) for layout in LAYOUTS]
        for step in steps:
            milliseconds(step, WARM_UP)
        rounds = [[milliseconds(step, STEPS) for step in steps] for _ in range(ROUNDS)]
        default, channels_last = zip(*rounds, strict=True)
        what, against = (
            f"training step of {name} on a GPU, channels last",
            "the layout that torch has by default",
        )
        rows.append(Row(what, against, "ms", channels_last, default, bound="convolutions of cuDNN"))
        plain, last = (statistics.median(found) for found in zip(*rounds, strict=True))
        table.add_row(name, f"{plain:.1f}", f"{last:.1f}", f"{plain / last:.2f}")
    Console(width=110).print(table)
    save_rows(asked.rows, rows)


if __name__ == "__main__":
    main()
