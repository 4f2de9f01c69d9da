from dataclasses import replace
from typing import Any

import pytest
from formula import formula_study

from orchestrator.common.errors import BadMachine, BadSpace
from orchestrator.ray_cluster.machine import Machine, shape_lanes
from orchestrator.search.space.space_file import parse_space
from orchestrator.study.checks import batch_sizes, check
from orchestrator.training.ray.lanes import Shape


def node(*, alive: bool = True, **resources: float) -> dict[str, Any]:
    """A node as Ray describes it."""
    return {"Alive": alive, "Resources": resources}


LAPTOP = [node(CPU=8)]
DGX_2 = [node(CPU=96, GPU=16)]


def test_each_worker_takes_a_gpu_where_there_are_gpus():
    assert shape_lanes(DGX_2, Machine(workers_per_fit=2)) == Shape(8, 2, 5.4, 1, "cuda")


def test_a_gpu_cluster_can_be_rehearsed_on_cpus():
    assert shape_lanes(DGX_2, Machine(device="cpu", workers_per_fit=4)) == Shape(4, 4, 5.4, 1, "cpu")


def test_cores_that_are_idle_go_to_the_workers_there_are():
    assert shape_lanes(LAPTOP, Machine(workers_per_fit=2, num_lanes=1)) == Shape(1, 2, 3.6, 0, "cpu")


def test_lanes_never_ask_for_more_than_there_is():
    nodes = [node(CPU=8), node(CPU=4)]
    shape = shape_lanes(nodes, Machine(workers_per_fit=5, num_lanes=99))
    assert shape.num_lanes == 2
    assert shape.num_lanes * shape.workers_per_lane * shape.cpus_per_worker < 12


def test_nodes_without_a_gpu_and_dead_ones_hold_no_lane():
    nodes = [node(CPU=64), node(CPU=8, GPU=2), node(alive=False, CPU=96, GPU=16)]
    assert shape_lanes(nodes, Machine()) == Shape(2, 1, 3.6, 1, "cuda")


def test_a_refit_takes_one_lane():
    assert shape_lanes(DGX_2, Machine(workers_per_fit=8), num_lanes=1).num_lanes == 1


def test_fits_that_share_a_gpu_take_equal_parts_of_it_and_of_the_cores():
    assert shape_lanes(DGX_2, Machine(fits_per_gpu=2)) == Shape(32, 1, 2.7, 0.5, "cuda")
    assert shape_lanes(DGX_2, Machine(fits_per_gpu=3)).gpus_per_worker == 0.3333
    assert shape_lanes(DGX_2, Machine(device="cpu", fits_per_gpu=4, num_lanes=5)) == Shape(
        5, 1, 1.35, 0.25, "cpu"
    )


def test_fits_can_share_a_gpu_only_where_there_is_one():
    with pytest.raises(
        BadMachine, match="--fits-per-gpu: fits can share a GPU only on nodes with GPUs, found none"
    ):
        shape_lanes(LAPTOP, Machine(fits_per_gpu=2))


def test_a_wide_fit_does_not_share_its_gpus():
    with pytest.raises(BadMachine, match=r"2 fits can share a GPU if each has one worker, found .* 4"):
        Machine(fits_per_gpu=2, workers_per_fit=4)


@pytest.mark.parametrize(
    "machine",
    [
        Machine(),
        Machine(workers_per_fit=4),
        Machine(fits_per_gpu=2),
        Machine(fits_per_gpu=3),
        Machine(device="cpu", fits_per_gpu=4),
    ],
    ids=["one each", "wide", "two a GPU", "three a GPU", "rehearsed"],
)
@pytest.mark.parametrize("nodes", [DGX_2, [node(CPU=7, GPU=4)], 2 * [node(CPU=36, GPU=8)]], ids=len)
def test_the_lanes_of_a_cluster_are_as_many_as_it_is_found_to_have_room_for(nodes, machine):
    shape = shape_lanes(nodes, machine)
    assert shape.num_on(nodes) == shape.num_lanes
    assert shape.num_on([*nodes, *nodes]) == 2 * shape.num_lanes
    assert shape.num_on([*nodes, node(CPU=64), node(alive=False, CPU=96, GPU=16)]) == shape.num_lanes


@pytest.mark.parametrize("cores", [1, 3, 8, 10, 20, 36])
def test_cores_hold_as_many_lanes_as_they_are_found_to_have_room_for(cores):
    shape = shape_lanes([node(CPU=cores)], Machine())
    assert shape.num_on([node(CPU=cores)]) == shape.num_lanes == cores


def test_cuda_without_a_gpu_is_refused():
    with pytest.raises(BadMachine, match="cuda needs a node with a GPU, found none"):
        shape_lanes(LAPTOP, Machine(device="cuda"))


def test_a_fit_that_is_wider_than_the_cluster_is_refused():
    with pytest.raises(BadMachine, match="16 workers need as many CPUs, found 8"):
        shape_lanes(LAPTOP, Machine(workers_per_fit=16))


def test_a_study_does_not_run_through_a_ray_client():
    with pytest.raises(
        BadMachine, match=r"--address: a study does not run through a Ray client.*`orchestrator submit`"
    ):
        Machine("ray://head:10001")


def test_every_batch_size_that_cannot_work_is_refused_before_anything_starts(tmp_path):
    space = parse_space("""
network = "unet"
[search]
batch_size = { choice = [2, 3, 64] }
[baseline]
batch_size = 2
""")
    study = replace(formula_study(tmp_path, num_trials=1), space=space)
    assert batch_sizes(space) == {space.networks[0]: (2, 3, 64)}
    with pytest.raises(BadSpace) as refusal:
        check(study, Machine(workers_per_fit=2))
    too_large, not_even = sorted(refusal.value.problems, key=len, reverse=True)
    assert "64 images need a fold that large" in too_large
    assert "3 images cannot be split evenly over 2 workers" in not_even


def test_a_sampling_that_the_data_does_not_allow_is_refused_before_anything_starts(tmp_path):
    sampling = 'sampling = { choice = ["cases", "centers"] }'
    space = parse_space(f'network = "unet"\n[search]\n{sampling}\n[baseline]\nsampling = "cases"')
    with pytest.raises(BadSpace, match=r"two centers or datasets, found those of drawn alone"):
        check(replace(formula_study(tmp_path, num_trials=1), space=space), Machine())
