"""What a network costs beside U-Net-64, and beside the same kind of network in a well-kept library.

    python tests/benchmarks/network_cost.py                    # every network; ten minutes of one core
    python tests/benchmarks/network_cost.py gmsrf_net:code pranet --rounds 9 --json
    python tests/benchmarks/network_cost.py --threads 4 --side 352

NAME:VARIANT builds that variant; without names, every network is measured as its paper has it. A round times U-Net-64
and the network in turn, `--repeats` times, so what else the machine does hits both; the ratio is of the fastest of
each. What is timed is what the process computes, not how long it waited for a core. Random weights, float32.

Where segmentation_models_pytorch has such a network, a last column compares the two: seconds per multiply-accumulate of
a forward pass, ours / theirs, for its encoders are others than those of the papers. DeepLabv3+ here is that library's.
With --library-only, only this is timed.

Nothing is asserted about time; an output that is not finite raises `RuntimeError`.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import segmentation_models_pytorch
import torch
from rich.console import Console
from rich.table import Table
from rows import Row, add_rows_option, save_rows, spread
from torch import nn

from orchestrator import models
from orchestrator.models.cost import multiply_accumulates, on_meta, size

REFERENCE = "unet"  # with 64 channels at full size
# Networks of segmentation_models_pytorch: class, encoder.
COUNTERPARTS = {
    "unet": ("Unet", "vgg13_bn"),
    "unet_pp": ("UnetPlusPlus", "vgg13_bn"),
    "unet_pp:port": ("UnetPlusPlus", "vgg13_bn"),
    "deeplabv3p_mobilenet": ("DeepLabV3Plus", "tu-mobilenetv2_100"),
    "deeplabv3p_xception": ("DeepLabV3Plus", "tu-xception65"),
}


@dataclass(frozen=True)
class Measured:
    """One network against the reference."""

    name: str
    parameters: int
    gmac: float  # of one forward pass
    seconds: float  # median forward pass
    forward: tuple[float, ...]  # network / reference, a ratio a round
    step: tuple[float, ...]
    pair: tuple[float, ...]  # time per multiply-accumulate of a forward pass, network / the library's
    pair_step: tuple[float, ...]  # the same of a training step


class Counterpart(nn.Module):
    """A network of the library, with a tuple as output."""

    def __init__(self, architecture: str, encoder: str) -> None:
        super().__init__()
        self.network = getattr(segmentation_models_pytorch, architecture)(encoder, encoder_weights=None)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.network(image),)


def build(name: str) -> nn.Module:
    """NAME or NAME:VARIANT, with random weights."""
    network, _, variant = name.partition(":")
    values = {"pretrained": False} if "pretrained" in models.params(network) else {}
    return models.build(network, **values, **({"variant": variant} if variant else {}))


def forward(network: nn.Module, image: torch.Tensor) -> Callable[[], None]:
    def run() -> None:
        with torch.inference_mode():
            if not network.eval()(image)[0].isfinite().all():
                raise RuntimeError("a prediction is not finite")

    return run


def step(network: nn.Module, image: torch.Tensor) -> Callable[[], None]:
    mask = (image.mean(dim=1, keepdim=True) > 0.5).float()
    optimizer = torch.optim.Adam(network.parameters())

    def run() -> None:
        outputs = network.train()(image)
        losses = [nn.functional.binary_cross_entropy_with_logits(output, mask) for output in outputs]
        loss = torch.stack(losses).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return run


def ratios(
    reference: Callable[[], None], other: Callable[[], None], rounds: int, repeats: int
) -> tuple[list[float], list[float]]:
    """(seconds of `other`, other / reference) of each round."""
    seconds, found = [], []
    for _ in range(rounds):
        base, own = zip(*((timed(reference), timed(other)) for _ in range(repeats)), strict=True)
        seconds.append(min(own))
        found.append(seconds[-1] / min(base))
    return seconds, found


def timed(run: Callable[[], None]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def giga_macs(name: str, side: int) -> float:
    """Of a forward pass."""
    network, _, variant = name.partition(":")
    return (
        multiply_accumulates(on_meta(network, **({"variant": variant} if variant else {})), side, side) / 1e9
    )


def images(side: int, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One image and a batch, the same for every network."""
    torch.manual_seed(0)
    return torch.rand(1, 3, side, side), torch.rand(batch, 3, side, side)


