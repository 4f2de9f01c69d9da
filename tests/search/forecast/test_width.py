"""How many workers a fit gets: the decision by written numbers, and the measurement on the CPU."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch
from formula import formula_study
from limited_memory import memory_limit

from orchestrator.ray_cluster.machine import Machine, open_widths
from orchestrator.search.fit_jobs import FitJobRunner
from orchestrator.search.forecast import width
from orchestrator.search.forecast.plan import some_configurations
from orchestrator.search.forecast.speed import Speed
from orchestrator.search.forecast.time_job import TimeJob, read_speeds
from orchestrator.search.forecast.width import choose_width, possible_widths, quickest
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.search.space.space_file import parse_space
from orchestrator.study import run as run_module
from orchestrator.study.run import settle_width

SPACE = parse_space("""
network = "unet"
[search]
learning_rate = { log_uniform = [1e-5, 1e-3] }
[fixed]
base_channels = 4
batch_size = 4
epochs = 3
image_size = 32
[baseline]
learning_rate = 1e-4
""")
EVEN = Speed({4: 10.0, 2: 10.0, 1: 10.0}, validation=10.0, gradient_bytes=0)
BOUND = Speed({4: 40.0, 2: 20.0, 1: 10.0}, validation=10.0, gradient_bytes=0)  # by what a step costs anyway
TIGHT = Speed({4: 2.0, 2: 10.0, 1: 10.0}, validation=10.0, gradient_bytes=0)  # the whole batch does not fit
NODE = [{"Alive": True, "Resources": {"CPU": 16, "GPU": 4}}]


@pytest.fixture(autouse=True)
def few_repetitions(monkeypatch):
    """Of each forecast: twenty take seconds, and these decide alike."""
    monkeypatch.setattr(width, "REPETITIONS", 3)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return replace(formula_study(tmp_path_factory.mktemp("home"), num_trials=12), space=SPACE)


@pytest.fixture
def job(study, tmp_path):
    return TimeJob(tmp_path / "speeds.json", (some_configurations(SPACE, 0, 0)[0],), study.plan, (1, 2, 4))


def chosen(job, *found, trials=12, gpus=4, lanes=None):
    job.file.write_text(json.dumps([one if isinstance(one, str) else asdict(one) for one in found]))
    return choose_width(
        job, num_gpus=gpus, max_lanes=lanes, num_trials=trials, race="none", rescore=0, num_parameters=1
    )


def test_where_all_widths_end_as_soon_fits_stay_narrow(job):
    choice = chosen(job, EVEN)
    assert choice.width == 1
    assert choice.why.startswith("1 worker per fit: on 4 GPUs 12 trials are forecast to take ")
    assert all(f"h with {width}" in choice.why for width in (1, 2, 4))


def test_lanes_that_would_have_nothing_to_do_become_workers(job):
    assert chosen(job, EVEN, trials=1).width == 4
    assert chosen(job, EVEN, lanes=1).width == 4


def test_workers_that_bring_nothing_are_not_taken(job):
    assert chosen(job, replace(BOUND, validation=1e9), trials=1).width == 1


def test_a_batch_that_one_gpu_takes_in_parts_makes_fits_wider(job):
    assert chosen(job, TIGHT).width == 2


def test_a_paper_configuration_that_cannot_be_trained_is_reported(job):
    choice = chosen(job, "one image does not fit")
    assert (choice.width, choice.why) == (
        1,
        "1 worker per fit: the baseline could not be timed, one image does not fit",
    )


def test_a_drawn_configuration_that_cannot_be_trained_is_left_out(job):
    job = replace(job, configurations=job.configurations * 3)
    assert chosen(job, EVEN, "the loss became nan", EVEN).why.endswith("by 2 that were timed for a few steps")


def test_one_fit_alone_takes_the_width_that_ends_it_first(job, study):
    spec = fold_specs(job.configurations[0], study.plan)[0]
    assert quickest(job.file, spec, (1, 2, 4)) == 4
    chosen(job, EVEN)
    assert quickest(job.file, spec, (1, 2, 4)) == 4
    chosen(job, replace(BOUND, gradient_bytes=10**9))
    assert quickest(job.file, spec, (1, 2, 4)) == 1


def test_a_worker_gets_as_many_images_as_its_network_needs():
    assert possible_widths({"unet": (8, 12)}, 16) == (1, 2, 4)
    assert possible_widths({"unet": (8,), "pranet": (8,)}, 16) == (1, 2, 4, 8)
    assert possible_widths({"unet": (8,), "deeplabv3p_xception": (8,)}, 16) == (1, 2, 4)
    assert possible_widths({"deeplabv3p_xception": (1,)}, 16) == (1,)


def test_there_is_a_choice_on_several_gpus_of_a_node_alone():
    assert open_widths(NODE, Machine(), {"unet": (8,)}) == (1, 2, 4)
    assert open_widths(2 * NODE, Machine(), {"unet": (8,)}) == (1, 2, 4)
    one_each = [{"Alive": True, "Resources": {"CPU": 8, "GPU": 1}}] * 3
    laptop = [{"Alive": True, "Resources": {"CPU": 8}}]
    for nodes, machine in (
        (one_each, Machine()),
        (laptop, Machine()),
        (NODE, Machine(device="cpu")),
        (NODE, Machine(workers_per_fit=1)),
        (NODE, Machine(fits_per_gpu=2)),
    ):
        assert open_widths(nodes, machine, {"unet": (8,)}) == ()


def test_more_gpus_than_were_timed_for_are_timed_again(job):
    assert not job.is_done
    chosen(job, EVEN)
    assert job.is_done
    chosen(job, replace(EVEN, training={4: 10.0, 2: 10.0}))
    assert not job.is_done and replace(job, widths=(1, 2)).is_done
    chosen(job, "one image does not fit")
    assert job.is_done


def test_timing_scores_nothing_and_needs_no_memory_for_it(study, job):
    work = FitJobRunner(study.store.home, study.store.home / "cache", study.store.ledger)
    with memory_limit(largest=1, largest_scored=1):
        assert work(replace(job, widths=(4,)), torch.device("cpu"), 0, lambda row: True)
    (speed,) = read_speeds(job.file)
    assert set(speed.training) == {1}


class OneLane:
    """A lane in this process, on the CPU, that counts its jobs."""

    jobs = 0

    def __init__(self, work, shape, storage):
        assert (shape.num_lanes, shape.workers_per_lane, shape.device) == (1, 1, "cuda")
        self.work = work

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def run(self, job_id, payload):
        OneLane.jobs += 1
        self.work(payload, torch.device("cpu"), 0, lambda row: True)


class Said(list):
    """What a watch was told."""

    now = list.append


@pytest.mark.slow
def test_a_study_measures_once_and_a_resumed_one_reads(study, monkeypatch):
    monkeypatch.setattr(run_module, "Lanes", OneLane)
    monkeypatch.setattr(run_module.ray, "nodes", lambda: NODE)
    work, said = FitJobRunner(study.store.home, study.store.home / "cache", study.store.ledger), Said()
    choice = settle_width(study, Machine(), work, said)
    assert choice.width in (1, 2, 4)
    assert said == ["timing"]
    first, *drawn = read_speeds(study.store.speeds_file)
    assert set(first.training) == {1, 2, 4}
    assert [set(speed.training) for speed in drawn] == [{4}, {4}]
    assert settle_width(study, Machine(), work, said) == choice
    assert settle_width(study, Machine(workers_per_fit=2), work, said) is None
    assert OneLane.jobs == 1
    whole = [asdict(first), *map(asdict, drawn)]
    study.store.speeds_file.write_text(json.dumps([whole[0] | {"training": {4: 1.0, 2: 1.0}}, *whole[1:]]))
    settle_width(study, Machine(), work, said)
    assert OneLane.jobs == 2 and set(read_speeds(study.store.speeds_file)[0].training) == {1, 2, 4}
