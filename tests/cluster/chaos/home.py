"""The home that every hurt study begins with a copy of."""

from __future__ import annotations

from pathlib import Path

from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset

SPACE = """
network = "unet"
[search]
base_channels = { int = [4, 8], step = 2 }
learning_rate = { log_uniform = [1e-4, 3e-2] }
[fixed]
image_size = 32
epochs = EPOCHS
batch_size = 8
[baseline]
base_channels = 4
learning_rate = 5e-3
"""
SHORT, LONG = 8, 60  # epochs of a fit: a fifth of a second each, at least


def make_home(home: Path) -> Path:
    """A home with a drawn dataset and search spaces."""
    for epochs in (SHORT, LONG):
        home.mkdir(exist_ok=True)
        (home / f"{epochs}.toml").write_text(SPACE.replace("EPOCHS", str(epochs)))
    draw_dataset(home / "frames", num_cases=30, size=48, seed=0)
    add_dataset(home, "near", home / "frames", groups=home / "frames" / "groups.csv", allow_empty=True)
    return home
