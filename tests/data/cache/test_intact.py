"""Data and cache that changed on disk: refused by name, or built again, and never trained on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orchestrator.common.errors import BadData, Several
from orchestrator.data.cache.frames import VERSION, cached_cases
from orchestrator.data.cache.intact import refuse_changed
from orchestrator.data.cases import Dataset, load_dataset
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("intact")
    draw_dataset(home / "frames", num_cases=6, size=32)
    add_dataset(home, "drawn", home / "frames", allow_empty=True)
    return home


@pytest.fixture
def dataset(drawn, tmp_path) -> Dataset:
    """A copy that a test may damage."""
    shutil.copytree(drawn / "datasets", tmp_path / "datasets")
    return load_dataset(tmp_path, "drawn")


def test_an_image_that_was_replaced_is_named_and_its_mask_is_not(dataset, tmp_path):
    one, other = dataset.cases[:2]
    one.image.write_bytes(other.image.read_bytes())
    with pytest.raises(BadData, match=rf"images/{one.image.name}: not the bytes that were imported") as error:
        refuse_changed([dataset], tmp_path / "cache")
    assert f"masks/{one.mask.name}" not in str(error.value)
    assert "`orchestrator data check drawn`" in str(error.value)


def test_what_changes_after_it_was_found_sound_is_seen_though_size_and_time_stay(dataset, tmp_path):
    refuse_changed([dataset], tmp_path / "cache")
    mask = dataset.cases[0].mask
    content, before = bytearray(mask.read_bytes()), mask.stat()
    content[-20] ^= 1
    mask.write_bytes(content)
    os.utime(mask, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(BadData, match=f"masks/{mask.name}: not the bytes"):
        refuse_changed([dataset], tmp_path / "cache")


def test_every_file_that_changed_is_reported_at_once(dataset, tmp_path):
    dataset.cases[0].image.unlink()
    dataset.cases[1].mask.write_bytes(b"")
    with pytest.raises(BadData) as error:
        refuse_changed([dataset], tmp_path / "cache")
    assert f"images/{dataset.cases[0].image.name}: is missing" in str(error.value)
    assert f"masks/{dataset.cases[1].mask.name}: not the bytes" in str(error.value)
    with pytest.raises(Several):
        refuse_changed([dataset, dataset], tmp_path / "cache")


def test_files_that_were_put_back_are_believed_again(dataset, tmp_path):
    image = dataset.cases[0].image
    content = image.read_bytes()
    image.write_bytes(b"other")
    with pytest.raises(BadData):
        refuse_changed([dataset], tmp_path / "cache")
    image.write_bytes(content)
    refuse_changed([dataset], tmp_path / "cache")


def test_what_was_found_sound_is_not_read_again(dataset, tmp_path, monkeypatch):
    read: list[Path] = []
    monkeypatch.setattr(
        "orchestrator.data.cache.intact.sha256_of", lambda path: read.append(path) or sha256_of(path)
    )
    from orchestrator.common.stored_json import sha256_of

    for _ in range(2):
        refuse_changed([dataset], tmp_path / "cache")
    assert len(read) == 12
    dataset.cases[2].image.touch()
    refuse_changed([dataset], tmp_path / "cache")
    assert len(read) == 14


def test_a_dataset_of_an_earlier_version_is_checked_by_the_digest_of_both_files(dataset, tmp_path):
    old = replace(
        dataset, cases=tuple(replace(case, image_sha256="", mask_sha256="") for case in dataset.cases)
    )
    refuse_changed([old], tmp_path / "one")
    case = dataset.cases[0]
    case.image.write_bytes(b"other")
    with pytest.raises(BadData, match=f"images/{case.image.name} or masks/{case.mask.name}"):
        refuse_changed([old], tmp_path / "other")


def test_a_cache_that_cannot_be_written_checks_all_the_same(dataset, tmp_path):
    (tmp_path / "file").write_text("no folder")
    refuse_changed([dataset], tmp_path / "file")
    dataset.cases[0].image.write_bytes(b"other")
    with pytest.raises(BadData):
        refuse_changed([dataset], tmp_path / "file")


def test_nothing_is_decoded_from_data_that_changed(dataset, tmp_path):
    dataset.cases[0].image.write_bytes(dataset.cases[1].image.read_bytes())
    with pytest.raises(BadData, match="not the bytes"):
        cached_cases([dataset], 32, tmp_path / "cache")


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def end_in_zeros(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


def overwrite(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(200)
        opened.write(b"noise" * 20)


def damage_header(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(b"X" * 40)


DAMAGES = [truncate, end_in_zeros, overwrite, damage_header, lambda file: os.truncate(file, 0), Path.unlink]


@pytest.mark.parametrize("name", ["size-32/pixels.npy", "original/pixels.npy"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_built_again_and_it_is_said(
    dataset, tmp_path, caplog, damage: Callable[[Path], None], name: str
):
    ids = [case.id for case in dataset.cases]
    cases = cached_cases([dataset], 32, tmp_path)
    before = [(cases.image(id), cases.original_mask(id)) for id in ids]
    del cases
    file = tmp_path / VERSION / dataset.fingerprint / name
    damage(file)
    again = cached_cases([dataset], 32, tmp_path)
    assert str(file) in caplog.text and "decoded again" in caplog.text
    for (image, mask), id in zip(before, ids, strict=True):
        assert np.array_equal(again.image(id), image) and np.array_equal(again.original_mask(id), mask)


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff\x00", b"[1, 2]"])
def test_a_cache_without_checksums_is_built_again(dataset, tmp_path, caplog, content: bytes | None):
    cached_cases([dataset], 32, tmp_path)
    checks = tmp_path / VERSION / dataset.fingerprint / "size-32" / "checks.json"
    checks.unlink() if content is None else checks.write_bytes(content)
    cached_cases([dataset], 32, tmp_path)
    assert f"{checks} " in caplog.text
    assert len(json.loads(checks.read_text())["crc32"]) == 6


def test_a_cache_that_was_copied_is_read_once_and_then_believed(dataset, tmp_path, caplog):
    cached_cases([dataset], 32, tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    checks = tmp_path / "other" / VERSION / dataset.fingerprint / "size-32" / "checks.json"
    before = json.loads(checks.read_text())
    cached_cases([dataset], 32, tmp_path / "other")
    after = json.loads(checks.read_text())
    assert after["stamp"] != before["stamp"] and after["crc32"] == before["crc32"] and not caplog.text
