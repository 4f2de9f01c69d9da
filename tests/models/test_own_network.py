from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from orchestrator import models
from orchestrator.common import network_files
from orchestrator.common.errors import BadSpace
from orchestrator.search.space.space_file import load_space

SOURCE = """
from torch import nn

from orchestrator.models import register


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 1, 1))

    def forward(self, image):
        return (self.body(image),)


@register(stride=4)
def small_net(*, width: int = 8) -> nn.Module:
    return Net(width)
"""
SPACE = """
network = { choice = ['mine:small_net', "unet"] }
[search]
learning_rate = { log_uniform = [1e-3, 1e-1] }
width = { choice = [8, 16], when = { network = ["mine:small_net"] } }
[fixed]
image_size = 32
[baseline]
network = "mine:small_net"
learning_rate = 1e-2
width = 8
"""


@pytest.fixture
def space_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(network_files, "_homes", [])
    monkeypatch.setattr(network_files, "_given", {})
    (tmp_path / "mine.py").write_text(SOURCE)
    (tmp_path / "own.toml").write_text(SPACE)
    return tmp_path / "own.toml"


def test_a_space_names_the_content_of_its_own_networks_and_builds_them(space_file: Path):
    space = load_space(space_file)
    own, _ = space.networks
    assert own.startswith("mine:small_net#") and own in space.text and "'mine:small_net'" not in space.text
    configuration = space.configuration(space.baseline_params())
    (logits,) = models.build(configuration.network, width=16)(torch.zeros(1, 3, 32, 32))
    assert (configuration.network, logits.shape) == (own, (1, 1, 32, 32))
    assert (models.stride(own), own in models.names()) == (4, False)


def test_other_content_is_another_network_and_the_earlier_one_is_kept_in_the_home(
    space_file: Path, tmp_path: Path
):
    first = load_space(space_file).networks[0]
    network_files.keep_networks([first, "unet"], tmp_path / "home")
    space_file.with_name("mine.py").write_text(SOURCE.replace("padding=1)", "padding=1, bias=False)"))
    second = load_space(space_file).networks[0]
    sizes = [sum(weight.numel() for weight in models.build(one).parameters()) for one in (first, second)]
    assert sizes[0] == sizes[1] + 8
    network_files.look_in(tmp_path / "home")
    assert network_files.find(first).path == tmp_path / "home" / "networks" / first[-12:] / "mine.py"


def test_another_process_builds_it_from_the_home_alone(space_file: Path, tmp_path: Path):
    name = load_space(space_file).networks[0]
    network_files.keep_networks([name], tmp_path / "home")
    code = (
        "import sys, pathlib; from orchestrator import models; from orchestrator.common.network_files import look_in; "
        f"look_in(pathlib.Path({str(tmp_path / 'home')!r})); print(models.stride({name!r}))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd="/", env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "4", done.stderr


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (None, "expected mine.py in .* or on PYTHONPATH, found none"),
        ("1 / 0", "fails when it is run: ZeroDivisionError: division by zero"),
        ("x = 1", "registers no network 'small_net'; expected @orchestrator.models.register"),
        (SOURCE.replace(" = 8", ""), "'width' must be keyword-only and have a default"),
    ],
)
def test_a_file_that_defines_no_such_network_is_refused_in_words(
    space_file: Path, source: str | None, problem: str
):
    file = space_file.with_name("mine.py")
    file.unlink() if source is None else file.write_text(source)
    with pytest.raises(BadSpace, match=problem):
        load_space(space_file)


def test_a_space_that_names_another_content_is_refused(space_file: Path):
    space_file.write_text(SPACE.replace("mine:small_net", "mine:small_net#" + 12 * "0"))
    with pytest.raises(BadSpace, match=r"expected that content, found .*mine.py with other content, #"):
        load_space(space_file)


@pytest.mark.parametrize("digest", ["", "#" + hashlib.sha256(SOURCE.encode()).hexdigest()[:12]])
def test_a_name_in_a_bundle_or_a_job_runs_no_file(
    space_file: Path, monkeypatch: pytest.MonkeyPatch, digest: str
):
    monkeypatch.chdir(space_file.parent)
    monkeypatch.syspath_prepend(space_file.parent)
    monkeypatch.setattr("orchestrator.models.registry._own", {})
    with pytest.raises(ValueError, match="expected a network that the study's home keeps"):
        models.build(f"mine:small_net{digest}")
