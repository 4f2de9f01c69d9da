"""Which errors are the machine's fault, such as a full disk or a lost node: they say nothing of what was tried."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence

from orchestrator.common.errors import FitFailed, MachineFault, OutOfMemory, UserError

# What a system call says when the machine fails, and what mends it.
ROOM = "make room on its disk"
FAULTS = {
    errno.ENOSPC: ROOM,
    errno.EDQUOT: "make room, or have your quota raised",
    errno.EIO: "the disk, or the way to it, does not work; have it looked at, or use another --home",
    errno.EROFS: "have it mounted so that it can be written to, or use another --home",
    errno.EMFILE: "raise the limit with `ulimit -n`",
    errno.ENFILE: "end other programs on this machine, or have its limit of open files raised",
    errno.EFBIG: "raise the limit with `ulimit -f`, or use a disk that takes files of that size",
    errno.ESTALE: "have the network file system mounted anew",
    errno.ENOMEM: "end other programs on this machine, or use fewer --lanes",
    errno.EREMOTEIO: "have the network file system looked at",
    errno.ENOTCONN: "have the network file system mounted anew",
    errno.ETIMEDOUT: "have the network looked at",
    errno.EHOSTDOWN: "have the network looked at",
    errno.ENODEV: "have the disk looked at",
    errno.ENXIO: "have the disk looked at",
}
LOW = r"running low on memory|memory usage threshold"
LOSS = rf"{LOW}|NodeDied|node has died|node is dead|node was terminated|node was drained|preempted"
# The same from libraries that keep no errno: PyTorch hides a full disk behind a position, Ray names its own reason.
TEXTS = {
    **{re.escape(os.strerror(number)): remedy for number, remedy in FAULTS.items()},
    r"inline_container.*(unexpected pos|failed writing)|PytorchStreamWriter failed": ROOM,
    r"database or disk is full": ROOM,
    r"disk I/O error": FAULTS[errno.EIO],
    r"readonly database": FAULTS[errno.EROFS],
    r"uncorrectable ECC error|GPU is lost|fallen off the bus": "have the GPU looked at",
    LOW: FAULTS[errno.ENOMEM],
    r"^(NodeDied|ActorDied|ActorUnavailable|RayActor|WorkerCrashed|OwnerDied|ObjectLost|RaySystem|RpcError)\w*: ": (
        "see why processes die on its nodes"
    ),
}
# What earlier versions put on record of trials that the machine failed.
WORKER_GONE = r"its worker was killed$|its process died \d+ times$"
GO_ON = "then give the same command again: it goes on from here"


def machine_fault(error: BaseException | None) -> MachineFault | None:
    """The machine's fault behind an error, however deep it is wrapped; None if the machine is not to blame."""
    if isinstance(error, OutOfMemory):  # of so many images: of what was tried
        return None
    errors = list(chain(error))
    for one in errors:
        if isinstance(one, MachineFault):
            return one
    for one in errors:
        if isinstance(one, OSError) and one.errno in FAULTS:
            if isinstance(error, UserError):  # somebody said already what it means
                return MachineFault(error.where, error.problems)
            where = str(one.filename) if one.filename is not None else _where(errors)
            return fault_of(where, os.strerror(one.errno), FAULTS[one.errno])
    for one in errors:
        words = f"{type(one).__name__}: {one}"
        if not isinstance(one, (UserError, FitFailed)) and (found := fault_in_words(words)) is not None:
            return found
    return None


def lasts(error: BaseException) -> bool:
    """Whether trying again in a moment is no use: no room, or nothing may be written."""
    return any(
        (isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS))
        or ROOM in str(fault_in_words(str(one)))
        for one in chain(error)
    )


def is_loss(error: BaseException) -> bool:
    """Whether a process is gone because its machine is, or because Ray found too little memory left there."""
    return any(re.search(LOSS, f"{type(one).__name__}: {one}") for one in chain(error))


def is_of_ray(error: BaseException) -> bool:
    """Whether Ray says that processes, nodes or objects are gone, or too full; not that our code in them failed."""
    names = [(type(one).__module__, type(one).__name__) for one in chain(error)]
    return any(module == "ray.exceptions" and "TaskError" not in name for module, name in names)


def fault_in_words(text: str) -> MachineFault | None:
    """The machine's fault that a message speaks of, such as one that an earlier run put on record."""
    for pattern, remedy in TEXTS.items():
        if (found := re.search(pattern, text)) is not None:
            line = text[text.rfind("\n", 0, found.start()) + 1 :].splitlines()[0].strip()
            return fault_of("this machine", line[:300], remedy)
    return None


def was_of_the_machine(error: str) -> bool:
    """Whether a trial that is on record as failed was failed by the machine, as this error tells."""
    return fault_in_words(error) is not None or re.search(WORKER_GONE, error) is not None


def fault_of(where: str, what: str, remedy: str) -> MachineFault:
    """In one sentence: where, what failed, what mends it."""
    return MachineFault(where, f"{what}; {remedy}, {GO_ON}")


def _where(errors: Sequence[BaseException]) -> str:
    names = (one.filename for one in errors if isinstance(one, OSError) and one.filename is not None)
    return str(next(names, "this machine"))


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that are behind it: Python's, and those that Ray and SQLAlchemy carry along."""
    seen: list[BaseException] = []
    ahead = [error]
    while ahead and len(seen) < 100:
        one = ahead.pop(0)
        if not isinstance(one, BaseException) or any(one is before for before in seen):
            continue
        seen.append(one)
        yield one
        ahead += [one.__cause__, one.__context__]
        ahead += [
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
        ahead += [*workers.values()] if isinstance(workers, dict) else []
        ahead += [*one.exceptions] if isinstance(one, BaseExceptionGroup) else []
