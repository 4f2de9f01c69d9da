"""The tests that start Ray, under each minor release of Ray that the project accepts, with a token and without.

Every release gets a thin environment of its own over the one this runs in: the same packages, another Ray.

    python tests/cluster/ray_matrix.py --releases 2.55.1 2.60.0 --modes token disabled --out table.md

Exit code 1 if any combination failed, 2 if a release cannot be installed.
"""

from __future__ import annotations

import argparse
import os
import re
import site
import subprocess
import sys
import time
import venv
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
RELEASES = ("2.55.1", "2.56.1", "2.57.1", "2.58.1", "2.59.0", "2.60.0")
TESTS = (
    "tests/ray_cluster/test_machine.py",
    "tests/training/ray/test_lost_resources.py",
    "tests/training/ray/test_lanes.py",
    "tests/system/test_end_to_end.py",
    "tests/system/test_job_submit.py",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--releases", nargs="+", default=RELEASES)
    parser.add_argument("--modes", nargs="+", default=["token", "disabled"], choices=["token", "disabled"])
    parser.add_argument("--tests", nargs="+", default=TESTS)
    parser.add_argument("--environments", type=Path, default=ROOT / ".ray-matrix")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rows = ["| Ray | token | result | seconds |", "|---|---|---|---|"]
    is_good = True
    for release in asked.releases:
        python = environment(asked.environments / release, release)
        for mode in asked.modes:
            print(f"Ray {release}, RAY_AUTH_MODE={mode}", flush=True)
            start = time.monotonic()
            code, summary = run_tests(python, mode, asked.tests)
            is_good &= code == 0
            rows.append(f"| {release} | {mode} | {summary} | {time.monotonic() - start:.0f} |")
            print(rows[-1], flush=True)
    table = "\n".join([*rows, "", f"torch {version('torch')}, Python {sys.version.split()[0]}"])
    print(table)
    if asked.out:
        asked.out.write_text(table + "\n")
    return int(not is_good)


def environment(folder: Path, release: str) -> Path:
    """The Python of an environment below `folder` that sees the packages of this one, but Ray of `release`."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=False)
    packages = next(folder.glob("lib/python*/site-packages"))
    # Not where a wheel is built: what builds it is installed for that alone.
    (packages / "base.pth").write_text(
        "import os, site; {'PEP517_BUILD_BACKEND', '_PYPROJECT_HOOKS_BUILD_BACKEND'} & {*os.environ} or "
        f"site.addsitedir({site.getsitepackages()[0]!r})\n"
    )
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    # Without its dependencies: those of the newest Ray are there, and serve the older ones.
    if subprocess.run([*pip, "--no-deps", "--ignore-installed", f"ray=={release}"]).returncode != 0:
        print(f"Ray {release} cannot be installed", file=sys.stderr)
        raise SystemExit(2)
    found = subprocess.run(
        [python, "-c", "import ray; print(ray.__version__)"], capture_output=True, text=True, check=True
    )
    if found.stdout.strip() != release:
        print(f"{python}: expected Ray {release}, found {found.stdout.strip()}", file=sys.stderr)
        raise SystemExit(2)
    return python


def run_tests(python: Path, mode: str, tests: list[str]) -> tuple[int, str]:
    """Exit code and last line of pytest."""
    result = subprocess.run(
        # Older releases leave processes of their own to the garbage collector, which warns.
        [python, "-m", "pytest", "-q", "-W", "ignore::pytest.PytestUnraisableExceptionWarning", *tests],
        cwd=ROOT,
        env=os.environ
        | {
            "RAY_AUTH_MODE": mode,
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # as our own start of Ray says; older ones warn without
            "PATH": f"{python.parent}:{os.environ['PATH']}",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode != 0:
        print(result.stdout)
    last = (result.stdout.strip().splitlines() or [""])[-1]
    return result.returncode, re.sub(r" in [\d.]+s.*", "", last.strip("= "))


if __name__ == "__main__":
    raise SystemExit(main())
