"""The image: its Dockerfile is linted, and what it installs is installed here, in a virtual environment."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from orchestrator.launch.render import render

ROOT = Path(__file__).parents[2]
SETTING = re.compile(r"(?:MALLOC_|GOMP_|RAY_worker_)\w+=\d+")


def runs(dockerfile: str) -> list[str]:
    """The commands of its RUN lines."""
    return re.findall(r"^RUN ((?:.*\\\n)*.*)$", dockerfile, re.MULTILINE)


def test_hadolint_finds_nothing():
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "-"], input=render("dockerfile", {}), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_is_copied_exists():
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", render("dockerfile", {}), re.MULTILINE)
    bound = re.findall(r"^ {4}(\S+) /opt/polyps/", render("apptainer", {}), re.MULTILINE)
    named = [name for line in [*copied, *bound] for name in line.split()]
    assert len(named) == 15
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_images_and_rented_machines_set_processes_up_alike():
    found = {frozenset(SETTING.findall(render(kind, {}))) for kind in ("dockerfile", "apptainer", "dgx2")}
    sky = yaml.safe_load(render("skypilot", {}))["envs"]
    assert found == {frozenset(f"{name}={value}" for name, value in sky.items())}


@pytest.mark.slow
def test_the_lines_that_install_it_work_in_a_virtual_environment(tmp_path: Path):
    text = render("dockerfile", {})
    install = [line for line in runs(text) if "pip" in line]
    assert len(install) == 2
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    for name in ("models", "search_spaces", "orchestrator"):
        shutil.copytree(
            ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE", "cluster/constraints-v100.txt"):
        shutil.copy(ROOT / name, tmp_path)
    for line in install:
        here = re.sub(r"(/tmp)?/wheels", f"{tmp_path}/wheels", line.replace("--no-cache-dir ", ""))
        here = here.replace("/tmp/constraints.txt", f"{tmp_path}/constraints-v100.txt")
        here = here.replace("python -m pip", f"{tmp_path}/venv/bin/python -m pip")
        subprocess.run(["sh", "-euc", here], cwd=tmp_path, check=True)
    done = subprocess.run(
        [tmp_path / "venv/bin/orchestrator", "cluster", "render", "slurm"],
        cwd="/",
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == render("slurm", {}), done.stderr
