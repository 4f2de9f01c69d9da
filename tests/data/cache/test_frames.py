from __future__ import annotations

import errno
import fcntl
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from orchestrator.data.cache.frames import VERSION, cached_cases
from orchestrator.data.cases import Dataset
from orchestrator.data.images import read_mask
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("cached")
    for seed in (0, 1):
        draw_dataset(home / f"drawn{seed}", num_cases=12, size=50, seed=seed)
        add_dataset(home, f"Drawn{seed}", home / f"drawn{seed}", allow_empty=True)
    return home


@pytest.fixture(scope="module")
def datasets(home: Path) -> tuple[Dataset, Dataset]:
    one, other = (
        add_dataset(home, f"Drawn{seed}", home / f"drawn{seed}", allow_empty=True) for seed in (0, 1)
    )
    return one, other


def test_cases_of_several_datasets_are_found_by_id(datasets, tmp_path):
    cases = cached_cases(datasets, 32, tmp_path)
    for case in (*datasets[0].cases, *datasets[1].cases):
        assert cases.case(case.id) == case
        assert cases.image(case.id).shape == (32, 32, 3)
        assert cases.mask(case.id).shape == (32, 32)
        assert cases.mask(case.id).mean() == pytest.approx(case.polyp_fraction, abs=0.02)


def test_masks_hold_zero_and_one_and_originals_are_exact(datasets, tmp_path):
    cases = cached_cases(datasets, 32, tmp_path)
    for case in datasets[0].cases:
        assert set(np.unique(cases.mask(case.id))) <= {0, 1}
        assert np.array_equal(cases.original_mask(case.id), read_mask(case.mask))


def test_what_is_handed_out_may_be_changed_without_changing_the_cache(datasets, tmp_path):
    cases = cached_cases(datasets, 32, tmp_path)
    id = datasets[0].cases[0].id
    before = cases.image(id)
    cases.image(id)[:] = 0
    assert before.any()
    assert np.array_equal(cases.image(id), before)
    frame = cases.frame(id)
    assert np.array_equal(frame[..., :3], before)
    assert np.array_equal(frame[..., 3], cases.mask(id) * 255)
    with pytest.raises(ValueError, match="read-only"):
        frame[:] = 0


def test_an_existing_cache_is_opened_and_not_built(datasets, tmp_path):
    steps: list[tuple[int, int]] = []
    cached_cases(datasets, 32, tmp_path, on_progress=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 48) for done in range(1, 49)]  # frames at this size, and masks at their own
    cached_cases(datasets, 32, tmp_path, on_progress=lambda done, total: steps.append((done, total)))
    assert len(steps) == 48


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_a_file_system_without_locks_will_do(datasets, tmp_path, monkeypatch):
    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert cached_cases(datasets, 32, tmp_path).image(datasets[0].cases[0].id).shape == (32, 32, 3)


def test_another_size_does_not_pack_the_original_masks_again(datasets, tmp_path):
    cached_cases(datasets, 32, tmp_path)
    steps: list[int] = []
    cached_cases(datasets, 48, tmp_path, on_progress=lambda done, total: steps.append(total))
    assert steps == [24] * 24


def test_it_travels_to_another_process_without_its_pixels(datasets, tmp_path):
    cases = cached_cases(datasets, 32, tmp_path)
    sent = pickle.dumps(cases)
    id = datasets[0].cases[3].id
    assert len(sent) < 20_000
    assert np.array_equal(pickle.loads(sent).image(id), cases.image(id))


def test_remains_of_a_killed_build_are_thrown_away(datasets, tmp_path):
    dataset = datasets[0]
    remains = tmp_path / VERSION / dataset.fingerprint / ".size-32.partial"
    remains.mkdir(parents=True)
    (remains / "pixels.npy").write_bytes(b"half")
    cases = cached_cases([dataset], 32, tmp_path)
    assert cases.image(dataset.cases[0].id).any()
    assert not remains.exists()


BUILD = """
import sys, time
from pathlib import Path
from orchestrator.data.cache.frames import cached_cases
from orchestrator.data.cases import load_dataset
dataset = load_dataset(Path(sys.argv[1]), "Drawn0")
built = []
print("ready", flush=True)
sys.stdin.readline()
cases = cached_cases([dataset], 32, Path(sys.argv[2]), lambda *_: (built.append(1), time.sleep(0.02)))
print(len(built), sum(int(cases.image(case.id).sum()) for case in dataset.cases))
"""


def build_twice_at_once(home: Path, cache: Path) -> list[list[str]]:
    """What two processes say that ask for the same at the same moment."""
    command = [sys.executable, "-c", BUILD, str(home), str(cache)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    return answers


def test_two_processes_that_ask_at_once_see_one_whole_cache(home, datasets, tmp_path):
    answers = build_twice_at_once(home, tmp_path)
    assert sum(int(built) for built, _ in answers) == 24
    assert answers[0][1] == answers[1][1]


def test_two_processes_that_find_a_damaged_cache_build_it_once(home, datasets, tmp_path):
    cases = cached_cases(datasets[:1], 32, tmp_path)
    whole = sum(int(cases.image(case.id).sum()) for case in datasets[0].cases)
    (tmp_path / VERSION / datasets[0].fingerprint / "size-32" / "pixels.npy").write_bytes(b"")
    answers = build_twice_at_once(home, tmp_path)
    assert sum(int(built) for built, _ in answers) == 12
    assert {int(found) for _, found in answers} == {whole}
