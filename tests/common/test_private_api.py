"""Private names and members of other packages: all are there in the releases that are installed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import torch
import typer
from ray.job_submission import JobSubmissionClient
from ray.train.torch import TorchTrainer

from orchestrator.common import private_api
from orchestrator.common.errors import BadMachine
from orchestrator.common.private_api import MEMBERS, NAMES, member, private, set_member

ROOT = Path(__file__).parents[2]
PRIVATE = re.compile(
    r"^\s*(?:from|import) (?:ray|optuna|mlflow|scipy)[\w.]*(?:\._\w+|\.generated)|^\s*from ray import _", re.M
)


@pytest.mark.parametrize("name", NAMES)
def test_every_private_name_is_there_in_the_installed_release(name):
    assert private(name) is not None


def test_a_name_that_a_release_has_moved_is_reported_with_that_release(monkeypatch):
    monkeypatch.setattr(private_api, "NAMES", {"gone": "optuna._gone:Thing"})
    with pytest.raises(BadMachine, match=r"optuna [\d.]+ has no optuna._gone:Thing, .*install optuna.*>=5"):
        private("gone")


def test_every_private_member_is_there_in_the_installed_release():
    study, app = optuna.create_study(), typer.Typer()
    app.command()(lambda: None)
    owners = {
        "_storage": study,
        "_study_id": study,
        "_trial_id": study.ask(),
        "_do_request": JobSubmissionClient,
        "_create_default_callbacks": TorchTrainer,
        "_connect_and_get_accessor": private("ray_state"),
        "_custom_shell_complete": typer.main.get_command(app).params[0],
        "_version": torch.zeros(1),
    }
    assert owners.keys() == MEMBERS.keys()
    for name, owner in owners.items():
        member(owner, name)


def test_a_member_that_a_release_has_moved_is_reported_and_not_made_up():
    for use in (lambda: member("", "_trial_id"), lambda: set_member(Path, "_trial_id", 1)):
        with pytest.raises(BadMachine, match=r"optuna [\d.]+ has no \w+\._trial_id, .*install optuna"):
            use()
    with pytest.raises(KeyError):  # it is not in the table, so that its releases are never checked
        member(Path(), "_str")


@pytest.mark.slow
def test_the_first_network_of_a_process_may_be_one_without_values():
    program = (
        "from orchestrator import models; models.build_without_values('pranet', pretrained=False); "
        "import torch; torch.export.export(torch.nn.Conv2d(3, 1, 1), (torch.zeros(1, 3, 8, 8),))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_private_names_are_imported_through_the_table_alone():
    files = [*(ROOT / "orchestrator").rglob("*.py"), *(ROOT / "models").glob("*.py")]
    assert len(files) > 200
    assert not [str(file) for file in files if PRIVATE.search(file.read_text())]
