import json
from collections.abc import Iterator
from unittest.mock import patch

import pytest
import torch
from drawn import CPU, drawn_fit, learned, train, work
from limited_memory import Plain, every_network, memory_limit

from orchestrator.common.errors import FitFailed
from orchestrator.search.fit_jobs import memory_kind
from orchestrator.search.records.ledger import Ledger
from orchestrator.search.score_job import ScoreJob
from orchestrator.training.batch_memory import Memory
from orchestrator.training.memory import cap_memory, device_name, fraction_of, ran_out, within_memory
from orchestrator.training.validation.scores import score_cases

KIND = {"network": "unet", "image_size": 352}
GIB = 2**30


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("micro_batch", [1, 3, 4])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 1.5)], ids=["one scale", "multi-scale"])
def test_micro_batches_learn_what_the_whole_batch_learns(cases, tmp_path, scales, micro_batch):
    spec = drawn_fit(cases, batch_size=8, scales=scales)
    with every_network(Plain):
        whole = train(spec, cases, tmp_path / "whole")
        parts = train(spec, cases, tmp_path / "parts", micro_batch=micro_batch)
    for one, other in zip(learned(parts), learned(whole), strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    for name, value in whole.weights.items():
        torch.testing.assert_close(parts.weights[name], value, rtol=1e-4, atol=1e-5)
    assert {row["micro_batch"] for row in parts.curves} == {micro_batch}
    assert {row["micro_batch"] for row in whole.curves} == {8}


def test_a_fit_that_needs_more_memory_than_there_is_goes_on_with_half_as_many_images(home, cases, tmp_path):
    spec = drawn_fit(cases, batch_size=8)
    with memory_limit(largest=3) as tried:
        assert work(home, tmp_path)(spec, CPU, 0, lambda row: True)
    assert tried[:4] == [8, 4, 2, 2]
    record = Ledger(tmp_path).read(spec.fit_id)
    assert (len(record.curves), record.micro_batch) == (spec.recipe.epochs, 2)


@pytest.mark.slow
def test_what_fits_is_remembered_for_the_next_fit_of_its_kind(home, cases, tmp_path):
    with memory_limit(largest=3) as tried:
        work(home, tmp_path)(drawn_fit(cases, batch_size=8), CPU, 0, lambda row: True)
        tried.clear()
        work(home, tmp_path)(drawn_fit(cases, batch_size=6, learning_rate=1e-4), CPU, 0, lambda row: True)
        assert set(tried) == {2}
        tried.clear()
        work(home, tmp_path)(drawn_fit(cases, batch_size=6, image_size=48), CPU, 0, lambda row: True)
        assert tried[0] == 6


def test_memory_that_runs_out_in_the_middle_costs_the_epoch_in_flight(home, cases, tmp_path):
    spec, rows = drawn_fit(cases, batch_size=8), []
    work(home, tmp_path)(spec, CPU, 0, lambda row: rows.append(row) or row["epoch"] < 1)
    with memory_limit(largest=4):
        work(home, tmp_path)(spec, CPU, 0, lambda row: rows.append(row) is None)
    trained = {
        (row["epoch"], row["micro_batch"], row["seconds"]) for row in rows
    }  # who resumes tells all again
    assert sorted(row[:2] for row in trained) == [(0, 8), (1, 8), (2, 4), (3, 4)]
    assert Ledger(tmp_path).read(spec.fit_id).micro_batch == 4


@pytest.mark.parametrize(("batch_size", "tta", "scored"), [(1, "none", 4), (2, "flips", 1)])
def test_scoring_that_needs_more_memory_than_training_goes_on_with_fewer_images(
    home, cases, tmp_path, batch_size, tta, scored
):
    spec = drawn_fit(cases, num_val=9, epochs=2, batch_size=batch_size, tta=tta)
    with memory_limit(largest=batch_size, largest_scored=4):
        assert work(home, tmp_path)(spec, CPU, 0, lambda row: True)
    assert Ledger(tmp_path).read(spec.fit_id).micro_batch == batch_size
    (note,) = (json.loads(path.read_text()) for path in (tmp_path / "memory").iterdir())
    assert (note["work"], note["tta"], note["images"]) == ("score", tta, scored)


def test_scoring_of_finished_weights_knows_what_fitted_when_a_fit_was_scored(home, cases, tmp_path):
    spec = drawn_fit(cases, num_val=9, epochs=1, tta="flips")
    job = ScoreJob(spec.fit_id, "test", spec.datasets, spec.val)
    with memory_limit(largest=4, largest_scored=16):
        assert work(home, tmp_path)(spec, CPU, 0, lambda row: True)
        with patch("orchestrator.search.fit_jobs.score_cases", side_effect=score_cases) as scored:
            assert work(home, tmp_path)(job, CPU, 0, lambda row: True)
    assert [call.args[-1] for call in scored.call_args_list] == [4]


def test_what_fits_depends_on_views_in_scoring_and_on_averaged_weights_in_training(cases):
    def kinds(**recipe):
        return [memory_kind(name, drawn_fit(cases, **recipe), CPU) for name in ("fit", "score")]

    fit, score = kinds()
    assert kinds(tta="flips")[0] == fit and kinds(tta="flips")[1] != score
    assert kinds(weight_averaging="ema")[0] != fit and kinds(weight_averaging="ema")[1] == score


def test_a_network_too_large_for_one_image_fails_in_words(home, cases, tmp_path):
    with (
        memory_limit(largest=0),
        pytest.raises(FitFailed, match=r"one image at a time does not fit .* image_size 32"),
    ):
        work(home, tmp_path)(drawn_fit(cases), CPU, 0, lambda row: True)


@pytest.mark.parametrize(("images", "tried"), [(8, [8, 4, 2]), (5, [5, 3]), (3, [3]), (1, [1])])
def test_a_network_that_needs_two_images_is_not_given_one(tmp_path, images, tried):
    asked = []

    def attempt(at_a_time: int) -> None:
        asked.append(at_a_time)
        raise torch.OutOfMemoryError("too much")

    with pytest.raises(FitFailed, match="not fit into the memory"):
        within_memory(Memory(tmp_path), KIND, images, CPU, attempt, smallest=2)
    assert asked == tried


def test_other_errors_are_not_taken_for_want_of_memory(tmp_path):
    def attempt(images: int) -> None:
        raise RuntimeError("expected scalar type Half but found Float")

    with pytest.raises(RuntimeError, match="expected scalar"):
        within_memory(Memory(tmp_path), KIND, 8, CPU, attempt)
    assert not list(tmp_path.iterdir())


def test_memory_that_ran_out_in_a_library_is_known():
    assert ran_out(torch.OutOfMemoryError("Tried to allocate"))
    assert ran_out(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert not ran_out(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize(
    ("images", "fits", "at_a_time"), [(16, 16, 16), (16, 12, 8), (7, 4, 4), (9, 4, 3), (2, 8, 2)]
)
def test_parts_are_as_few_as_fit_and_of_about_one_size(tmp_path, images, fits, at_a_time):
    memory = Memory(tmp_path)
    memory.note(KIND, fits)
    assert memory.at_a_time(KIND, images) == at_a_time


def test_what_is_remembered_can_be_read_by_people(tmp_path):
    Memory(tmp_path).note(KIND, 4)
    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_text()) == {**KIND, "images": 4}


def test_fits_that_share_a_gpu_leave_room_for_what_cuda_takes_itself():
    for num_fits in (2, 3, 4):
        assert num_fits * (fraction_of(32 * GIB, num_fits) * 32 + 0.5) < 32
    assert fraction_of(32 * GIB, 2) > 0.45


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_a_gpu_that_is_full_is_released_and_tried_with_less(tmp_path, name):
    device, tried = torch.device(name), []
    total = torch.cuda.get_device_properties(0).total_memory

    def attempt(images: int) -> int:
        tried.append(images)
        held = [torch.empty(total // 3, dtype=torch.uint8, device=device) for _ in range(images)]
        return len(held)

    assert within_memory(Memory(tmp_path), KIND, 8, device, attempt) == 2
    assert tried == [8, 4, 2]
    assert torch.cuda.memory_allocated(0) == 0
    assert torch.cuda.get_device_name(0) in device_name(device)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_fit_that_shares_a_gpu_is_held_to_its_part_of_the_memory():
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()  # what is kept already would be given without asking
    try:
        cap_memory(torch.device("cuda:0"), 4)
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(total // 4, dtype=torch.uint8, device="cuda:0")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, 0)
