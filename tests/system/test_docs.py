"""The commands in docs/ are run as they are printed: on drawn polyps under the names of datasets, with tiny spaces
under the names of networks, and with `SHORTER` budgets. What is not run here is named, with where it is.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from orchestrator.data.phantom import draw_dataset

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
FENCED = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What is printed -> what is run.
SHORTER = {
    r"--trials \d+": "--trials 2",
    r"--gpu-hours 24": "--trials 2",
    r"--trial 7\b": "--trial 1",
    r"/shared/polyps": "$ORCHESTRATOR_HOME",
    r"> /(etc|usr)/\S+/": "> ",
}
# The beginning of a command -> the test that runs such a one, and what stands there.
ELSEWHERE = {
    "orchestrator submit": ("tests/system/test_job_submit.py", "cluster.submit("),
    "ray job submit": ("tests/system/test_job_submit.py", '"job", "submit"'),
    "orchestrator ui": ("tests/results/mlflow/test_pages.py", '"ui", "formula", "--no-browser"'),
    "mlflow models serve": ("tests/results/mlflow/test_serving.py", "`mlflow models serve`"),
    'echo "{': ("tests/results/mlflow/test_serving.py", "b64encode"),
    "python examples/what_tuning_gains": ("tests/test_examples.py", 'GAINS / "table.py"'),
}
# Commands that no test runs: they take real images, and minutes to days.
NOT_RUN = (
    "orchestrator reproduce gmsrf I --scale",
    "orchestrator reproduce gmsrf --scale",
    "orchestrator reproduce resunetpp I --scale",
    "python tests/benchmarks/search_simulation.py",
    "sh examples/what_tuning_gains",
)
OWN_HOME = ("data.md", "index.md")  # pages whose commands add what other pages find there
TINY = """
network = {network}
[search]
learning_rate = {{ log_uniform = [1e-3, 1e-2] }}
[baseline]
learning_rate = 5e-3
[fixed]
image_size = 32
epochs = 1
batch_size = 4
"""


def printed_commands(page: Path) -> list[str]:
    """The commands of a page, a line each."""
    text = "".join(FENCED.findall(page.read_text("utf-8"))).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def left_out(command: str) -> list[str]:
    """The beginnings in `ELSEWHERE` and `NOT_RUN` that a command has."""
    return [beginning for beginning in (*ELSEWHERE, *NOT_RUN) if command.startswith(beginning)]


def shortened(command: str) -> str:
    for printed, run in SHORTER.items():
        command = re.sub(printed, run, command)
    return command


def draw_frames(folder: Path, images: str, masks: str, mask_name: str = "{}") -> None:
    """Some 24 frames with a polyp each; `images`, `masks`: names of the folders."""
    draw_dataset(folder / "drawn", num_cases=32, size=48, seed=zlib.crc32(folder.name.encode()))
    (folder / images).mkdir(parents=True)
    (folder / masks).mkdir()
    found = {path.stem: path for path in sorted((folder / "drawn" / "images").iterdir())}
    for mask in sorted((folder / "drawn" / "masks").iterdir()):
        if cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE).max() > 0 and len(found) > 8:
            found[mask.stem].rename(folder / images / found.pop(mask.stem).name)
            mask.rename(folder / masks / f"{mask_name.format(mask.stem)}{mask.suffix}")
    shutil.rmtree(folder / "drawn")


def with_names_of_masks(folder: Path) -> None:
    draw_frames(folder / "path" / "to" / "folder", "frames", "outlines", "{}_m")


def with_patients(folder: Path) -> None:
    draw_frames(folder / "path" / "to" / "folder", "images", "masks")
    names = [path.stem for path in (folder / "path" / "to" / "folder" / "images").iterdir()]
    rows = [f"{name},patient {place // 2}" for place, name in enumerate(names)]
    (folder / "patients.csv").write_text("\n".join(["name,group", *rows]) + "\n")


def with_a_missing_mask(folder: Path) -> None:
    draw_frames(folder / "path" / "to" / "folder", "images", "masks")
    next((folder / "path" / "to" / "folder" / "masks").iterdir()).unlink()


# The beginning of a command -> what its folder must look like before.
BEFORE: Mapping[str, Callable[[Path], None]] = {
    "orchestrator data add mine path/to/folder --images": with_names_of_masks,
    "orchestrator data add mine path/to/folder --groups": with_patients,
    "orchestrator data add mine path/to/folder --without-mask": with_a_missing_mask,
}


class Shell:
    """Runs commands in one folder, with `orchestrator` on the path and a home of its own."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder, self.home = folder, home
        binaries = folder / "bin"
        binaries.mkdir(parents=True, exist_ok=True)
        command = binaries / "orchestrator"
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m orchestrator "$@"\n')
        command.chmod(0o755)
        path = os.pathsep.join([str(binaries), str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = {
            **os.environ,
            "PATH": path,
            "PYTHONPATH": str(ROOT),
            "ORCHESTRATOR_HOME": str(home),
        }

    def __call__(self, command: str) -> None:
        """Run it; every question is answered with yes. A failure is the test's."""
        terminal, stdin = pty.openpty()
        os.write(terminal, b"y\n" * 20)
        try:
            done = subprocess.run(
                ["sh", "-c", command],
                cwd=self.folder,
                env=self.environment,
                stdin=stdin,
                capture_output=True,
                text=True,
                timeout=600,
            )
        finally:
            os.close(terminal)
            os.close(stdin)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the datasets and studies that the pages name."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("made")
    shell = Shell(folder, home)
    write_files(folder)
    for name in ("Kvasir-SEG", "CVC-ClinicDB", "PolypGen", "my-hospital", "old-dataset"):
        draw_frames(folder / name, "images", "masks")
        shell(f"orchestrator data add {name} {name}")
    studies = ("old-study", "my-study", "STUDY", "gmsrf-study", "pranet-study", "unet-study")
    for name in studies:
        shell(
            f"orchestrator search which_network --data Kvasir-SEG --trials 2 --splits k-fold:2 --study {name}"
        )
    return home


@pytest.fixture
def shell(request: pytest.FixtureRequest, tmp_path: Path, page: Path) -> Shell:
    """A folder with the files that the pages name, and the home."""
    if page.name != "champion.md":  # which exports to folders of these names
        write_files(tmp_path)
    if page.name in OWN_HOME:
        draw_frames(tmp_path / "kvasir-seg", "images", "masks")
        shutil.make_archive(str(tmp_path / "kvasir-seg"), "zip", tmp_path / "kvasir-seg")
        draw_frames(tmp_path / "path" / "to" / "CVC-ClinicDB", "Original", "Ground Truth")
        shutil.copy(tmp_path / "kvasir-seg.zip", tmp_path / "path" / "to")
        shell = Shell(tmp_path, tmp_path / "home")
        if page.name == "data.md":
            shell("orchestrator data add kvasir kvasir-seg.zip")
        return shell
    shell = Shell(tmp_path, request.getfixturevalue("home"))
    for folder in ("images", "path/to/images"):
        (tmp_path / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / folder / "a.png"), np.full((48, 64, 3), 90, np.uint8))
    clip = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (64, 48))
    for value in range(5):
        clip.write(np.full((48, 64, 3), 40 * value, np.uint8))
    clip.release()
    if page.name == "champion.md":
        shell("orchestrator best --trial 0 --export trial0")
    return shell


