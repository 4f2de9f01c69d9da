"""Cores that this process may use, by affinity, control group and Slurm."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.common.cpus import cgroup_quotas, pooled, usable_cpus, usable_ids


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A file tree as a kernel shows it."""
    for name, content in {"proc/self/cgroup": groups, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content + "\n")
    return root


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/", {"sys/fs/cgroup/cpu.max": "150000 100000"}, 2),
        ("0::/", {"sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ("0::/job/step", {"sys/fs/cgroup/job/cpu.max": "400000 100000"}, 4),
        (
            "0::/a/b",
            {"sys/fs/cgroup/a/cpu.max": "300000 100000", "sys/fs/cgroup/a/b/cpu.max": "800000 100000"},
            3,
        ),
        (
            "4:cpu,cpuacct:/docker/1",  # in the container the group is at the mount itself
            {
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            3,
        ),
        (
            "1:cpu:/",
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
            None,
        ),
        ("", {}, None),
    ],
)
def test_a_quota_is_rounded_up_and_the_tightest_of_all_groups_counts(tmp_path, groups, files, cores):
    assert min(cgroup_quotas(machine(tmp_path, groups, files)), default=None) == cores


@pytest.mark.parametrize(("text", "cores"), [("1", 1), ("0", None), ("many", None), ("100000", None)])
def test_slurm_can_only_lower_the_number_of_cores(monkeypatch, text: str, cores: int | None):
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    free = usable_cpus()
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", text)
    assert usable_cpus() == (cores or free)


def test_a_process_that_is_bound_to_one_core_uses_one_everywhere():
    script = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from orchestrator.common.cpus import usable_cpus; from orchestrator.data.importing.verify import NUM_THREADS\n"
        "from orchestrator.training.process import configure_process; import torch; configure_process()\n"
        "print(usable_cpus(), NUM_THREADS, torch.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1", "1"]
    assert usable_cpus() <= len(usable_ids()) <= (os.cpu_count() or 1)


def test_a_pool_whose_work_is_given_up_begins_nothing_more():
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        time.sleep(0.05)

    with pytest.raises(KeyboardInterrupt), pooled(ThreadPoolExecutor(2)) as pool:
        next(iter(pool.map(work, range(100))))
        raise KeyboardInterrupt
    assert len(begun) < 10
