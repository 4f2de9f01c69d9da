"""Results of checks on a node: severity and remedy. A check that hangs or raises is a finding too."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from orchestrator.common.errors import UserError
from orchestrator.common.redaction import without_secrets

Severity = Literal["ok", "warning", "failure"]
ORDER: tuple[Severity, ...] = ("failure", "warning", "ok")


@dataclass(frozen=True)
class Finding:
    """One sentence on a check's result, without secrets of URLs; any severity but ok has a remedy."""

    check: str
    node: str
    severity: Severity
    found: str
    remedy: str = ""

    def __post_init__(self) -> None:
        if self.severity != "ok" and not self.remedy:
            raise ValueError(f"{self.check}: a finding that is not ok needs a remedy")
        object.__setattr__(self, "found", without_secrets(self.found))
        object.__setattr__(self, "remedy", without_secrets(self.remedy))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Check:
    """A check of one node. `run` yields (severity, found, remedy); an exception or a timeout is a failure."""

    name: str
    run: Callable[[], Iterable[Result]]
    limit_s: float = 10.0
    if_hung: str = (
        "a disk, network file system, driver or server hangs: check `dmesg` and `mount` on this node"
    )


Result = tuple[Severity, str, str]


def ok(found: str) -> Result:
    return "ok", found, ""


def warning(found: str, remedy: str) -> Result:
    return "warning", found, remedy


def failure(found: str, remedy: str) -> Result:
    return "failure", found, remedy


def would_fail(findings: Iterable[Finding]) -> bool:
    """Whether any finding is a failure; warnings, of slow or insecure parts, do not count."""
    return any(finding.severity == "failure" for finding in findings)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: ORDER.index(finding.severity))


def run_checks(node: str, checks: Sequence[Check]) -> list[Finding]:
    """Run checks concurrently, each within its time limit; findings in the order of the checks."""
    answers: queue.SimpleQueue[tuple[int, list[Finding]]] = queue.SimpleQueue()
    for place, check in enumerate(checks):
        # A thread that hangs in a system call cannot be ended: it is abandoned.
        threading.Thread(
            target=lambda place=place, check=check: answers.put((place, [*_findings(node, check)])),
            daemon=True,
        ).start()
    started, found = time.monotonic(), dict[int, list[Finding]]()
    while (left := _left(checks, found, started)) > 0:
        try:
            place, findings = answers.get(timeout=left)
        except queue.Empty:
            continue
        found[place] = findings
    answered = (
        found[place] if place in found else [_hung(node, check)] for place, check in enumerate(checks)
    )
    return [finding for findings in answered for finding in findings]


def _left(checks: Sequence[Check], found: dict[int, list[Finding]], started: float) -> float:
    """Seconds until the last time limit of the unfinished checks; 0 if all are finished."""
    open_limits = [check.limit_s for place, check in enumerate(checks) if place not in found]
    return max(open_limits) - (time.monotonic() - started) if open_limits else 0.0


def _findings(node: str, check: Check) -> Iterator[Finding]:
    try:
        for severity, found, remedy in check.run():
            yield Finding(check.name, node, severity, found, remedy)
    except UserError as error:
        found, _, remedy = "; ".join(error.problems).rpartition("; ")  # our errors end with the remedy
        yield Finding(
            check.name, node, "failure", found or remedy, remedy if found else f"correct {error.where}"
        )
    except Exception as error:  # a failed check must not hide the others' findings
        remedy = "check whether this node allows what the check tried"
        yield Finding(
            check.name, node, "failure", f"the check failed: {type(error).__name__}: {error}", remedy
        )


def _hung(node: str, check: Check) -> Finding:
    return Finding(check.name, node, "failure", f"no answer within {check.limit_s:g} s", check.if_hung)
