"""Constraints for pip that pin the packages of pyproject.toml whose releases matter most to one end of their range.

    python tests/support/bounds.py lowest > constraints.txt

`lowest`: the first minor release that pyproject allows; `newest`: nothing but the upper bound, so that pip takes the
newest below it. Needs the standard library alone, for no environment exists yet.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PACKAGES = ("ray", "optuna", "mlflow", "torch")
# Which torchvision goes with a torch; pip would have to try them all.
TORCHVISION = {"2.8": "0.23"}


def constraints(which: str, dependencies: list[str]) -> list[str]:
    """Lines of a constraints file, `ray==2.55.*` or `ray<3`. ValueError: a package without both bounds."""
    lines = []
    for package in PACKAGES:
        lower, upper = _bounds(package, dependencies)
        lines.append(f"{package}=={lower}.*" if which == "lowest" else f"{package}<{upper}")
        if which == "lowest" and package == "torch":
            lines.append(f"torchvision=={TORCHVISION[lower]}.*")
    return lines


def _bounds(package: str, dependencies: list[str]) -> tuple[str, str]:
    for dependency in dependencies:
        if found := re.fullmatch(rf"{package}(?:\[[\w,]+\])?>=([\d.]+),<([\d.]+)", dependency):
            return found[1] if "." in found[1] else f"{found[1]}.0", found[2]
    raise ValueError(f"pyproject.toml gives {package} no lower and upper bound, as in '{package}>=1,<2'")


if __name__ == "__main__":
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    print("\n".join(constraints(sys.argv[1], project["dependencies"])))
