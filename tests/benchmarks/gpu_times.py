"""Seconds of a training step and of an inference of every network on one GPU, at 256 and 352 pixels.

    python tests/benchmarks/gpu_times.py OUT.jsonl               # every network; four minutes of an H100
    python tests/benchmarks/gpu_times.py OUT.jsonl pranet unet --device cpu --sides 64 --batch 2

A training step is forward, loss, backward and Adam on a batch, in the precision that a fit has there (bf16 where it is
native); an inference is one image in float32, as networks are scored. Medians, synchronised, after a warm-up. One line
for a network and a side is written as soon as it is measured, and is passed over when the command is given again. A
network that does not run leaves its error in its line. Nothing is asserted about time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from orchestrator import models
from orchestrator.search.fit_jobs import inference_ms
from orchestrator.training.losses.registry import segmentation_loss
from orchestrator.training.optimization.precision import Precision

WARM_UP, TIMED = 3, 8


def timed(step: Callable[[], object], device: torch.device) -> float:
    """Median milliseconds of a step."""
    seconds = []
    for turn in range(WARM_UP + TIMED):
        started = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds += [time.perf_counter() - started] * (turn >= WARM_UP)
    return 1000 * statistics.median(seconds)


def measure(name: str, side: int, batch: int, device: torch.device) -> dict[str, Any]:
    """Times of one network at one size."""
    torch.manual_seed(0)
    params = {"pretrained": False} if "pretrained" in models.params(name) else {}
    network = models.build(name, **params).to(device)
    amp = Precision("auto", device)
    if amp.on_tensor_cores:
        network = network.to(memory_format=torch.channels_last)
    loss_of = segmentation_loss("bce_dice", models.supervision(network))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    image = torch.rand(batch, 3, side, side, device=device)
    mask = (torch.rand(batch, 1, side, side, device=device) > 0.8).float()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with amp.autocast():
            outputs = network(image)
        amp.scaler.scale(loss_of(outputs, mask)).backward()
        amp.scaler.step(optimizer)
        amp.scaler.update()

    found = {"step_ms": timed(step, device)}
    if device.type == "cuda":
        found["peak_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
        torch.cuda.reset_peak_memory_stats(device)
    return found | {"inference_ms": inference_ms(network.eval(), side, device)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 352])
    parser.add_argument("--batch", type=int, default=8)
    args = parser.parse_args()
    device = torch.device(args.device)
    lines = args.out.read_text().splitlines() if args.out.exists() else []
    done = {(one["network"], one["side"]) for one in map(json.loads, lines)}
    for side in args.sides:
        for name in args.networks or models.names():
            if (name, side) in done:
                continue
            try:
                found = measure(name, side, args.batch, device)
            except Exception as error:  # a network that does not run is a finding
                found = {"error": f"{type(error).__name__}: {error}"[:300]}
            row = {"network": name, "side": side, "batch": args.batch, **found}
            with args.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)


if __name__ == "__main__":
    main()
