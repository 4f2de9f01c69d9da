"""What a cache on disk goes through: pruned, listed, killed and built by several processes at once."""

from __future__ import annotations

import fcntl
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from orchestrator.common.errors import BadMachine
from orchestrator.data.cache import frames as cache_module
from orchestrator.data.cache.frames import FolderPruned, cached_cases, lock_shared
from orchestrator.data.cache.prune import cache_entries, prune
from orchestrator.data.cases import Dataset
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.near_duplicates.find import find_near_duplicates
from orchestrator.data.near_duplicates.result_files import search_lock
from orchestrator.data.phantom import draw_dataset

BUILDER = """
import sys, time
from pathlib import Path
from orchestrator.data.cache.frames import cached_cases
from orchestrator.data.cases import load_dataset
home, cache, size, pause = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
dataset = load_dataset(home, "drawn")
print("ready", flush=True)
sys.stdin.readline()
def on_progress(done, total):
    print("built", done, flush=True)
    time.sleep(pause)
cases = cached_cases([dataset], size, cache, on_progress)
print("sum", sum(int(cases.image(case.id).sum()) for case in dataset.cases), flush=True)
sys.stdin.readline()
print("sum", sum(int(cases.image(case.id).sum()) for case in dataset.cases), flush=True)
"""
PRUNER = """
import sys, time
from pathlib import Path
from orchestrator.data.cache.prune import prune
print("ready", flush=True)
sys.stdin.readline()
removed = 0
while not Path(sys.argv[2]).exists():
    removed += len(prune(Path(sys.argv[1]), [], 0).removed)
    time.sleep(0.01)
print("removed", removed, flush=True)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def dataset(home: Path) -> Dataset:
    draw_dataset(home / "frames", num_cases=12, size=40)
    return add_dataset(home, "drawn", home / "frames", allow_empty=True)


class Process:
    """A program that waits for a line before it begins."""

    def __init__(self, code: str, *args: object) -> None:
        command = [sys.executable, "-c", code, *map(str, args)]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.line() == "ready"

    def go(self) -> None:
        assert self.popen.stdin
        self.popen.stdin.write("go\n")
        self.popen.stdin.flush()

    def line(self) -> str:
        assert self.popen.stdout
        return self.popen.stdout.readline().strip()

    def answer(self, word: str) -> int:
        """The number after the next line that begins with the word."""
        while (line := self.line()).split()[:1] != [word]:
            assert line, "the process ended"
        return int(line.split()[1])

    def kill(self) -> None:
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait(timeout=30)
        self.close()

    def end(self) -> None:
        assert self.popen.wait(timeout=30) == 0
        self.close()

    def close(self) -> None:
        for pipe in (self.popen.stdin, self.popen.stdout):
            pipe.close()


@pytest.fixture
def started() -> Iterator[list[Process]]:
    processes: list[Process] = []
    yield processes
    for process in processes:
        if process.popen.poll() is None:
            process.kill()


def age(cache: Path, size: str, hours: float) -> None:
    """Make a folder look as if it was last opened so long ago."""
    (folder,) = cache.glob(f"*/*/{size}")
    then = time.time() - 3600 * hours
    os.utime(folder, (then, then))


def sizes(cache: Path, dataset: Dataset) -> list[str]:
    return [entry.size for entry in cache_entries(cache, [dataset])]


def partials(cache: Path) -> list[Path]:
    return list(cache.glob("*/*/.*.partial"))


def test_holdings_say_whose_how_large_how_old_and_whether_in_use(dataset, tmp_path):
    cases = cached_cases([dataset], 32, tmp_path)
    original, sized = sorted(cache_entries(tmp_path, [dataset]), key=lambda one: one.size, reverse=True)
    assert (original.size, sized.size) == ("original", "32")
    assert original.dataset == sized.dataset == "drawn"
    assert sized.num_bytes == pytest.approx(12 * 32 * 32 * 4, abs=1000)
    assert (datetime.now(UTC) - sized.last_used).total_seconds() < 60
    assert original.in_use and sized.in_use
    del cases
    assert not any(entry.in_use for entry in cache_entries(tmp_path, [dataset]))
    assert {entry.dataset for entry in cache_entries(tmp_path, [])} == {None}


def test_what_no_dataset_needs_goes_and_the_rest_stays_without_a_bound(dataset, home, tmp_path):
    draw_dataset(tmp_path / "frames", num_cases=4, size=40, seed=9)
    gone = add_dataset(tmp_path, "gone", tmp_path / "frames", allow_empty=True)
    cache = tmp_path / "cache"
    cached_cases([dataset, gone], 32, cache)
    done = prune(cache, [dataset])
    assert {entry.folder.parent.name for entry in done.removed} == {gone.fingerprint}
    assert len(done.removed) == len(done.kept) == 2
    assert sizes(cache, dataset) == [entry.size for entry in done.kept]


def test_a_bound_takes_the_longest_unused_first_and_no_more_than_needed(dataset, tmp_path):
    for size, hours in (("32", 1), ("48", 3), ("64", 2)):
        cached_cases([dataset], int(size), tmp_path)
        age(tmp_path, f"size-{size}", hours)
    total = sum(entry.num_bytes for entry in cache_entries(tmp_path, [dataset]))
    removed = prune(tmp_path, [dataset], total - 1).removed
    assert [entry.size for entry in removed] == ["48"]
    assert prune(tmp_path, [dataset], total).removed == ()
    cached_cases([dataset], 64, tmp_path)  # used again
    assert next(one.size for one in prune(tmp_path, [dataset], 1).removed) == "32"


def test_what_this_process_has_open_stays_and_goes_once_it_is_let_go(dataset, tmp_path):
    cases = cached_cases([dataset], 32, tmp_path)
    copy = pickle.loads(pickle.dumps(cases))
    del cases
    assert prune(tmp_path, [], 0).removed == ()
    assert copy.image(dataset.cases[0].id).any()
    del copy
    assert len(prune(tmp_path, [], 0).removed) == 2
    assert sizes(tmp_path, dataset) == []


def test_folders_of_the_first_version_go_unless_somebody_reads_them(dataset, tmp_path):
    first = tmp_path / "v1" / dataset.fingerprint
    for name in ("size-32", "original"):
        (first / name).mkdir(parents=True)
        (first / name / "masks.npy").write_bytes(b"old")
    with (first / "original" / "masks.npy").open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert [one.folder.name for one in prune(tmp_path, [dataset]).removed] == ["size-32"]
    assert [one.folder.name for one in prune(tmp_path, [dataset]).removed] == ["original"]


def test_opening_a_pruned_cache_builds_it_again(dataset, tmp_path):
    before = cached_cases([dataset], 32, tmp_path).image(dataset.cases[0].id)
    prune(tmp_path, [], 0)
    assert np.array_equal(cached_cases([dataset], 32, tmp_path).image(dataset.cases[0].id), before)


def test_what_is_pruned_between_building_and_opening_is_built_again(dataset, tmp_path, monkeypatch):
    asked = []

    def hold_once_pruned(folder: Path) -> int:
        if not asked:
            asked.append(prune(tmp_path, [], 0))
        return lock_shared(folder)

    monkeypatch.setattr(cache_module, "lock_shared", hold_once_pruned)
    cases = cached_cases([dataset], 32, tmp_path)
    assert len(asked[0].removed) == 2
    assert cases.image(dataset.cases[0].id).any()


def test_a_folder_that_is_gone_or_was_swapped_cannot_be_held(tmp_path):
    with pytest.raises(FolderPruned):
        lock_shared(tmp_path / "nothing")


def test_another_size_of_open_cases_is_built_from_the_same_data(dataset, tmp_path):
    cases = cached_cases([dataset], 32, tmp_path)
    assert cases.at(32) is cases
    assert cases.at(48).image(dataset.cases[0].id).shape == (48, 48, 3)


def test_changed_data_under_the_same_name_is_decoded_again(tmp_path):
    draw_dataset(tmp_path / "frames", num_cases=4, size=40)
    old = add_dataset(tmp_path, "mine", tmp_path / "frames", allow_empty=True)
    before = cached_cases([old], 32, tmp_path / "cache").image(old.cases[0].id)
    shutil.rmtree(old.folder)
    shutil.copy(
        tmp_path / "frames/images" / old.cases[1].image.name,
        tmp_path / "frames/images" / old.cases[0].image.name,
    )
    new = add_dataset(tmp_path, "mine", tmp_path / "frames", allow_empty=True)
    assert new.fingerprint != old.fingerprint
    cases = cached_cases([new], 32, tmp_path / "cache")
    assert not np.array_equal(cases.image(new.cases[0].id), before)
    assert np.array_equal(cases.image(new.cases[0].id), cases.image(new.cases[1].id))
    del cases
    removed = prune(tmp_path / "cache", [new]).removed
    assert {entry.folder.parent.name for entry in removed} == {old.fingerprint}


def test_a_damaged_frame_leaves_nothing_half_built(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "refuse_changed", lambda *_: None)  # damaged a moment later
    draw_dataset(tmp_path / "frames", num_cases=4, size=40)
    dataset = add_dataset(tmp_path, "mine", tmp_path / "frames", allow_empty=True)
    dataset.cases[2].image.write_bytes(b"no picture")
    with pytest.raises(Exception, match="does not decode"):
        cached_cases([dataset], 32, tmp_path / "cache")
    assert partials(tmp_path / "cache") == []
    assert sizes(tmp_path / "cache", dataset) == []


def test_a_full_disk_is_an_error_in_words_and_leaves_nothing(dataset, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        BadMachine, match=r"cannot reserve \d+\.\d kB .* No space left on device; free space with"
    ):
        cached_cases([dataset], 32, tmp_path)
    assert partials(tmp_path) == []


def test_a_builder_that_is_killed_leaves_a_rest_that_is_swept_or_built_over(dataset, home, tmp_path, started):
    builder = Process(BUILDER, home, tmp_path, 32, 0.2)
    started.append(builder)
    builder.go()
    assert builder.answer("built") == 1
    assert len(partials(tmp_path)) == 1
    assert prune(tmp_path, [], 0).swept == ()  # it is being built
    builder.kill()
    assert len(partials(tmp_path)) == 1
    assert len(prune(tmp_path, [], 0).swept) == 1
    assert partials(tmp_path) == []
    assert cached_cases([dataset], 32, tmp_path).image(dataset.cases[0].id).any()


def test_a_process_that_waits_for_a_builder_takes_over_when_that_is_killed(dataset, home, tmp_path, started):
    started += [Process(BUILDER, home, tmp_path, 32, pause) for pause in (0.2, 0)]
    first, second = started
    first.go()
    assert first.answer("built") == 1
    second.go()
    time.sleep(0.2)
    first.kill()
    total = second.answer("sum")
    cases = cached_cases([dataset], 32, tmp_path)
    assert total == sum(int(cases.image(case.id).sum()) for case in dataset.cases)
    assert partials(tmp_path) == []


def test_what_another_process_reads_stays_until_it_ends_even_by_a_kill(dataset, home, tmp_path, started):
    reader = Process(BUILDER, home, tmp_path, 32, 0)
    started.append(reader)
    reader.go()
    total = reader.answer("sum")
    assert prune(tmp_path, [], 0).removed == ()
    assert all(entry.in_use for entry in cache_entries(tmp_path, [dataset]))
    reader.go()
    assert reader.answer("sum") == total
    reader.end()
    assert len(prune(tmp_path, [], 0).removed) == 2


@pytest.mark.slow
def test_builders_and_readers_see_whole_arrays_while_another_process_prunes(dataset, home, tmp_path, started):
    cases = cached_cases([dataset], 32, tmp_path / "reference")
    expected = sum(int(cases.image(case.id).sum()) for case in dataset.cases)
    stop = tmp_path / "stop"
    pruner = Process(PRUNER, tmp_path / "cache", stop)
    readers = [Process(BUILDER, home, tmp_path / "cache", 32, 0) for _ in range(3)]
    started += [pruner, *readers]
    pruner.go()
    for reader in readers:
        reader.go()
    for reader in readers:
        assert reader.answer("sum") == expected
        reader.go()
        assert reader.answer("sum") == expected
        reader.end()
    removed = 0
    for _ in range(8):
        removed += not any((tmp_path / "cache").glob("*/*/size-32"))
        again = cached_cases([dataset], 32, tmp_path / "cache")
        assert sum(int(again.image(case.id).sum()) for case in dataset.cases) == expected
        del again
        time.sleep(0.02)
    stop.touch()
    assert pruner.answer("removed") >= removed > 0
    pruner.end()


@pytest.fixture(scope="module")
def looked_at(dataset, home, tmp_path_factory) -> tuple[Path, Dataset]:
    """A cache with what was found in `dataset` and in another one, which is returned, and between the two."""
    draw_dataset(home / "more", num_cases=3, size=40, seed=5)
    other = add_dataset(home, "other", home / "more", allow_empty=True)
    cache = tmp_path_factory.mktemp("cache")
    find_near_duplicates([dataset, other], cache)
    return cache, other


@pytest.fixture
def cache(looked_at, tmp_path) -> Path:
    return Path(shutil.copytree(looked_at[0], tmp_path / "cache"))


def test_near_duplicates_on_disk_are_listed_with_their_size(dataset, looked_at, cache):
    found = cache_entries(cache, [dataset, looked_at[1]])
    assert sorted((one.dataset, one.size) for one in found) == [
        (name, kind) for name in ("drawn", "other") for kind in ("landmarks", "near-duplicates")
    ]
    files = [path for path in cache.rglob("*") if path.suffix in (".landmarks", ".json")]
    assert sum(one.num_bytes for one in found) == sum(path.stat().st_size for path in files) > 0
    assert not any(one.in_use for one in found)


def test_near_duplicates_of_a_dataset_that_is_gone_go_and_what_the_others_have_stays(
    dataset, looked_at, cache
):
    other = looked_at[1]
    done = prune(cache, [dataset])
    assert {one.fingerprint for one in done.removed} == {other.fingerprint}
    left = [
        path.name for path in (cache / "leaks").rglob("*") if not path.name.startswith(".") and path.is_file()
    ]
    assert len(left) == 2 and all(dataset.fingerprint in name for name in left)
    assert not any(other.fingerprint in name for name in left)
    assert prune(cache, [dataset]).removed == ()


def test_near_duplicates_of_older_versions_and_of_killed_writes_go(dataset, looked_at, cache):
    (now,) = (cache / "leaks").iterdir()
    shutil.copytree(now, now.with_name("v1"))
    (now / f".{dataset.fingerprint}-00000.landmarks.1.partial").touch()
    done = prune(cache, [dataset, looked_at[1]])
    assert {one.folder.name for one in done.removed} == {"v1"}
    assert len(done.swept) == 1 and not done.swept[0].exists()


def test_a_bound_takes_landmarks_and_leaves_what_was_found_with_them(dataset, looked_at, cache):
    done = prune(cache, [dataset, looked_at[1]], 0)
    assert [one.size for one in done.removed] == ["landmarks"] * 2
    assert [one.size for one in done.kept] == ["near-duplicates"] * 2
    assert find_near_duplicates([dataset, looked_at[1]], cache).near_duplicates is not None
    assert not list(cache.rglob("*.landmarks"))  # nothing was looked for again


def test_near_duplicates_stay_while_a_process_looks_for_some(cache):
    (folder,) = (cache / "leaks").iterdir()
    with search_lock(folder):
        assert all(one.in_use for one in cache_entries(cache, []))
        assert prune(cache, [], 0).removed == ()
    assert len(prune(cache, [], 0).removed) == 4
