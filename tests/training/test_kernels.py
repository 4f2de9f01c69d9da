"""GPUs that the installed PyTorch has no code for are refused, with the command that mends it."""

from __future__ import annotations

import pytest
import torch
from pretended import CUDA_13, HOPPER, VOLTA, gpus

from orchestrator.common.errors import MachineFault
from orchestrator.common.faults import machine_fault
from orchestrator.training.gpu_kernels import has_code_for, refuse_without_kernels
from orchestrator.training.ray.lane_worker import refused

CUDA_128 = "sm_70 sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"


@pytest.mark.parametrize(
    ("compiled", "capability", "runs"),
    [
        ("sm_80", (8, 0), True),
        ("sm_80", (8, 6), True),  # the same major version, a later minor one
        ("sm_86", (8, 0), False),
        ("sm_80", (9, 0), False),
        ("sm_70", (7, 5), True),
        ("sm_75", (7, 0), False),
        ("sm_60 compute_60", (7, 0), True),  # PTX is compiled at the first start
        ("compute_75", (7, 0), False),
        ("compute_90", (12, 0), True),
        ("sm_90a", (9, 0), True),
        ("sm_100a", (10, 3), False),
        ("compute_90a", (10, 0), False),
        ("sm_100f", (10, 3), True),
        ("compute_100f", (12, 0), False),
        ("sm_120", (12, 1), True),
        ("sm_80", (8, 7), False),  # Orin
        ("sm_87", (8, 7), True),
        ("sm_87", (8, 9), False),
        ("compute_80", (8, 7), True),
        (CUDA_13, VOLTA, False),
        (CUDA_128, VOLTA, True),
        ("gfx90a", (9, 0), False),
        ("", (8, 0), False),
    ],
)
def test_code_runs_where_nvidia_says_it_does(compiled: str, capability: tuple[int, int], runs: bool):
    assert has_code_for(compiled.split(), capability, cuda=(12, 8)) == runs


def test_from_cuda_13_2_on_a_jetson_runs_what_its_relatives_run():
    assert has_code_for(["sm_80"], (8, 7), cuda=(13, 2)) and not has_code_for(["sm_86"], (8, 0), cuda=(13, 2))


@pytest.mark.parametrize(
    ("capability", "compiled", "version", "command"),
    [
        (VOLTA, CUDA_13, "2.14.1+cu130", "`pip install 'torch>=2.8,<2.11' torchvision` on every node"),
        ((6, 1), CUDA_13, "2.14.1", "torchvision --index-url https://download.pytorch.org/whl/cu126`"),
        ((12, 0), "sm_80 sm_90", "2.5.1", "`pip install 'torch>=2.8,<2.11' torchvision`"),
        ((13, 0), CUDA_128, "2.10.0", "`pip install --upgrade torch torchvision`"),
        (
            VOLTA,
            "sm_80 sm_90",
            "2.9.1+cu130",
            "`pip uninstall --yes torch torchvision && pip install 'torch>=",
        ),
        ((3, 7), CUDA_13, "2.14.1", "use another GPU, or --device cpu"),
    ],
)
def test_a_gpu_without_code_is_the_machines_fault_with_what_mends_it(capability, compiled, version, command):
    with gpus(capability, compiled=compiled, version=version), pytest.raises(MachineFault) as refusal:
        refuse_without_kernels()
    told = str(machine_fault(refusal.value))
    assert command in told and f"sm_{capability[0]}{capability[1]}" in told and version in told


def test_equal_gpus_are_reported_in_one_line_and_others_beside_them():
    with gpus(VOLTA, HOPPER, VOLTA, (6, 0)), pytest.raises(MachineFault) as refusal:
        refuse_without_kernels()
    first, last = refusal.value.problems
    assert first.startswith("GPU 0, 2: GPU of 7.0 needs code for sm_70") and last.startswith("GPU 3: ")
    assert "cu126" in last  # serves both


@pytest.mark.parametrize("capabilities", [(), (HOPPER,), (HOPPER, (12, 1), (8, 9))])
def test_gpus_with_code_pass(capabilities):
    with gpus(*capabilities):
        refuse_without_kernels()


def test_a_gpu_that_is_not_used_may_lack_code():
    with gpus(HOPPER, VOLTA):
        refuse_without_kernels([0])


def test_a_worker_of_a_lane_looks_at_its_own_gpu():
    with gpus(HOPPER, VOLTA):
        assert refused(torch.device("cuda", 0)) is None and refused(torch.device("cpu")) is None
        assert "sm_70" in str(refused(torch.device("cuda", 1)))
