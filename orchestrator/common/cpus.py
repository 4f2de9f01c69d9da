"""Number of CPU cores that this process may use; under Slurm, in containers or after `taskset` not all."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

Pool = TypeVar("Pool", bound=Executor)

# Environment of processes that train on CPUs, read when torch is imported. A thread of OpenMP that waits for the others
# of its process spins before it sleeps. Where other programs want the cores too, most time goes into that: with 300,000
# turns, as it comes, a step took 25 times as long as on one thread (tests/benchmarks/shared_cpus.py).
SHORT_SPIN = {"GOMP_SPINCOUNT": "1000"}
# Environment of a Ray that is started. By default, Ray's workers have a niceness of 15, and whatever else computes on
# their machine starves them: with two busy processes on two cores, a search of two fits took 82 seconds with the
# niceness of its starter, and had finished none after 420 with Ray's (tests/benchmarks/shared_search.py --limit 420).
NICENESS_OF_STARTER = {"RAY_worker_niceness": "0"}


def usable_cpus() -> int:
    """The minimum of: cores of the affinity mask, the cgroup's quota rounded up, SLURM_CPUS_PER_TASK; at least 1."""
    limits = [len(usable_ids()), *cgroup_quotas(Path("/")), *_of_slurm(os.environ)]
    return max(1, min(limits))


def usable_ids() -> frozenset[int]:
    """The cores on which the scheduler may run this process."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def limit_spinning() -> None:
    """Set SHORT_SPIN for this process, before it imports torch, and those it starts; what a user has set stays."""
    if "OMP_WAIT_POLICY" not in os.environ:
        for name, value in SHORT_SPIN.items():
            os.environ.setdefault(name, value)


@cache
def _thread_pools() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401  # brings a BLAS of its own, which must be loaded to be found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """Context in which NumPy and SciPy compute on one thread; as decorator, for the duration of a call.

    For small matrices while other processes train: threads of BLAS that wait for each other spin, on cores that others
    need; a draw took 2.5 to 4 times as long while one process trained on two cores, 7 to 10 times while several did
    (tests/benchmarks/decision_threads.py). Results do not depend on the number of cores either.
    """
    with _thread_pools().limit(limits=1):
        yield


@contextmanager
def pooled(pool: Pool) -> Iterator[Pool]:
    """Context that cancels the pool's queue on an exception, so that Ctrl-C does not wait for it."""
    try:
        yield pool
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


def _of_slurm(environment: Mapping[str, str]) -> list[int]:
    text = environment.get("SLURM_CPUS_PER_TASK", "")
    return [int(text)] if text.isdecimal() and int(text) > 0 else []


def cgroup_quotas(root: Path) -> list[int]:
    """Cores that the control group of this process, and each parent group, allows, rounded up; [] without a limit."""
    found = []
    for folder in _groups(root):
        limit = _read(folder / "cpu.max") or " ".join(
            [_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")]
        )
        quota, _, period = limit.partition(" ")
        if quota.isdecimal() and period.isdecimal() and int(quota) > 0 and int(period) > 0:
            found.append(math.ceil(int(quota) / int(period)))
    return found


def _groups(root: Path) -> Iterator[Path]:
    """Folders of the groups that account CPU time, innermost first: of version 2, and of version 1's controller.

    In a container that shares the host's names, its own group is the mount itself.
    """
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        names = ["cpu", controllers, "cpu,cpuacct"] if controllers else ["", "unified"]
        for top in dict.fromkeys(mount / name for name in names):
            group = top / path.strip("/")
            yield from dict.fromkeys(
                [group, *(parent for parent in group.parents if parent.is_relative_to(top)), top]
            )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
