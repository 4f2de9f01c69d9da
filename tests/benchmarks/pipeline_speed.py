"""pipeline.onnx beside the steps of `orchestrator predict`: CPU time of an image on one thread, and pixels that differ.

    python tests/benchmarks/pipeline_speed.py [NETWORK] [SIDE] [FOLDER_OF_IMAGES]

Without images, drawn frames of four sizes. Weights are random: the time of a network does not depend on them.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import torch

from orchestrator import models
from orchestrator.data.images import EXTENSIONS, read_image
from orchestrator.results.export.bundle import ExportedModel
from orchestrator.results.export.write import write_bundle
from orchestrator.scoring.postprocess import PostProcess

SHAPES = ((288, 384), (530, 622), (1080, 1920), (2160, 3840))
REPEATS = 9


def one_thread(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def milliseconds(run: Callable[[], object]) -> float:
    """The least CPU time of several runs: others on the machine only add to it."""
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return 1000 * min(times)


def drawn(height: int, width: int) -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def main(name: str = "unet", side: int = 352, folder: Path | None = None) -> None:
    torch.manual_seed(0)
    network = models.build(name, **({"pretrained": False} if "pretrained" in models.params(name) else {}))
    with tempfile.TemporaryDirectory() as temporary:
        made = write_bundle(
            Path(temporary) / "bundle",
            [network],
            network_name=name,
            network_params={},
            image_size=side,
            masks=PostProcess(),
            trained_on={},
            held_out=(),
            card="",
            formats=("onnx", "pipeline"),
        )
        ours = replace(ExportedModel.load(made), session=one_thread(made / "model.onnx"))
        pipeline = one_thread(made / "pipeline.onnx")
    images = [drawn(*shape) for shape in SHAPES]
    if folder is not None:
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in EXTENSIONS)
        images = [read_image(file) for file in files[:: max(1, len(files) // 20)]]
    print(f"{name} at {side} x {side}")
    print(f"{'image':>12} {'ours ms':>9} {'pipeline ms':>12} {'ratio':>6} {'pixels that differ':>19}")
    for image in images:
        first = milliseconds(lambda image=image: ours.predict(image))
        second = milliseconds(lambda image=image: pipeline.run(["mask"], {"image": image}))
        (mask,) = pipeline.run(["mask"], {"image": image})
        differ = np.mean(mask != ours.predict(image)[1])
        size = f"{image.shape[0]}x{image.shape[1]}"
        print(f"{size:>12} {first:9.1f} {second:12.1f} {second / first:6.2f} {differ:19.6%}")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(*given[:1], *map(int, given[1:2]), *map(Path, given[2:3]))
