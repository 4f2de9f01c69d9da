"""Two searches with a Ray of their own each, beside a Ray that somebody started on the same machine."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from head import Cluster
from shell import Shell, wait_until
from tiny_space import tiny_space

from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset

pytestmark = pytest.mark.slow

SPACE = tiny_space(epochs=30)
# Train's cleaner asks another Ray how a controller is, hears that there is none, and gives the lane's place away, or,
# where the lane has none yet, goes away itself.
MISLED = ("Detected that the Ray Train controller actor", "Failed to register placement group with cleaner")


class OneUser(Shell):
    """Commands of somebody who has one token for every Ray."""

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {"RAY_AUTH_TOKEN": "a" * 64}


class Neighbours:
    """What was seen while both searches ran."""

    def __init__(self, shell: Shell, cluster: Cluster) -> None:
        self.shell, self.cluster = shell, cluster
        self.strangers = set(shell.processes())  # those of the head node
        words = ["search", shell.home / "tiny.toml", "--data", "drawn", "--trials", "1", "--rescore", "0"]
        words += ["--device", "cpu", "--lanes", "1", "--address", "local", "--home", shell.home, "--study"]
        with (
            shell.running(*words, "one") as (one, one_says),
            shell.running(*words, "two") as (two, two_says),
        ):
            for says in (one_says, two_says):
                says("trial 0 fold 0")
            time.sleep(3)  # Train looks after its controllers every second
            self.listening = self._listening()
            self.codes = [process.wait(600) for process in (one, two)]

    def _listening(self) -> list[tuple[str, str]]:
        """(address, program) of every port on which a process of the two searches listens."""
        ours = {str(pid) for pid in set(self.shell.processes()) - self.strangers}
        lines = subprocess.run(
            ["ss", "-ltnpH"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        found = []
        for line in lines:
            owners = re.findall(r'"([^"]+)",pid=(\d+)', line)
            if programs := [program for program, pid in owners if pid in ours]:
                found.append((line.split()[3], programs[0]))
        return found

    def logs(self) -> str:
        """All that any process of either Ray wrote."""
        files = self.shell.ray.rglob("session_2*/logs/**/*")
        return "\n".join(file.read_text(errors="replace") for file in files if file.is_file())


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbours]:
    home = tmp_path_factory.mktemp("shared")
    (home / "tiny.toml").write_text(SPACE)
    draw_dataset(home / "frames", num_cases=24, size=32)
    add_dataset(home, "drawn", home / "frames", allow_empty=True)
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as ray:
        shell = OneUser(home, Path(ray))
        cluster = Cluster(shell, temp_dir=shell.ray / "ray")  # where Ray looks for an address by itself
        with cluster.up():
            yield Neighbours(shell, cluster)


def test_both_searches_end_well(neighbours: Neighbours):
    assert neighbours.codes == [0, 0]
    for study in ("one", "two"):
        (row,) = json.loads(neighbours.shell.run("leaderboard", study, "--json"))
        assert row["folds_done"] == 5


def test_no_lane_loses_its_place_because_another_ray_does_not_know_it(neighbours: Neighbours):
    logs = neighbours.logs()
    assert "actor_name:PlacementGroupCleaner" in logs and not [words for words in MISLED if words in logs]


def test_every_port_of_ray_is_closed_to_the_network(neighbours: Neighbours):
    opened = {
        found for found in neighbours.listening if not re.match(r"(127\.|\[::ffff:127\.|\[::1\])", found[0])
    }
    # torch listens for the workers of a fit on all interfaces: one port a lane, that SECURITY.md names.
    assert len(neighbours.listening) > 10 and all("Train" in program for _, program in opened), opened
    assert len(opened) <= 2


def test_the_ray_next_door_was_asked_for_nothing(neighbours: Neighbours):
    wait_until(lambda: neighbours.cluster.available().get("CPU") == 4, lambda: "its cores are not free")
    assert "orchestrator" not in neighbours.cluster.ray("list", "jobs").stdout
