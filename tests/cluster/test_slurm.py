"""`cluster/slurm.sbatch` under a Slurm of two nodes: see slurm/. Run with `make test-slurm`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos.comparison import differences
from chaos.home import make_home
from outcome import leftovers
from shell import wait_until
from slurm.search import Search, interrupted
from slurm.site import Site, why_not

pytestmark = pytest.mark.slurm

NUM_ROUNDS = int(os.environ.get("SLURM_ROUNDS", "20"))


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sl", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    if (why := why_not()) is not None:
        pytest.skip(why)
    with Site(folder / "site") as site:
        yield site


@pytest.fixture(scope="module")
def calm(site: Site, folder: Path) -> tuple[Search, Search]:
    """Two searches that nobody disturbs, side by side on the same nodes."""
    both = tuple(Search(site, folder, make_home(folder / f"home-{name}"), name) for name in ("one", "two"))
    for search in both:
        search.submit()
    for search in both:
        search.finish()
    return both


@pytest.fixture(scope="module")
def affected(site: Site, folder: Path, calm: tuple[Search, Search]) -> Search:
    search = Search(site, folder, make_home(folder / "home-hurt"), "hurt")
    interrupted(search, NUM_ROUNDS, len(calm[0].begun_epochs()))
    return search


def test_two_jobs_on_the_same_nodes_do_not_meet(calm: tuple[Search, Search]):
    one, two = (search.outcome() for search in calm)
    assert one == two


def test_a_search_that_is_interrupted_again_and_again_ends_like_one_that_is_not(
    affected: Search, calm: tuple[Search, Search]
):
    assert len(affected.table) == NUM_ROUNDS
    found = differences(
        affected.outcome(), calm[0].outcome(), affected.begun_epochs(), NUM_ROUNDS * affected.lanes
    )
    assert (found.lost, found.doubled) == ((), ())
    assert leftovers(affected.study) == []


def test_an_interruption_costs_each_lane_an_epoch_at_most(affected: Search):
    assert max(affected.num_lost()) <= affected.lanes


def test_nothing_stays_of_a_job(affected: Search, calm: tuple[Search, Search]):
    for search in (affected, *calm):
        assert list(search.home.glob(".slurm*")) == []
        assert list(Path("/tmp").glob(f"ray-{search.job}.*")) == []
        wait_until(
            lambda job=search.job: not affected.site.processes(job), lambda: "processes of a job live on", 60
        )