def measure(name: str, side: int, batch: int, rounds: int, repeats: int) -> Measured:
    one, several = images(side, batch)
    base, network = build(REFERENCE), build(name)
    for one_of_both in (base, network):
        forward(one_of_both, one)()  # does not count
    seconds, forwards = ratios(forward(base, one), forward(network, one), rounds, repeats)
    _, steps = ratios(step(base, several), step(network, several), rounds, repeats)
    return Measured(
        name,
        size(network).learnable,
        giga_macs(name, side),
        statistics.median(seconds),
        tuple(forwards),
        tuple(steps),
        *(beside_library(name, side, batch, rounds, repeats) if name in COUNTERPARTS else ((), ())),
    )


def beside_library(
    name: str, side: int, batch: int, rounds: int, repeats: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Time per multiply-accumulate, network / the library's, a ratio a round: of a forward pass of one image, and of a
    training step on a batch.
    """
    one, several = images(side, batch)
    network, counterpart = build(name), Counterpart(*COUNTERPARTS[name])
    with torch.device("meta"):
        theirs = multiply_accumulates(Counterpart(*COUNTERPARTS[name]), side, side) / 1e9
    fewer = theirs / giga_macs(name, side)
    for one_of_both in (counterpart, network):
        forward(one_of_both, one)()  # does not count
    _, forwards = ratios(forward(counterpart, one), forward(network, one), rounds, repeats)
    _, steps = ratios(step(counterpart, several), step(network, several), rounds, repeats)
    return tuple(fewer * ratio for ratio in forwards), tuple(fewer * ratio for ratio in steps)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Networks against U-Net-64, in time.")
    parser.add_argument("names", nargs="*", default=[], help="NAME or NAME:VARIANT; default: all")
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--batch", type=int, default=2, help="images of a training step")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=1, help="of both, in a round; the fastest counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--library-only", action="store_true", help="beside the library's networks only")
    parser.add_argument("--json", action="store_true")
    add_rows_option(parser)
    asked = parser.parse_args(arguments)
    unknown = [name for name in asked.names if name.partition(":")[0] not in models.names()]
    if unknown:
        parser.error(f"no network is named {', '.join(unknown)}; known: {', '.join(models.names())}")
    torch.set_num_threads(asked.threads)
    how = asked.side, asked.batch, asked.rounds, asked.repeats
    if asked.library_only:
        rows = [
            row
            for name in asked.names or COUNTERPARTS
            if name in COUNTERPARTS
            for row in bench_rows(name, *beside_library(name, *how))
        ]
        for row in rows:
            print(f"{row.what}: {spread(row.ours)} {row.unit} ({row.against})")
        save_rows(asked.rows, rows)
        return
    found = []
    for name in asked.names or models.names():
        found.append(measure(name, *how))
        told = f"forward {spread(found[-1].forward)}, step {spread(found[-1].step)}"
        print(f"{name}: {told} x U-Net-64", file=sys.stderr, flush=True)
    save_rows(
        asked.rows,
        [row for one in found if one.pair for row in bench_rows(one.name, one.pair, one.pair_step)],
    )
    if asked.json:
        print(json.dumps([asdict(one) for one in found], indent=1))
        return
    table = Table(
        title=f"CPU time / U-Net-64 at {asked.side} pixels: median (min to max) of {asked.rounds} rounds"
    )
    for head in (
        "network",
        "parameters",
        "GMAC",
        "forward s",
        "forward",
        f"step of {asked.batch}",
        "library",
    ):
        table.add_column(head, justify="left" if head == "network" else "right")
    for one in found:
        table.add_row(
            one.name,
            f"{one.parameters:,}",
            f"{one.gmac:.1f}",
            f"{one.seconds:.2f}",
            spread(one.forward),
            spread(one.step),
            spread(one.pair) if one.pair else "",
        )
    console = Console(width=None if sys.stdout.isatty() else 130)
    console.print(table)
    console.print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")


def bench_rows(name: str, pair: tuple[float, ...], pair_step: tuple[float, ...]) -> list[Row]:
    """Both per multiply-accumulate, in shares of the library's time, since encoders differ."""
    library = f"segmentation_models_pytorch, {COUNTERPARTS[name][0]}"
    bound = "convolutions of oneDNN, the same in both"
    return [
        Row(
            f"{what} of {name}, one thread",
            library,
            "time per MAC / theirs",
            per_mac,
            (1.0,) * len(per_mac),
            bound=bound,
        )
        for what, per_mac in (("forward pass", pair), ("training step", pair_step))
    ]


if __name__ == "__main__":
    main()
