"""Errors caused by the machine, such as a full disk or a lost node, not by the request."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence

from orchestrator.common.errors import FitFailed, MachineFault, OutOfMemory, UserError

# Errors of system calls when the machine fails, and remedies.
ROOM = "free space on its disk"
FAULTS = {
    errno.ENOSPC: ROOM,
    errno.EDQUOT: "free space, or have your quota raised",
    errno.EIO: "the disk, or the connection to it, fails; have it checked, or use another --home",
    errno.EROFS: "have it mounted writable, or use another --home",
    errno.EMFILE: "raise the limit with `ulimit -n`",
    errno.ENFILE: "end other programs on this machine, or have its limit of open files raised",
    errno.EFBIG: "raise the limit with `ulimit -f`, or use a disk that allows files of that size",
    errno.ESTALE: "have the network file system mounted again",
    errno.ENOMEM: "end other programs on this machine, or use fewer --lanes",
    errno.EREMOTEIO: "have the network file system checked",
    errno.ENOTCONN: "have the network file system mounted again",
    errno.ETIMEDOUT: "have the network checked",
    errno.EHOSTDOWN: "have the network checked",
    errno.ENODEV: "have the disk checked",
    errno.ENXIO: "have the disk checked",
}
LOW = r"running low on memory|memory usage threshold"
LOSS = rf"{LOW}|NodeDied|node has died|node is dead|node was terminated|node was drained|preempted"
# The same from libraries without errno: PyTorch reports a full disk as a wrong position, Ray has its own reasons.
TEXTS = {
    **{re.escape(os.strerror(number)): remedy for number, remedy in FAULTS.items()},
    r"inline_container.*(unexpected pos|failed writing)|PytorchStreamWriter failed": ROOM,
    r"database or disk is full": ROOM,
    r"disk I/O error": FAULTS[errno.EIO],
    r"readonly database": FAULTS[errno.EROFS],
    r"uncorrectable ECC error|GPU is lost|fallen off the bus": "have the GPU checked",
    LOW: FAULTS[errno.ENOMEM],
    r"node timed out during startup|raylet may not have started|Failed to start (GCS|a dashboard)": (
        "wait until this machine is less busy, or end other programs on it"
    ),
    r"^(NodeDied|ActorDied|ActorUnavailable|RayActor|WorkerCrashed|OwnerDied|ObjectLost|RaySystem|RpcError)\w*: ": (
        "find out why processes die on its nodes"
    ),
}
# Records of earlier versions for trials that failed because of the machine.
WORKER_GONE = r"its worker was killed$|its process died \d+ times$"
GO_ON = "then give the same command again: it continues from here"


def machine_fault(error: BaseException | None) -> MachineFault | None:
    """The machine's fault behind an error, however deep it is wrapped; None if the machine is not the cause."""
    if isinstance(error, OutOfMemory):  # caused by the number of images, so by the request
        return None
    errors = list(chain(error))
    for one in errors:
        if isinstance(one, MachineFault):
            return one
    for one in errors:
        if isinstance(one, OSError) and one.errno in FAULTS:
            if isinstance(error, UserError):  # its message is already clear
                return MachineFault(error.where, error.problems)
            where = str(one.filename) if one.filename is not None else _where(errors)
            return fault_of(where, os.strerror(one.errno), FAULTS[one.errno])
    for one in errors:
        words = f"{type(one).__name__}: {one}"
        if not isinstance(one, (UserError, FitFailed)) and (found := fault_in_words(words)) is not None:
            return found
    return None


def is_persistent(error: BaseException) -> bool:
    """Whether an immediate retry is useless: no space, or a read-only file system."""
    return any(
        (isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS))
        or ROOM in str(fault_in_words(str(one)))
        for one in chain(error)
    )


def is_loss(error: BaseException) -> bool:
    """Whether a process was lost with its machine, or was ended by Ray for lack of memory there."""
    return any(re.search(LOSS, f"{type(one).__name__}: {one}") for one in chain(error))


def is_ray_failure(error: BaseException) -> bool:
    """Whether Ray reports lost or overloaded processes, nodes or objects, and not a failure of our code in them."""
    names = [(type(one).__module__, type(one).__name__) for one in chain(error)]
    return any(module == "ray.exceptions" and "TaskError" not in name for module, name in names)


def fault_in_words(text: str) -> MachineFault | None:
    """The machine's fault described by a message, such as one recorded by an earlier run; None if there is none."""
    for pattern, remedy in TEXTS.items():
        if (found := re.search(pattern, text)) is not None:
            line = text[text.rfind("\n", 0, found.start()) + 1 :].splitlines()[0].strip()
            return fault_of("this machine", line[:300], remedy)
    return None


def was_machine_fault(error: str) -> bool:
    """Whether a recorded failure of a trial was caused by the machine."""
    return fault_in_words(error) is not None or re.search(WORKER_GONE, error) is not None


def fault_of(where: str, what: str, remedy: str) -> MachineFault:
    """A fault in one sentence: where, what failed, the remedy."""
    return MachineFault(where, f"{what}; {remedy}, {GO_ON}")


def _where(errors: Sequence[BaseException]) -> str:
    names = (one.filename for one in errors if isinstance(one, OSError) and one.filename is not None)
    return str(next(names, "this machine"))


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all errors behind it: Python's, and those attached by Ray and SQLAlchemy."""
    seen: list[BaseException] = []
    pending = [error]
    while pending and len(seen) < 100:
        one = pending.pop(0)
        if not isinstance(one, BaseException) or any(one is before for before in seen):
            continue
        seen.append(one)
        yield one
        pending += [one.__cause__, one.__context__]
        pending += [
            getattr(one, name, None)
            for name in (
                "cause",
                "orig",
                "controller_failure",
                "training_failed_error",
                "health_check_failure",
            )
        ]
        workers = getattr(one, "worker_failures", None)
        pending += [*workers.values()] if isinstance(workers, dict) else []
        pending += [*one.exceptions] if isinstance(one, BaseExceptionGroup) else []
