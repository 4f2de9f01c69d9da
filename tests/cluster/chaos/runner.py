"""Faults injected one after another into studies of one seed, each compared with the study that nobody disturbed."""

from __future__ import annotations

import pickle
import random
import shutil
import traceback
from pathlib import Path
from typing import Any

from chaos.comparison import Comparison
from chaos.disturbed_study import DisturbedStudy
from chaos.faults import Fault
from chaos.home import make_home
from chaos.nodes import Nodes, why_not
from chaos.table import Row


class FaultRunner:
    """A folder with a home to copy, a cluster that is kept between faults, and the undisturbed studies."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder.absolute(), seed
        self.calm: dict[int, dict[str, Any]] = {}  # by epochs of a fit
        self.nodes: Nodes | None = None

    def __enter__(self) -> FaultRunner:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.template = self.folder / "template"
        if not self.template.exists():
            make_home(self.template)
        return self

    def __exit__(self, *_: object) -> None:
        self.end_cluster()

    def disturbed(self, fault: Fault, number: int, folder: str) -> DisturbedStudy:
        """A study that the fault can happen to."""
        nodes = self.cluster(fault.nodes) if fault.nodes else None
        rng = random.Random(f"{self.seed} {number} {fault.name}")
        path = self.folder / folder
        shutil.rmtree(path, ignore_errors=True)  # of an earlier run in the same folder
        path.mkdir()
        return DisturbedStudy(
            path, self.template, rng, self.seed, fault.epochs, nodes, fault.lanes, **dict(fault.options)
        )

    def cluster(self, num_nodes: int) -> Nodes:
        """So many nodes that run Ray; of an earlier fault those that are left."""
        if self.nodes is not None and len(self.nodes.nodes) > num_nodes:
            self.end_cluster()
        if self.nodes is None:
            self.nodes = Nodes(self.folder / "n").__enter__()
        return self.nodes.up(num_nodes)

    def end_cluster(self) -> None:
        if self.nodes is not None:
            self.nodes.__exit__()
            self.nodes = None

    def undisturbed(self, fault: Fault) -> dict[str, Any]:
        """What comes of the same study, of the same seed, when nothing happens to it."""
        if fault.epochs not in self.calm:
            print(f"undisturbed, {fault.epochs} epochs a fit", flush=True)
            file = self.folder / f"undisturbed-{self.seed}-{fault.epochs}.pickle"
            if not file.exists():
                file.write_bytes(pickle.dumps(self._outcome(fault.epochs)))
            self.calm[fault.epochs] = pickle.loads(file.read_bytes())
        return self.calm[fault.epochs]

    def _outcome(self, epochs: int) -> dict[str, Any]:
        path = self.folder / f"calm{epochs}"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        disturbed = DisturbedStudy(path, self.template, random.Random(0), self.seed, epochs)
        try:
            disturbed.finish()
            return disturbed.outcome()
        finally:
            disturbed.close()

    def act(self, fault: Fault, number: int) -> Row:
        """Let a fault happen, and see what came of it."""
        print(f"{number}. {fault.name}: {fault.text}", flush=True)
        if fault.nodes and (why := why_not()) is not None:
            return Row(fault.name, self.seed, trouble=f"skipped: {why}")
        calm = self.undisturbed(fault)
        disturbed = self.disturbed(fault, number, f"s{number}")
        trouble, found = "", Comparison()
        try:
            fault.act(disturbed)
            found = disturbed.compare(calm)
        except Exception as error:
            traceback.print_exc()
            trouble = (str(error).splitlines() or [type(error).__name__])[0]
        finally:
            disturbed.close()
        row = Row(
            fault.name,
            self.seed,
            tuple(disturbed.codes),
            tuple(disturbed.seconds.items()),
            found.lost,
            found.doubled,
            found.num_again,
            trouble,
        )
        print("   ", "good" if row.is_good else f"BAD: {row}", flush=True)
        return row