def write_files(folder: Path) -> None:
    """Search spaces that are trained in seconds, under the names of those that come with the package."""
    for name in ("unet", "pranet", "smoke", "my.toml"):
        (folder / name).write_text(TINY.format(network='"unet"') + "base_channels = 4\n")
    choice = TINY.format(network='{ choice = ["unet", "pranet"] }')
    small = '[unet.fixed]\nbase_channels = 4\n[pranet.fixed]\nencoder = "test_resnet"\npretrained = false\nwidth = 16\n'
    (folder / "which_network").write_text(choice + small)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in DOCS if printed_commands(page)], ids=lambda page: page.stem
)
def test_the_commands_of_a_page_run_in_order(page: Path, shell: Shell):
    for command in printed_commands(page):
        if left_out(command):
            continue
        for beginning, prepare in BEFORE.items():
            if command.startswith(beginning):
                shutil.rmtree(shell.folder / "path" / "to" / "folder", ignore_errors=True)
                if (shell.home / "datasets" / "mine").exists():
                    shell("orchestrator data remove mine --yes")
                prepare(shell.folder)
        shell(shortened(command))


def test_what_is_left_out_is_printed_and_what_is_run_elsewhere_is_there():
    commands = [command for page in DOCS for command in printed_commands(page)]
    assert {one for command in commands for one in left_out(command)} == {*ELSEWHERE, *NOT_RUN}
    for place, text in ELSEWHERE.values():
        assert text in (ROOT / place).read_text("utf-8"), place
    assert all(any(re.search(printed, command) for command in commands) for printed in SHORTER)
