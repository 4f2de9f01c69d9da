from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from inline_lanes import InlineLanes
from tiny_protocol import TINY

from orchestrator.common.display import Display
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.protocols.fits import Wishes
from orchestrator.protocols.plan import TablePlan, plan_table
from orchestrator.protocols.protocol import load_protocol
from orchestrator.protocols.run import RowRun, TableRun, run_table
from orchestrator.protocols.work import Places, TableWork


@dataclass(frozen=True)
class Tiny:
    """A protocol of two small networks, on drawn polyps."""

    home: Path
    file: Path

    @property
    def places(self) -> Places:
        return Places(self.home, self.home / "cache")

    def plan(self, wishes: Wishes = Wishes(), **given: str) -> TablePlan:  # noqa: B008
        return plan_table(load_protocol(str(self.file)), "I", "smoke", wishes, self.home, given)

    def run(self, wishes: Wishes = Wishes(), fails: str = "") -> tuple[TableRun, InlineLanes]:  # noqa: B008
        lanes = InlineLanes(TableWork(self.places), fails)
        return run_table(self.plan(wishes), self.places, lanes, Display()), lanes

    def fabricated(self, plan: TablePlan, rows: dict[str, RowRun]) -> TableRun:
        """A run that scored what is given."""
        return TableRun(plan, rows, ("cpu",), 0.0)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Several threads wait for each other, longer than networks so small take."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    home = tmp_path_factory.mktemp("tiny")
    for seed, (name, number) in enumerate({"kvasir": 60, "cvc-612": 24}.items()):
        draw_dataset(home / f"frames-{name}", num_cases=number, size=48, seed=seed)
        add_dataset(home, name, home / f"frames-{name}", allow_empty=True)
    (home / "tiny.toml").write_text(TINY)
    return Tiny(home, home / "tiny.toml")
