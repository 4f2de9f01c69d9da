"""What the machine is to blame for, however it is wrapped, and what it is not."""

from __future__ import annotations

import errno

import pytest
from ray.exceptions import OutOfMemoryError, RayTaskError

from orchestrator.common.errors import BadData, BadMachine, FitFailed, OutOfMemory
from orchestrator.common.faults import machine_fault, was_machine_fault

FULL = OSError(errno.ENOSPC, "No space left on device", "/home/x")


def chained(outer: Exception, inner: Exception) -> Exception:
    """`outer`, raised while `inner` was handled."""
    outer.__context__ = inner
    return outer


@pytest.mark.parametrize(
    "name", ["ENOSPC", "EDQUOT", "EIO", "EROFS", "EMFILE", "ENFILE", "ESTALE", "ENOMEM", "ENOTCONN"]
)
def test_a_system_call_that_the_machine_refuses_is_its_fault_and_names_the_file_and_what_mends_it(name: str):
    fault = machine_fault(OSError(getattr(errno, name), "refused", "/home/x"))
    assert str(fault).startswith("/home/x: ") and "the same command again" in str(fault)


@pytest.mark.parametrize(
    "error",
    [
        chained(RuntimeError("unexpected pos 64 vs 0"), FULL),
        RayTaskError("f", "traceback", cause=FULL),
        ExceptionGroup("several", [ValueError("x"), FULL]),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 1654208 vs 1654096"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
        RuntimeError("(sqlite3.OperationalError) database or disk is full"),
        chained(RuntimeError("Caught unexpected exception"), OutOfMemoryError("node running low on memory")),
        Exception(
            "The current node timed out during startup. This could happen because some of the raylet failed"
        ),
    ],
)
def test_a_fault_is_found_behind_what_wraps_it(error: Exception):
    assert machine_fault(error) is not None


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a bug"),
        KeyError("path"),
        FileNotFoundError(errno.ENOENT, "No such file", "/x"),
        FitFailed("the loss became nan"),
        OutOfMemory("one image at a time does not fit: can't allocate memory"),
        BadMachine("batch_size", "cannot be dealt"),
        RuntimeError("CUDA out of memory"),
    ],
)
def test_what_was_tried_or_a_bug_is_no_fault_of_the_machine(error: Exception):
    assert machine_fault(error) is None


def test_who_said_already_what_is_wrong_is_heard():
    fault = machine_fault(chained(BadData("cache", "cannot reserve 3 GB; name another disk"), FULL))
    assert str(fault) == "cache: cannot reserve 3 GB; name another disk"


@pytest.mark.parametrize(
    ("error", "is_of_machine"),
    [
        ("fold 0: tried 3 times; OSError: [Errno 28] No space left on device", True),
        (
            "fold 1: tried 3 times; RuntimeError: [enforce fail at inline_container.cc:672] . unexpected pos 1",
            True,
        ),
        ("fold 0: tried 3 times; its worker was killed", True),
        ("its process died 3 times", True),
        ("fold 0: the loss became nan in epoch 3 at learning rate 0.1", False),
        ("fold 2: one image at a time does not fit into the memory of x86_64", False),
    ],
)
def test_records_of_earlier_versions_tell_whether_the_machine_failed_a_trial(error: str, is_of_machine: bool):
    assert was_machine_fault(error) == is_of_machine
