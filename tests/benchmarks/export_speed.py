"""Inference of an exported network on the CPU: model.onnx and model.int8.onnx beside PyTorch, on one thread.

    python tests/benchmarks/export_speed.py
    python tests/benchmarks/export_speed.py pranet gmsrf_net --side 256 --rounds 5

The network at its paper's width with random weights, a batch of one frame, forward pass alone; the ways take turns, and
of several passes the fastest counts, in CPU time. PyTorch's runs as one would write it: `eval()`, `inference_mode()`.
float32 must give the same logits as PyTorch within 1e-3, or `RuntimeError` ends the run. What 8 bits cost in Dice is in
the card of each export, for a trained network.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import torch
from rows import Row, add_rows_option, save_rows, spread

from orchestrator import models
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.results.export.formats.fewer_bits import StudyImages
from orchestrator.results.export.write import write_bundle
from orchestrator.scoring.postprocess import PostProcess

FILES = {"model.onnx": "float32", "model.int8.onnx": "int8"}


def milliseconds(run: Callable[[], object], passes: int) -> float:
    times = []
    for _ in range(passes):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return 1e3 * min(times)


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def logits(run: onnxruntime.InferenceSession, frame: np.ndarray) -> np.ndarray:
    return run.run(["logits"], {"image": frame})[0]


def measure(name: str, options: argparse.Namespace, images: StudyImages, folder: Path) -> list[Row]:
    torch.manual_seed(0)
    network = models.build(
        name, **({"pretrained": False} if "pretrained" in models.params(name) else {})
    ).eval()
    made = write_bundle(
        folder / name,
        [network],
        network_name=name,
        network_params={},
        image_size=options.side,
        masks=PostProcess(),
        trained_on={},
        held_out=(),
        card="",
        formats=("onnx", "int8"),
        images=images,
    )
    frame = np.random.default_rng(0).random((1, 3, options.side, options.side), dtype=np.float32)
    tensor = torch.from_numpy(frame)

    def eager() -> np.ndarray:
        with torch.inference_mode():
            return network(tensor)[0].numpy()

    ways: dict[str, Callable[[], np.ndarray]] = {"eager": eager}
    for file in FILES:
        ways[file] = partial(logits, session(made / file), frame)
    apart = np.abs(ways["model.onnx"]() - eager()).max()
    if apart > 1e-3:
        raise RuntimeError(f"{name}: logits of model.onnx differ from PyTorch's by {apart}")
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(options.rounds):
        for way in ways if number % 2 == 0 else reversed(ways):
            found[way].append(milliseconds(ways[way], options.passes))
    return [
        Row(
            f"inference of {name} at {options.side}, {bits}, one thread",
            "PyTorch, eager",
            "CPU ms a frame",
            tuple(found[file]),
            tuple(found["eager"]),
            bound="convolutions of onnxruntime",
        )
        for file, bits in FILES.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Exported networks on the CPU, beside PyTorch.")
    parser.add_argument("names", nargs="*", default=["unet", "pranet", "encoder_decoder"])
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--passes", type=int, default=3, help="of each way in a round; the fastest counts")
    parser.add_argument("--rounds", type=int, default=3)
    add_rows_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        draw_dataset(folder / "frames", num_cases=8, size=options.side)
        cases = add_dataset(folder / "home", "drawn", folder / "frames", allow_empty=True).cases
        images = StudyImages(cases, cases, "drawn frames")
        for name in options.names:
            rows += measure(name, options, images, folder)
            for row in rows[-len(FILES) :]:
                print(
                    f"{row.what}: {spread(row.ours)} ms, {spread(row.ratios)} times as fast as {row.against}"
                )
    save_rows(options.rows, rows)


if __name__ == "__main__":
    main()
