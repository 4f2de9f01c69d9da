"""Where a Ray of our own puts its files, and what it asks of whoever wants to use it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray._raylet import Config

from orchestrator.common.errors import BadMachine
from orchestrator.ray_cluster.private_ray import isolated, require_token, temp_folder


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    for name in ("RAY_TMPDIR", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
        monkeypatch.setenv(name, "")  # put back at the end, whatever happens in between
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    (tmp_path / "me").mkdir()
    yield
    monkeypatch.undo()
    Config.initialize("")  # Ray keeps what it read of the environment


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a path short enough for sockets, as that of a test is not."""
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:
        yield Path(folder)


def test_ray_works_in_a_folder_that_its_user_alone_can_open(monkeypatch, short):
    monkeypatch.setenv("TMPDIR", str(short))
    assert temp_folder().parent == short / f"ray-of-{os.getuid()}" and mode(temp_folder().parent) == 0o700
    monkeypatch.setenv("RAY_TMPDIR", str(short / "a"))
    assert temp_folder().parent.parent == short / "a"


def test_ray_does_not_open_it_to_others_and_the_next_search_takes_it_again(monkeypatch, short):
    monkeypatch.setenv("TMPDIR", str(short))
    folder = temp_folder()
    folder.mkdir()
    folder.chmod(0o777)  # as Ray does when it starts
    assert mode(folder.parent) == 0o700
    assert temp_folder() == folder


def test_a_folder_that_others_can_open_is_not_taken(monkeypatch, short):
    taken = short / f"ray-of-{os.getuid()}"
    taken.mkdir()
    taken.chmod(0o755)
    monkeypatch.setenv("TMPDIR", str(short))
    assert temp_folder().parent != taken and mode(temp_folder().parent) == 0o700


def test_a_long_tmpdir_gives_ray_a_short_private_folder_and_that_is_said(monkeypatch, caplog):
    monkeypatch.setenv("TMPDIR", "/scratch/slurm/" + "x" * 40)
    assert len(str(temp_folder())) < 40 and mode(temp_folder().parent) == 0o700
    assert "TMPDIR is too long for Ray's sockets: Ray uses" in caplog.text


def test_a_long_ray_tmpdir_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/" + "x" * 60)
    with pytest.raises(BadMachine, match=r"RAY_TMPDIR: .* too long for the paths of Ray's sockets"):
        temp_folder()


def test_a_token_that_is_missing_is_made_for_its_user_alone(tmp_path):
    require_token()
    file = tmp_path / "me" / ".ray" / "auth_token"
    assert mode(file) == 0o600 and len(file.read_text()) == 64 and os.environ["RAY_AUTH_MODE"] == "token"
    before = file.read_text()
    del os.environ["RAY_AUTH_MODE"]
    require_token()
    assert file.read_text() == before


def test_a_token_that_others_could_read_is_closed_and_that_is_said(tmp_path, caplog):
    file = tmp_path / "me" / ".ray" / "auth_token"
    file.parent.mkdir()
    file.write_text("f" * 64)
    file.chmod(0o644)
    require_token()
    assert mode(file) == 0o600 and "was readable by others" in caplog.text


@pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"])
def test_a_token_that_is_given_is_used_and_none_is_written(monkeypatch, tmp_path, name):
    monkeypatch.setenv(name, "a" * 64)
    require_token()
    assert os.environ["RAY_AUTH_MODE"] == "token" and not (tmp_path / "me" / ".ray").exists()


def test_another_ray_that_the_environment_names_is_out_of_sight_while_ours_is_started(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with isolated():
        assert "RAY_ADDRESS" not in os.environ
    assert os.environ["RAY_ADDRESS"] == "elsewhere:6379"
