from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from orchestrator.data.cases import Dataset
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.results.export.write import write_bundle
from orchestrator.scoring.postprocess import PostProcess


class TinyNetwork(nn.Module):
    """Two layers and a side output: enough for an export to be able to go wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Conv2d(4, 1, 1)
        self.side = nn.Conv2d(4, 1, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        features = self.features(image - 0.5).relu()
        return 9 * (self.head(features) + 0.25), self.side(features)


@pytest.fixture(scope="session")
def network() -> nn.Module:
    torch.manual_seed(0)
    return TinyNetwork()


@pytest.fixture(scope="session")
def exported(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that tests may read but not change."""
    return write_bundle(
        tmp_path_factory.mktemp("export") / "champion",
        [network],
        network_name="tiny",
        network_params={"width": 4},
        image_size=32,
        masks=PostProcess(131 / 256),
        trained_on={"near": "0" * 32},
        held_out=("near/1",),
        card="# Tiny\n",
    )


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """16 drawn frames of several videos, known as `near`."""
    home = tmp_path_factory.mktemp("home")
    draw_dataset(home / "frames", num_cases=16, size=48)
    return add_dataset(home, "near", home / "frames", groups=home / "frames" / "groups.csv", allow_empty=True)


@pytest.fixture
def bundle_folder(exported: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(exported, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """RGB uint8 (40, 56, 3), smooth enough for outlines to mean something."""
    y, x = np.mgrid[0:40, 0:56]
    return np.stack([128 + 100 * np.sin(x / 9), 128 + 100 * np.cos(y / 7), x + y], axis=-1).astype(np.uint8)
