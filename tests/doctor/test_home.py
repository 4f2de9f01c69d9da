"""The home: written to, the same on all nodes, with locks that hold; and the datasets in it."""

from __future__ import annotations

import fcntl
import os
import shutil
import time

import pytest

from orchestrator.common.errors import BadData
from orchestrator.doctor.checks import datasets, shared_home
from orchestrator.doctor.checks.shared_home import Token, token_in


def severities(results) -> list[str]:
    return [severity for severity, _, _ in results]


def test_a_folder_is_written_to_where_it_will_be(tmp_path):
    assert (
        severities(shared_home.writable(tmp_path / "new" / "home")) == ["ok"] and [*tmp_path.iterdir()] == []
    )


@pytest.mark.parametrize("place", ["/proc/nowhere", "/sys/kernel", "file"])
def test_what_cannot_be_written_to_even_by_root_is_reported_with_a_remedy(tmp_path, place: str):
    (tmp_path / "file").touch()
    ((severity, found, remedy),) = shared_home.writable(tmp_path / place)
    assert severity == "failure" and "cannot be written to" in found and remedy


def test_a_token_is_seen_locked_and_removed(tmp_path):
    with token_in(tmp_path) as token:
        assert severities(shared_home.same(token, "n1:3000")) == ["ok"]
        assert severities(shared_home.locks(token)) == ["ok"]  # as another node: another opening of the file
        assert shared_home.answered(token, "n1:3000")
    assert [*tmp_path.iterdir()] == []


def test_another_folder_of_the_same_name_is_not_the_home(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_home, "SEEN_WITHIN_S", 0.3)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "token").write_text("another's")
    for path in (tmp_path / "here" / "token", tmp_path / "gone"):
        ((severity, found, remedy),) = shared_home.same(Token(path, "1234"), "n1")
        assert (
            severity == "failure"
            and "is not the driver's" in found
            and "mount the same file system" in remedy
        )
    assert not shared_home.answered(Token(tmp_path / "gone", "1234"), "n1")


def test_locks_of_one_node_alone_are_a_warning(tmp_path):
    with token_in(tmp_path) as token:
        copy = Token(tmp_path / "copy", token.content)  # as if the driver's lock were not seen
        shutil.copy(token.path, copy.path)
        assert severities(shared_home.locks(copy)) == ["warning"]


def test_a_file_system_without_locks_is_a_failure(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    with token_in(tmp_path) as token:
        monkeypatch.setattr(fcntl, "flock", refuse)
        ((severity, found, remedy),) = shared_home.locks(token)
    assert severity == "failure" and "No locks available" in found and "-o flock" in remedy


def test_what_killed_checks_left_is_swept(tmp_path):
    old, young = tmp_path / ".doctor-old", tmp_path / ".doctor-young"
    for path in (old, young):
        path.touch()
    os.utime(old, (time.time() - 7200,) * 2)
    with token_in(tmp_path):
        assert not old.exists() and young.exists()


def test_datasets_are_compared_by_fingerprint_and_by_every_file(drawn_home, tmp_path):
    expected = datasets.fingerprints(drawn_home, ["drawn"])
    assert severities(datasets.equal(drawn_home, tmp_path, expected)) == ["ok"]
    assert severities(datasets.equal(drawn_home, tmp_path, {"drawn": "0" * 32})) == ["failure"]
    with pytest.raises(BadData, match="no dataset is named 'other'"):
        datasets.fingerprints(drawn_home, ["other"])


def test_a_file_that_changed_is_reported(drawn_home, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(drawn_home, home)
    image = next((home / "datasets" / "drawn" / "images").iterdir())
    image.write_bytes(image.read_bytes()[:-1])
    with pytest.raises(BadData, match="not the bytes that were imported"):
        [*datasets.equal(home, tmp_path, datasets.fingerprints(home, ["drawn"]))]
