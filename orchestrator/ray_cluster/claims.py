"""Claims of concurrent searches on this machine, so that two that start their own Ray do not both use all of it.

Every such search has a small file in a folder of its user, and holds a lock (flock) on it, which the kernel releases
even for a killed process. Later searches count the claims.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from orchestrator.common.cpus import usable_cpus, usable_ids
from orchestrator.common.files import private_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Claim:
    """Resources of one search on this machine: its process, cores and GPUs."""

    pid: int
    cpus: int
    ids: tuple[int, ...]  # cores of its affinity mask
    gpus: tuple[str, ...]  # in the form of CUDA_VISIBLE_DEVICES


@contextmanager
def claimed(gpus: Sequence[str] = (), num_gpus: int | None = None) -> Iterator[Claim]:
    """Context with a claim on free cores, and on those of these GPUs that are free, at most `num_gpus`.

    If none are free, cores are split evenly, and GPUs are shared.
    """
    folder = private_folder(claims_folder())
    if folder is None:
        logger.warning("%s cannot be used: other searches on this machine are not counted", claims_folder())
        yield Claim(os.getpid(), usable_cpus(), tuple(sorted(usable_ids())), tuple(gpus)[:num_gpus])
        return
    with FileLock(folder / ".lock"):
        others = _living_claims(folder)
        mine = share(others, usable_cpus(), usable_ids(), gpus, num_gpus)
        path = folder / f"{os.getpid()}-{os.urandom(4).hex()}.json"
        file = path.open("w", encoding="utf-8")
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump(asdict(mine), file)
        file.flush()
    if others and (words := _message(mine, others, usable_cpus(), gpus)):
        logger.warning("%s", words)
    try:
        yield mine
    finally:
        path.unlink(missing_ok=True)
        file.close()


def claims_folder() -> Path:
    """The folder of claims, the same for all searches of a user on this machine, regardless of TMPDIR."""
    return Path(os.environ.get("ORCHESTRATOR_CLAIMS") or f"/tmp/orchestrator-{os.getuid()}")


def share(
    others: Sequence[Claim], cpus: int, ids: frozenset[int], gpus: Sequence[str], num_gpus: int | None = None
) -> Claim:
    """The share of a new search that may use `cpus` of the cores `ids`, and these GPUs, given the others' claims."""
    taken = sum(min(one.cpus, len(ids.intersection(one.ids))) for one in others)
    num_competing = sum(not ids.isdisjoint(one.ids) for one in others)
    left = min(cpus, len(ids) - taken)
    free = [gpu for gpu in gpus if not any(gpu in one.gpus for one in others)] or list(gpus)
    return Claim(
        os.getpid(),
        left if left > 0 else max(1, cpus // (num_competing + 1)),
        tuple(sorted(ids)),
        tuple(free[:num_gpus]),
    )


def _living_claims(folder: Path) -> list[Claim]:
    """Claims of living processes; files of dead ones are removed."""
    found = []
    for path in folder.glob("*.json"):
        with suppress(OSError, ValueError, TypeError, KeyError), path.open("r+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                kept = json.load(file)
                found.append(Claim(kept["pid"], kept["cpus"], tuple(kept["ids"]), tuple(kept["gpus"])))
            else:
                path.unlink(missing_ok=True)
    return found


def _message(mine: Claim, others: Sequence[Claim], cpus: int, gpus: Sequence[str]) -> str:
    """One sentence on other searches with common cores or GPUs; "" if there are none."""
    ids = set(mine.ids)
    overlapping = [one for one in others if ids.intersection(one.ids) or set(gpus).intersection(one.gpus)]
    if not overlapping:
        return ""
    taken = sum(min(one.cpus, len(ids.intersection(one.ids))) for one in overlapping)
    shared = ", shared with them: both will be slower" if taken + mine.cpus > len(ids) else ""
    words = f"this one takes {mine.cpus} of {cpus} cores{shared}"
    if gpus:
        is_shared = any(set(mine.gpus).intersection(one.gpus) for one in overlapping)
        words += f" and GPU {', '.join(mine.gpus)}" + (", shared with them" if is_shared else "")
    pids = ", ".join(str(one.pid) for one in overlapping)
    return f"other searches run on this machine (process {pids}); {words}"
