"""Faults of every kind, injected into real searches: nothing is lost, nothing doubled. See chaos/."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos import __main__  # noqa: F401  # registers all faults
from chaos.faults import FAULTS, names
from chaos.nodes import why_not
from chaos.runner import FaultRunner

pytestmark = pytest.mark.netns


@pytest.fixture(scope="module")
def runner() -> Iterator[FaultRunner]:
    if (why := why_not()) is not None:
        pytest.skip(why)
    with (
        tempfile.TemporaryDirectory(prefix="ch", ignore_cleanup_errors=True) as folder,
        FaultRunner(Path(folder), 0) as runner,
    ):
        yield runner


@pytest.mark.parametrize("name", names())
def test_a_fault_loses_nothing_and_doubles_nothing(runner: FaultRunner, name: str):
    row = runner.act(FAULTS[name], names().index(name))
    assert row.is_good, row
