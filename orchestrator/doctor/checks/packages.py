"""Python, packages and our own code: equal to the driver's on every node, since differences change or prevent fits."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import orchestrator
from orchestrator.doctor.checks.findings import Result, failure, ok, warning

# Packages that do not work together in two versions: messages, pickles, collectives.
MUST_EQUAL = ("ray", "torch", "cloudpickle", "pydantic")
# Packages that may change the numbers of a fit.
SHOULD_EQUAL = (
    "torchvision",
    "numpy",
    "timm",
    "segmentation-models-pytorch",
    "albumentations",
    "opencv-python-headless",
    "scipy",
    "pillow",
    "safetensors",
    "optuna",
    "mlflow",
)


@dataclass(frozen=True)
class Installed:
    """Versions of Python, of packages and of our own code on a node."""

    python: str
    packages: dict[str, str]  # name -> version, of installed packages
    code: str  # digest of this program's own files
    folder: str  # of these files


def installed() -> Installed:
    return Installed(
        platform.python_version(),
        {name: version for name in (*MUST_EQUAL, *SHOULD_EQUAL) if (version := _version(name))},
        code_digest(),
        str(Path(orchestrator.__path__[0]).parent),
    )


def code_digest() -> str:
    """Twelve hex digits of a hash of the Python files of this program and its networks."""
    digest, folder = hashlib.sha256(), Path(orchestrator.__path__[0])
    # In a checkout the networks are behind a symbolic link, which Path.rglob does not follow.
    found = (Path(here, name) for here, _, names in os.walk(folder, followlinks=True) for name in names)
    for file in sorted(file for file in found if file.suffix == ".py"):
        digest.update(f"{file.relative_to(folder.parent)}\0".encode())
        digest.update(file.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()[:12]


def compare(driver: Installed, here: Installed | None = None) -> Iterator[Result]:
    """Results of comparing a node with the driver."""
    here = here or installed()
    yield from _python(driver.python, here.python)
    yield from _packages(driver.packages, here.packages)
    if driver.code == here.code:
        yield ok(f"orchestrator {orchestrator.__version__}, code {here.code}")
    else:
        yield failure(
            f"orchestrator's code in {here.folder} is {here.code}, the driver's in {driver.folder} is {driver.code}",
            "install the same revision on every node, or start with `ray job submit --working-dir .`, which uploads it",
        )


def _python(driver: str, here: str) -> Iterator[Result]:
    if driver == here:
        yield ok(f"Python {here}")
    elif driver.split(".")[:2] == here.split(".")[:2]:
        yield warning(f"Python {here}, the driver has {driver}", f"use Python {driver} on every node")
    else:
        yield failure(
            f"Python {here} in {sys.prefix}, the driver has {driver}: they cannot read each other's pickles",
            f"start Ray on this node with a Python {'.'.join(driver.split('.')[:2])}",
        )


def _packages(driver: dict[str, str], here: dict[str, str]) -> Iterator[Result]:
    other = {name: (version, here.get(name)) for name, version in driver.items() if here.get(name) != version}
    grave = {name for name, (_, own) in other.items() if own is None or name in MUST_EQUAL}
    for names, verdict in ((grave, failure), (other.keys() - grave, warning)):
        if names:
            listed = ", ".join(
                f"{name} {other[name][1] or 'missing'} (driver {other[name][0]})" for name in sorted(names)
            )
            wanted = " ".join(f"{name}=={other[name][0]}" for name in sorted(names))
            yield verdict(listed, f"`pip install {wanted}` with {sys.executable} on this node")
    if not other:
        shown = ", ".join(f"{name} {here[name]}" for name in ("ray", "torch") if name in here)
        yield ok(f"{shown} and {len(here) - 2} more packages as on the driver")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
