"""Trees of small files through `orchestrator data add`: the dataset and what was printed, or the refusal."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from packed import FRAME, MASK, Content, write_tree, zipped
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.common.errors import UserError
from orchestrator.data.cases import Dataset, load_dataset


def add(
    tmp_path: Path, files: dict[str, Content], *options: str, archive: bool = False
) -> tuple[Dataset, str]:
    """A dataset that `orchestrator data add` made of a tree of files, and what it printed; refusals are raised."""
    shutil.rmtree(tmp_path / "source", ignore_errors=True)
    source = write_tree(tmp_path / "source", files)
    before = sorted((tmp_path / "home/datasets").glob("*"))
    if archive:
        source = zipped(source, tmp_path / "source.zip")
    home = str(tmp_path / "home")
    result = CliRunner().invoke(app, ["data", "add", "X", str(source), "--home", home, *options])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, UserError), result.exc_info
        assert sorted((tmp_path / "home/datasets").glob("*")) == before, "a refusal leaves nothing"
        raise result.exception
    assert result.exit_code == 0, result.output
    return load_dataset(Path(home), "X"), result.output


def refused(tmp_path: Path, files: dict[str, Content], *options: str) -> str:
    with pytest.raises(UserError) as error:
        add(tmp_path, files, *options)
    return str(error.value)


def groups(dataset: Dataset) -> dict[str, str]:
    return {case.id.removeprefix("X/"): case.group.removeprefix("X/") for case in dataset.cases}


def pairs(images: Sequence[str], masks: Sequence[str]) -> dict[str, Content]:
    return {**dict.fromkeys(images, FRAME), **dict.fromkeys(masks, MASK)}
