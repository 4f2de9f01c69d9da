"""Seconds from `orchestrator search` to its first training step, new or resumed, and from the last fit to its end.

    python tests/benchmarks/start_and_end.py

The command itself, in processes of its own, on a local Ray and drawn frames: two folds, one epoch of a narrow U-Net.
What it does is read from outside: a fit's record says how long it trained and when it was written.

start      From the command to the first step of the first fit. Compared with a script that imports ray and torch,
           starts a local Ray, and waits for the first step in a TorchTrainer: what any program on Ray waits for.
resumed    The same where the study has finished one trial, and the command asks for another.
end        From the last fit's record to the exit: finalists, hold-out, MLflow, leaderboard.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rows import Row, add_rows_option, save_rows, spread

from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset

SPACE = """
network = "unet"
[search]
learning_rate = { log_uniform = [1e-4, 1e-2] }
[fixed]
base_channels = 4
image_size = 32
epochs = 1
batch_size = 4
augmentation = "none"
[baseline]
learning_rate = 1e-3
"""
TRAINER = """
import sys, time, ray.train, torch
from pathlib import Path
from ray.train.torch import TorchTrainer

def step(config):
    torch.nn.Linear(8, 1)(torch.rand(4, 8)).sum().backward()
    Path(config["folder"], "first_step").write_text(str(time.time()))
    ray.train.report({})

ray.init("local", num_cpus=2, log_to_driver=False)
folder = sys.argv[1]
Path(folder).mkdir()
TorchTrainer(step, train_loop_config={"folder": folder}, scaling_config=ray.train.ScalingConfig(num_workers=1),
             run_config=ray.train.RunConfig(name="one", storage_path=folder)).fit()
"""


def first_and_last(home: Path, after: float) -> tuple[float, float]:
    """When the first fit of those on record since then began its training, and when the last one was on record."""
    records = [
        file for file in home.glob("studies/*/ledger/fits/*/record.json") if file.stat().st_mtime > after
    ]
    began = min(file.stat().st_mtime - json.loads(file.read_text())["seconds"] for file in records)
    return began, max(file.stat().st_mtime for file in records)


def search_command(folder: Path, home: Path, trials: int, study: str) -> list[str]:
    """A search on one lane of one worker, two fits for each trial."""
    command = [sys.executable, "-m", "orchestrator", "search", str(folder / "space.toml"), "--data", "drawn"]
    command += ["--splits", "k-fold:2", "--trials", str(trials), "--study", study, "--home", str(home)]
    command += ["--address", "local", "--device", "cpu", "--lanes", "1", "--workers-per-fit", "1"]
    return [*command, "--no-near-duplicates", "--rescore", "0", "--race", "none"]


def search(folder: Path, home: Path, trials: int) -> tuple[float, float]:
    """(When it was called, when it ended.)"""
    called = time.time()
    subprocess.run(search_command(folder, home, trials, "timed"), check=True, capture_output=True)
    return called, time.time()


def measure(folder: Path, number: int) -> dict[str, float]:
    home = folder / f"home-{number}"
    add_dataset(home, "drawn", folder / "frames", allow_empty=True)
    called, ended = search(folder, home, trials=1)
    began, last = first_and_last(home, called)
    again, _ = search(folder, home, trials=2)
    return {
        "start": began - called,
        "end": ended - last,
        "resumed": first_and_last(home, again)[0] - again,
        "trainer": trainer(folder / f"trainer-{number}"),
    }


def trainer(folder: Path) -> float:
    """Seconds from the call of the script to its first step."""
    called = time.time()
    command = [sys.executable, "-c", TRAINER, str(folder)]
    environment = {**os.environ, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return float((folder / "first_step").read_text()) - called


def main() -> None:
    parser = argparse.ArgumentParser(description="How long a search takes to begin and to end.")
    parser.add_argument("--rounds", type=int, default=2)
    add_rows_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "space.toml").write_text(SPACE)
        draw_dataset(folder / "frames", num_cases=24, size=32)
        rounds = [measure(folder, number) for number in range(options.rounds)]
    found = {name: tuple(one[name] for one in rounds) for name in rounds[0]}
    trainer = "a script that starts Ray and one TorchTrainer"
    rows = [
        Row("`search` to its first training step", trainer, "s", found["start"], found["trainer"],
            bound="imports, start of Ray, imports of the lane"),
        Row("resumed study to its first training step", trainer, "s", found["resumed"], found["trainer"],
            bound="imports, start of Ray, imports of the lane"),
        Row("last fit to the end of `search`", "", "s", found["end"], bound="hold-out scores, MLflow, end of Ray"),
    ]  # fmt: skip
    for row in rows:
        against = f"; {row.against} {spread(row.theirs)} s" if row.against else ""
        print(f"{row.what}: {spread(row.ours)} s{against}")
    save_rows(options.rows, rows)


if __name__ == "__main__":
    main()
