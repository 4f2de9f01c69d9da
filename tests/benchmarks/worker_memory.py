"""Memory of the processes of a search: what a lane's worker and the command hold before any image is read.

    python tests/benchmarks/worker_memory.py

Each is a fresh process that imports what the real one imports and builds a U-Net (the worker), or reads a space file
(the command); its peak is the system's own account. Beside the worker: a process that imports torch and ray.train.torch
and builds the same network in segmentation_models_pytorch, as a worker of one's own would.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from rows import Row, add_rows_option, save_rows, spread

PEAK = "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
WORKER = """
import ray.train.torch
from orchestrator import models
from orchestrator.search.fit_jobs import FitJobRunner
from orchestrator.training.ray.lanes import serve
models.build("unet")
"""
OWN_WORKER = """
import ray.train.torch, torch, albumentations
import segmentation_models_pytorch
segmentation_models_pytorch.Unet("vgg13_bn", encoder_weights=None)
"""
COMMAND = """
from pathlib import Path
from orchestrator.cli import search
from orchestrator.search.space.space_file import load_space
load_space(Path("search_spaces/unet.toml"))
"""


def peak(script: str) -> float:
    """MiB."""
    done = subprocess.run([sys.executable, "-c", script + PEAK], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory of the processes of a search.")
    parser.add_argument("--rounds", type=int, default=2)
    add_rows_option(parser)
    options = parser.parse_args()
    ours, theirs, command = (
        tuple(peak(script) for _ in range(options.rounds)) for script in (WORKER, OWN_WORKER, COMMAND)
    )
    own = "a worker that imports ray.train, torch, albumentations and smp"
    rows = [
        Row(
            "memory of a lane's worker before its first fit", own, "MiB", ours, theirs, bound="torch and ray"
        ),
        Row("memory of `search` before Ray is started", "", "MiB", command, bound="imports"),
    ]
    for row in rows:
        against = f"; {row.against} {spread(row.theirs)} MiB" if row.against else ""
        print(f"{row.what}: {spread(row.ours)} MiB{against}")
    save_rows(options.rows, rows)


if __name__ == "__main__":
    main()
