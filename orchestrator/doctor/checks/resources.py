"""Memory, disks, /dev/shm and limits of a node."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from orchestrator.common.files import size_text
from orchestrator.doctor.checks.findings import Result, failure, ok, warning

GIB = 2**30
SHM = Path("/dev/shm")
# Below the first: nothing works; below the second: it works, but not for long.
LEAST_MEMORY, LITTLE_MEMORY = 2 * GIB, 4 * GIB
LEAST_DISK, LITTLE_DISK = 200 * 10**6, 5 * 10**9
LEAST_SHM, LITTLE_SHM = 16 * 2**20, GIB
RAY_STOPS_AT = 0.95  # of the disk that Ray spills to
LEAST_FILES, FEW_FILES = 1024, 8192
FEW_PROCESSES = 4096
NETWORKED = ("nfs", "lustre", "cifs", "smb", "beegfs", "gpfs", "ceph", "fuse.", "glusterfs", "9p", "afs")


def memory(root: Path = Path("/")) -> Iterator[Result]:
    """Free memory of the node, or of its control group."""
    free = available(root)
    found, remedy = f"{size_text(free)} of memory are free", "end other programs here, or request more memory"
    if free < LEAST_MEMORY:
        yield failure(f"{found}; a training process takes about one GB before its images", remedy)
    elif free < LITTLE_MEMORY:
        yield warning(found, f"{remedy}; or use fewer --lanes")
    else:
        yield ok(found)


def available(root: Path = Path("/")) -> int:
    """Available memory in bytes."""
    lines = (line.split() for line in _read(root / "proc/meminfo").splitlines())
    free = next((int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:"), 0)
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        group = root / "sys/fs/cgroup"
        granted, taken = _read(group / limit), _read(group / used)
        if granted.isdecimal() and taken.isdecimal():
            free = min(free, int(granted) - int(taken) + _reclaimable(group / Path(limit).parent))
    return max(0, free)


def _reclaimable(group: Path) -> int:
    """Bytes of cached files in the group's usage, which are released when needed."""
    lines = (line.split() for line in _read(group / "memory.stat").splitlines())
    return next((int(words[1]) for words in lines if words[0] in ("inactive_file", "total_inactive_file")), 0)


def disks(folders: Mapping[str, Path]) -> Iterator[Result]:
    """Free space in these folders, by name; for a missing folder in its nearest existing parent."""
    for name, folder in folders.items():
        place = next(parent for parent in (folder, *folder.parents) if parent.exists())
        usage, inodes = shutil.disk_usage(place), os.statvfs(place)
        found = f"{name} {folder}: {size_text(usage.free)} of {size_text(usage.total)} are free"
        if usage.free < LEAST_DISK:
            yield failure(found, "free space on its disk, or name another folder")
        elif inodes.f_files and not inodes.f_favail:
            yield failure(
                f"{found}, but it accepts no more files",
                "remove small files there, as its inodes are used up",
            )
        elif name == "tmp" and usage.used > RAY_STOPS_AT * usage.total:
            yield warning(
                f"{found}: Ray stores no objects on a disk that is 95 % full",
                "set RAY_TMPDIR to another disk",
            )
        elif usage.free < LITTLE_DISK:
            yield warning(found, "free space on its disk, or name another folder")
        else:
            yield ok(found)


def shared_memory(folder: Path = SHM) -> Iterator[Result]:
    """Size of /dev/shm, which holds Ray's objects and the exchange between GPUs."""
    remedy = "start the container with --shm-size=8g (Kubernetes: an emptyDir in memory at /dev/shm)"
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        yield failure(f"{folder} is missing or cannot be written to", remedy)
        return
    usage = shutil.disk_usage(folder)
    found = f"{folder}: {size_text(usage.free)} of {size_text(usage.total)} are free"
    if usage.free < LEAST_SHM:
        yield failure(found, f"remove unused files there; {remedy}")
    elif usage.free < LITTLE_SHM:
        yield warning(f"{found}: Ray keeps its objects on disk, and GPUs may fail to connect", remedy)
    else:
        yield ok(found)


def limits() -> Iterator[Result]:
    """Limits of open files, processes and file size; Ray itself raises the soft limit of open files."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    processes, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    size, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    bounded = {
        "open files": (
            files,
            LEAST_FILES,
            FEW_FILES,
            "`ulimit -Hn 65536` before Ray starts, as root or in limits.conf",
        ),
        "processes": (processes, 256, FEW_PROCESSES, "`ulimit -u unlimited` before Ray starts"),
        "bytes of a file": (size, LEAST_DISK, LITTLE_DISK, "`ulimit -f unlimited` before Ray starts"),
    }
    is_sound = True
    for name, (limit, least, few, remedy) in bounded.items():
        if limit != resource.RLIM_INFINITY and limit < few:
            is_sound = False
            yield (failure if limit < least else warning)(f"{name} are limited to {limit:,}", remedy)
    if is_sound:
        yield ok(f"open files: {'unlimited' if files == resource.RLIM_INFINITY else f'{files:,}'}")


def networked(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """The kind of network file system of a path, such as nfs4; None for a local disk."""
    place, best = path.absolute(), ("", "")
    for line in _read(mounts).splitlines():
        _, folder, kind, *_ = line.split()
        folder = folder.replace("\\040", " ")
        if place.is_relative_to(folder) and len(folder) >= len(best[0]):
            best = folder, kind
    return best[1] if best[1].startswith(NETWORKED) else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
