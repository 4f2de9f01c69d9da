"""Whether the installed PyTorch was compiled for the GPUs of this machine, checked before anything runs on them.

Rules of NVIDIA's "CUDA C++ Programming Guide", compute capabilities and PTX compatibility.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from orchestrator.common.errors import MachineFault
from orchestrator.common.faults import GO_ON

Capability = tuple[int, int]
# Architectures in wheels of torch 2.10: on the default index, and for CUDA 12.6.
ORDINARY = ("sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
CUDA_126 = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
INSTALL = "pip install 'torch>=2.8,<2.11' torchvision"
WHEELS = ((ORDINARY, INSTALL), (CUDA_126, f"{INSTALL} --index-url https://download.pytorch.org/whl/cu126"))
NEWEST = "pip install --upgrade torch torchvision"
# GPUs of Jetson modules run only code compiled for them, until CUDA 13.2.
JETSON: tuple[Capability, ...] = ((5, 3), (6, 2), (7, 2), (8, 7))
JETSON_UNIFIED = (13, 2)


@dataclass(frozen=True)
class MissingKernels:
    """A GPU without code in the installed PyTorch."""

    index: int
    capability: Capability
    why: str


def refuse_without_kernels(devices: Iterable[int] | None = None) -> None:
    """Raise one `MachineFault` for all GPUs that PyTorch has no code for; `devices` None: all visible GPUs.

    Does nothing without GPUs of NVIDIA.
    """
    missing = without_kernels(devices)
    if not missing:
        return
    gpus: dict[str, list[str]] = {}
    for one in missing:
        gpus.setdefault(one.why, []).append(str(one.index))
    *others, last = [f"GPU {', '.join(indices)}: {why}" for why, indices in gpus.items()]
    remedy = remedy_for(one.capability for one in missing)
    raise MachineFault(platform.node(), [*others, f"{last}; {remedy}, {GO_ON}"])


def without_kernels(devices: Iterable[int] | None = None) -> list[MissingKernels]:
    """The GPUs that PyTorch has no code for."""
    compiled = compiled_for()
    capabilities = (
        {index: torch.cuda.get_device_capability(index) for index in _indices(devices)} if compiled else {}
    )
    return [
        MissingKernels(index, capability, _why(index, capability, compiled))
        for index, capability in capabilities.items()
        if not has_code_for(compiled, capability)
    ]


def compiled_for() -> tuple[str, ...]:
    """Architectures such as sm_80 and compute_90; empty for a PyTorch without CUDA."""
    return () if torch.version.hip else tuple(torch.cuda.get_arch_list())


def has_code_for(
    compiled: Iterable[str], capability: Capability, cuda: tuple[int, ...] | None = None
) -> bool:
    """Whether a GPU of this compute capability runs one of these architectures under this version of CUDA."""
    return any(_runs(architecture, capability, cuda or _cuda()) for architecture in compiled)


def _runs(architecture: str, capability: Capability, cuda: tuple[int, ...]) -> bool:
    """Whether code runs on a GPU. sm_XY: binary, for the same X and Y or later; compute_XY: PTX, for X.Y and later;
    suffix a: only for X.Y; suffix f: for the family, all of one X.
    """
    parsed = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", architecture)
    if parsed is None:
        return False
    kind, major, minor, suffix = parsed.groups()
    code = int(major), int(minor)
    if suffix == "a":
        return code == capability
    if kind == "compute" and not suffix:
        return code <= capability
    if kind == "sm" and cuda < JETSON_UNIFIED and (code in JETSON or capability in JETSON):
        return code == capability
    return code[0] == capability[0] and code[1] <= capability[1]


def remedy_for(capabilities: Iterable[Capability]) -> str:
    """The command that installs a PyTorch with code for all of these, or advice if there is none."""
    wanted = set(capabilities)
    serving = (command for compiled, command in WHEELS if all(has_code_for(compiled, one) for one in wanted))
    found = next(serving, None)
    if found is None and min(wanted) < (5, 0):
        return "use another GPU, or --device cpu: PyTorch 2.8 and later does not support one this old"
    if found is None and min(wanted) < (7, 5):
        return "no wheel of PyTorch supports all GPUs here: exclude some by CUDA_VISIBLE_DEVICES"
    command = found or NEWEST
    if found and re.match(r"2\.(8|9|10)\.", torch.__version__):  # pip would consider it installed
        command = f"pip uninstall --yes torch torchvision && {command}"
    return f"`{command}` on every node"


def _why(index: int, capability: Capability, compiled: Iterable[str]) -> str:
    architecture = f"sm_{capability[0]}{capability[1]}"
    return (
        f"{gpu_name(index)} needs code for {architecture}, which PyTorch {torch.__version__} lacks: it was compiled "
        f"for {' '.join(compiled)}"
    )


def gpu_name(index: int) -> str:
    try:
        return torch.cuda.get_device_name(index)
    except (RuntimeError, AssertionError):  # it exists, but does not respond
        return "this GPU"


def _indices(devices: Iterable[int] | None) -> Iterable[int]:
    if devices is not None:
        return devices
    return range(max(1, torch.cuda.device_count()) if torch.cuda.is_available() else 0)


def _cuda() -> tuple[int, ...]:
    return tuple(int(part) for part in (torch.version.cuda or "0").split(".")[:2])
