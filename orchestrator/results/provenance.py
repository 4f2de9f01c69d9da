"""Provenance of a result: versions, machine, revision of the code."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import orchestrator
from orchestrator.common.files import write_atomically

PACKAGES = (
    "polyp-orchestrator",
    "torch",
    "ray",
    "optuna",
    "mlflow",
    "albumentations",
    "timm",
    "numpy",
    "opencv-python-headless",
)
# What `platform.machine` calls processors: devices of fits that had no GPU.
PROCESSORS = ("x86_64", "amd64", "aarch64", "arm64", "ppc64le", "i686")


def environment() -> dict[str, Any]:
    """Versions, machine and revision of the code, and the time of writing, as plain values."""
    return {
        "python": platform.python_version(),
        "machine": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git_revision": git_revision(),
        "written": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def environment_file(study_folder: Path) -> Path:
    """Where a study keeps the environment of its last run."""
    return study_folder / "environment.json"


def write_environment(study_folder: Path, **chosen: str) -> None:
    """Keep the environment of this run, with what was chosen for it."""
    content = json.dumps({**environment(), **chosen}, indent=1)
    write_atomically(environment_file(study_folder), content.encode())


def _version(package: str) -> str:
    """Installed version of a package; this package may run from its sources, as a job on a cluster does."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return orchestrator.__version__ if package == "polyp-orchestrator" else "not installed"


def git_revision() -> str:
    """The commit of this code, with a + if it was changed since; "unknown" outside a checkout."""
    here = Path(__file__).parent
    asked = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return answer.stdout.strip()


def device_words(device: str) -> str:
    """The device of a fit, for people: the name of a GPU, or "CPU (x86_64)"."""
    return f"CPU ({device})" if device.lower() in PROCESSORS else device
