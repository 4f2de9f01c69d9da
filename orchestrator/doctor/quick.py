"""Fast checks by every command that trains, on its own machine: in well under a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from orchestrator.common.errors import MachineFault
from orchestrator.common.faults import GO_ON
from orchestrator.doctor.checks import gpu, shared_home, token
from orchestrator.doctor.checks import resources as resources
from orchestrator.doctor.checks.findings import Check, Finding, run_checks, would_fail
from orchestrator.ray_cluster.machine import Machine, reach_cluster

LIMIT_S = 30.0  # milliseconds, unless a network file system hangs


@dataclass(frozen=True)
class Quick:
    """Resources that a command is about to use on this machine."""

    home: Path
    cache: Path
    uses_gpus: bool  # here; nodes of a cluster check their own
    gpus: Sequence[int] | None = None  # None: all
    starts_ray: bool = False
    joins_ray: bool = False

    def findings(self) -> list[Finding]:
        return run_checks(shared_home.host(), [*self._checks()])

    def refuse(self) -> list[str]:
        """Raise `MachineFault` with all failures at once; returns the warnings as sentences."""
        findings = self.findings()
        if would_fail(findings):
            sentences = [_sentence(one) for one in findings if one.severity == "failure"]
            raise MachineFault(shared_home.host(), [*sentences[:-1], f"{sentences[-1]}, {GO_ON}"])
        return [_sentence(one) for one in findings if one.severity == "warning"]

    def _checks(self) -> Iterator[Check]:
        if self.home.exists():  # otherwise missing datasets are reported
            yield Check("home", partial(shared_home.writable, self.home), LIMIT_S)
            yield Check("cache", partial(shared_home.writable, self.cache), LIMIT_S)
        if self.uses_gpus:
            yield Check("GPU architecture", partial(gpu.architectures, self.gpus), LIMIT_S)
        if self.starts_ray:
            yield Check("/dev/shm", resources.shared_memory, LIMIT_S)
            yield Check("limits", resources.limits, LIMIT_S)
        if self.joins_ray:
            yield Check("token", partial(token.sound, False), LIMIT_S)


def checked_machine(machine: Machine, home: Path, cache: Path, note: Callable[[str], None]) -> Machine:
    """The machine, with the address of the cluster that it reaches, else "local".

    Raises `MachineFault` with all failures of the checks there; warnings go to `note`.
    """
    head = reach_cluster(machine.address)  # once: what it has to say is said before minutes of other work
    is_here = head is None
    quick = Quick(home, cache, machine.device != "cpu" and is_here, None, is_here, not is_here)
    for line in quick.refuse():
        note(line)
    return replace(machine, address=head or "local")


def _sentence(finding: Finding) -> str:
    return f"{finding.check}: {finding.found}; {finding.remedy}"
