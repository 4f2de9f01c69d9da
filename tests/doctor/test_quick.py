"""What every command that trains looks at first: silent when all is well, one refusal when something would fail."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pretended import HOPPER, VOLTA, gpus
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.common.errors import MachineFault, Several
from orchestrator.doctor.quick import Quick


def quick(home: Path, **asked) -> Quick:
    return Quick(home, home / "cache", **{"uses_gpus": True, "starts_ray": True} | asked)


def test_nothing_is_said_or_left_behind_where_all_is_well_and_it_takes_no_time(tmp_path):
    started = time.process_time()
    assert quick(tmp_path).refuse() == [] and [*tmp_path.iterdir()] == []
    assert time.process_time() - started < 1


def test_a_v100_without_code_is_refused_with_the_command_that_mends_it(tmp_path):
    with (
        gpus(VOLTA),
        pytest.raises(MachineFault, match=r"sm_70.*`pip install 'torch>=2.8,<2.11' torchvision`"),
    ):
        quick(tmp_path).refuse()
    with gpus(HOPPER, VOLTA):
        assert quick(tmp_path, gpus=[0]).refuse() == []
    with gpus(VOLTA):
        assert quick(tmp_path, uses_gpus=False).refuse() == []


def test_all_that_would_fail_is_reported_at_once(tmp_path):
    (
        tmp_path / "cache"
    ).touch()  # a file where a folder is needed: nothing can be written into it, not even by root
    with gpus(VOLTA), pytest.raises(MachineFault) as refusal:
        quick(tmp_path).refuse()
    assert [line.split(":")[0] for line in refusal.value.problems] == ["cache", "GPU architecture"]


@pytest.mark.parametrize(
    "words",
    [
        ["fit"],
        ["plan", "--gpus", "1"],
        ["search", "--trials", "1", "--address", "local"],
    ],
)
def test_commands_that_train_refuse_it_before_anything_else(words: list[str], drawn_home):
    command, *options = words
    with gpus(VOLTA):
        words = [command, "search_spaces/smoke.toml", "--data", "drawn", "--home", str(drawn_home), *options]
        done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, (MachineFault, Several)), done.output
    assert "pip install 'torch>=2.8,<2.11' torchvision" in str(done.exception)
    assert not (drawn_home / "studies").exists() and not (drawn_home / "fits").exists()
