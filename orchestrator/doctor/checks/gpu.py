"""GPUs: compiled code for their architecture, a recent driver, free memory."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from orchestrator.common.files import size_text
from orchestrator.doctor.checks.findings import Result, failure, ok, warning
from orchestrator.training.gpu_kernels import INSTALL, compiled_for, gpu_name, remedy_for, without_kernels

# Oldest branch of NVIDIA's driver for each major version of CUDA, with any minor version.
OLDEST_DRIVER = {11: "R450", 12: "R525", 13: "R580"}
HELD = 0.1  # share of a GPU's memory that other processes may hold without a warning
QUERY = "index,uuid,name,driver_version,memory.total,memory.used"


@dataclass(frozen=True)
class Card:
    """A GPU according to nvidia-smi."""

    uuid: str
    name: str
    driver: str
    total_mib: int
    used_mib: int


def architectures(devices: Sequence[int] | None = None) -> Iterator[Result]:
    """Whether PyTorch was compiled for these GPUs, by default all visible ones; or why it finds none."""
    if not torch.cuda.is_available():
        yield from unusable()
        return
    if torch.version.hip:
        yield ok(f"{torch.cuda.device_count()} GPUs of AMD")
        return
    if missing := without_kernels(devices):
        for one in missing:
            yield failure(f"GPU {one.index}: {one.why}", remedy_for([one.capability]))
        return
    names = [gpu_name(index) for index in range(torch.cuda.device_count())]
    counted = ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    yield ok(f"{counted}; PyTorch {torch.__version__} was compiled for {' '.join(compiled_for())}")


def unusable() -> Iterator[Result]:
    """Why PyTorch finds no GPU: there is none, its driver is too old, or PyTorch was built without CUDA."""
    present = devices_present()
    if not present:
        yield ok("no GPU: fits train on CPUs")
    elif os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1"):
        yield ok("CUDA_VISIBLE_DEVICES hides every GPU: fits train on CPUs")
    elif torch.version.cuda is None:
        yield failure(
            f"{len(present)} GPUs found, but PyTorch {torch.__version__} was built without CUDA",
            f"`{INSTALL}` from the default package index, or --device cpu",
        )
    elif (result := _old_driver(cuda_of_driver())) is not None:
        yield result
    else:
        yield failure(
            f"{len(present)} GPUs found, but PyTorch {torch.__version__} cannot use them",
            "run `python -c 'import torch; torch.cuda.init()'` for the reason; or --device cpu",
        )


def driver() -> Iterator[Result]:
    """Whether the driver supports the CUDA that PyTorch was built for."""
    if not devices_present() or torch.version.cuda is None:
        return
    supported = cuda_of_driver()
    if (result := _old_driver(supported)) is not None:
        yield result
    elif supported is not None:
        major, minor = supported
        yield ok(
            f"driver {_driver_version()} supports CUDA {major}.{minor}; PyTorch was built for {torch.version.cuda}"
        )
    else:
        yield failure(
            "libcuda.so.1 is not found or does not respond",
            "install NVIDIA's driver; check with `nvidia-smi`",
        )


def _old_driver(supported: tuple[int, int] | None) -> Result | None:
    """Failure for a driver of an older major CUDA version than PyTorch's; within a major version all work."""
    built = int((torch.version.cuda or "0").split(".")[0])
    if supported is None or supported[0] >= built:
        return None
    remedy = f"update the driver to {OLDEST_DRIVER.get(built, 'a newer branch')} or newer"
    if supported[0] == 12:
        remedy += f", or `{INSTALL}` for a PyTorch built for CUDA 12"
    return failure(
        f"driver {_driver_version()} supports CUDA up to {supported[0]}.{supported[1]}, PyTorch {torch.__version__} "
        f"was built for {torch.version.cuda}",
        remedy,
    )


def memory() -> Iterator[Result]:
    """Whether other processes hold GPU memory."""
    if not devices_present():
        return
    cards = list_cards()
    if not cards:
        yield warning(
            "nvidia-smi is missing or does not respond: memory held by other processes is unknown",
            "in a container set NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        )
    for index, card in enumerate(cards):
        if card.used_mib > HELD * card.total_mib:
            yield warning(
                f"GPU {index}, {card.name}: other processes hold {size_text(card.used_mib * 2**20)} of "
                f"{size_text(card.total_mib * 2**20)}",
                "`nvidia-smi` lists the processes; end them, or exclude this GPU by CUDA_VISIBLE_DEVICES",
            )
    free = [card.total_mib - card.used_mib for card in cards if card.used_mib <= HELD * card.total_mib]
    if free:
        yield ok(f"{len(free)} GPUs with {size_text(min(free) * 2**20)} free or more")


def devices_present() -> list[Path]:
    """Device files of GPUs that this process may open; a job's control group may forbid some."""
    return [path for path in sorted(Path("/dev").glob("nvidia[0-9]*")) if _opens(path)]


def list_cards() -> list[Card]:
    """All GPUs of the node, regardless of CUDA_VISIBLE_DEVICES."""
    if (program := shutil.which("nvidia-smi")) is None:
        return []
    command = [program, f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    return [*parse_cards(done.stdout)] if done.returncode == 0 else []


def parse_cards(text: str) -> Iterator[Card]:
    for line in text.splitlines():
        _, uuid, name, version, total, used = (cell.strip() for cell in line.split(","))
        if total.isdecimal() and used.isdecimal():  # a partitioned GPU (MIG) may have [N/A]
            yield Card(uuid, name, version, int(total), int(used))


def cuda_of_driver() -> tuple[int, int] | None:
    """The newest CUDA version that the driver supports; None without a driver."""
    try:
        number = ctypes.c_int()
        if ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(number)):
            return None
    except (OSError, AttributeError):
        return None
    return number.value // 1000, number.value % 1000 // 10


def _driver_version() -> str:
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return "of NVIDIA"
    found = re.search(r"\b(\d{3,}\.\d+(\.\d+)?)\b", text)
    return found[1] if found else "of NVIDIA"


def _opens(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError:
        return False
    return True
