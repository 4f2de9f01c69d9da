"""The first commands of the README, run as they are printed, on drawn polyps where the README has Kvasir-SEG."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from orchestrator.data.phantom import draw_dataset

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with kvasir-seg.zip, also unpacked, and `orchestrator` on the path."""
    draw_dataset(tmp_path / "drawn", num_cases=60, size=96)
    frames = tmp_path / "kvasir-seg"
    images = {path.stem: path for path in (tmp_path / "drawn" / "images").iterdir()}
    for kind in ("images", "masks"):
        (frames / kind).mkdir(parents=True)
    for mask in (tmp_path / "drawn" / "masks").iterdir():
        if cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE).max() > 0:
            for file in (mask, images[mask.stem]):
                file.rename(frames / file.parent.name / file.name)
    shutil.make_archive(str(frames), "zip", frames)
    command = tmp_path / "bin" / "orchestrator"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m orchestrator "$@"\n')
    command.chmod(0o755)
    return tmp_path


def printed_commands() -> list[str]:
    text = (ROOT / "README.md").read_text("utf-8")
    (block,) = re.findall(r"## Five commands\n\n```sh\n(.*?)```", text, re.DOTALL)
    return block.strip().splitlines()


@pytest.mark.slow
def test_the_five_commands_run_in_order(folder: Path):
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "ORCHESTRATOR_HOME": str(folder / "home"),
    }
    assert len(printed_commands()) == 5
    for line in printed_commands():
        done = subprocess.run(["sh", "-c", line], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert (folder / "champion" / "model_card.md").is_file()
    assert len(list((folder / "masks").rglob("*_mask.png"))) == len(
        list((folder / "kvasir-seg" / "images").iterdir())
    )
