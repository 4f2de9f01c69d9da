"""Main loop of every worker of a lane: take a job, perform it with the other ranks, report its end."""

from __future__ import annotations

import traceback
import uuid
from collections.abc import Callable
from typing import Any

import ray
import ray.train.torch
import torch

from orchestrator.common.errors import BadMachine, FitFailed, MachineFault, OutOfMemory, UserError
from orchestrator.common.faults import is_persistent, machine_fault
from orchestrator.training import workers
from orchestrator.training.gpu_kernels import refuse_without_kernels
from orchestrator.training.jobs import deserialized
from orchestrator.training.memory import cap_memory, killed_for_memory
from orchestrator.training.process import configure_process

# Failures that another attempt would repeat.
PERMANENT = (torch.OutOfMemoryError, MemoryError, FitFailed, UserError)

Report = Callable[[dict[str, float]], bool]
# perform(payload, device, loader_workers, report): True if finished, False if stopped by `report`.
Perform = Callable[[Any, torch.device, int, Report], bool]


def serve(config: dict[str, Any]) -> None:
    """Main loop of a lane worker: take a job, perform it with the other ranks, report its end."""
    dispatcher, lane, perform = config["dispatcher"], config["lane"], config["perform"]
    cpus = max(1, round(config["cpus"]))
    configure_process(cpus)
    device = ray.train.torch.get_device() if config["device"] == "cuda" else torch.device("cpu")
    if (fault := refused(device)) is not None:  # no fit is to blame, so none is started
        ray.get(dispatcher.halt.remote(fault))
        return
    if device.type == "cuda" and config["gpus"] < 1:
        cap_memory(device, int(1 / config["gpus"]))
    nodes = workers.gather(ray.get_runtime_context().get_node_id())
    num_killed = sum(workers.gather(killed_for_memory()))
    first, group = workers.rank() == 0, uuid.uuid4().hex
    while True:
        job = workers.from_first(
            ray.get(dispatcher.take.remote(lane, group, nodes, num_killed)) if first else None
        )
        if job is None:
            return
        if job == "wait":
            continue
        job_id, payload = job[0], deserialized(job[1])

        def report(row: dict[str, float], job_id: str = job_id) -> bool:
            return workers.from_first(bool(first and ray.get(dispatcher.progress.remote(lane, job_id, row))))

        try:
            finished = perform(payload, device, cpus - 1 if device.type == "cuda" else 0, report)
        except Exception as failure:
            if (reason := _halting_failure(failure)) is not None:
                ray.get(dispatcher.halt.remote(reason))
                if workers.size() > 1:
                    raise
                ray.get(dispatcher.end.remote(lane, job_id, "stopped"))
            elif not _is_known_to_all(failure):
                # Other ranks may be waiting inside a collective, which only a new worker group resolves.
                _report_failure(dispatcher, lane, job_id, failure)
                raise
            elif first:
                ray.get(dispatcher.end.remote(lane, job_id, "failed", str(failure)))
        else:
            if first:
                ray.get(dispatcher.end.remote(lane, job_id, "finished" if finished else "stopped"))


def refused(device: torch.device) -> MachineFault | None:
    """The fault that keeps a worker of this lane from training on its GPU, or None; the same on every rank."""
    fault = None
    try:
        refuse_without_kernels([device.index or 0] if device.type == "cuda" else [])
    except MachineFault as refusal:
        fault = refusal
    return next((one for one in workers.gather(fault) if one is not None), None)


def _halting_failure(failure: Exception) -> Exception | None:
    """The error if no other attempt or fit could avoid it: a full disk, changed data; None otherwise."""
    if isinstance(failure, UserError) and not isinstance(failure, BadMachine):
        return failure
    return machine_fault(failure) if not isinstance(failure, FitFailed) and is_persistent(failure) else None


def _is_known_to_all(failure: Exception) -> bool:
    """Whether all ranks see this failure: a failed fit is one, but memory may run out on a single rank."""
    return isinstance(failure, FitFailed) and (workers.size() == 1 or not isinstance(failure, OutOfMemory))


def _report_failure(dispatcher: Any, lane: int, job_id: str, failure: Exception) -> None:
    error = str(failure) if isinstance(failure, FitFailed) else _last_line(failure)
    again = isinstance(failure, OutOfMemory) and failure.again
    fault = None if isinstance(failure, FitFailed) else machine_fault(failure)
    if isinstance(failure, PERMANENT) and not again and fault is None:
        ray.get(dispatcher.end.remote(lane, job_id, "failed", error))
    else:
        ray.get(dispatcher.job_crashed.remote(job_id, error, again, fault))


def _last_line(failure: Exception) -> str:
    return "".join(traceback.format_exception_only(failure)).strip()
