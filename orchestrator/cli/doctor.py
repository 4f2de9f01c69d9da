"""`orchestrator doctor`: checks of machine, cluster and data, the fast ones also before every training command."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.console.options import DEFAULT_HOME, Address, AsJson, Cache, Device, Home, TrackingUri
from orchestrator.common.display import Display, counted
from orchestrator.terminal.printing import note, out, plain, print_json, show_table

if TYPE_CHECKING:
    from rich.table import Table

    from orchestrator.doctor.checks.findings import Finding

COLORS = {"failure": "bold red", "warning": "yellow", "ok": "green"}
MANY_NODES = 3  # from which on successful checks are shown for the first node only


CheckedData = Annotated[
    list[str] | None,
    typer.Option(help="Dataset that must be identical on every node; repeat for several."),
]
Space = Annotated[
    Path | None,
    typer.Option(help="Search-space file; time a training step of its baseline. Default: a small U-Net."),
]
Storage = Annotated[
    str | None, typer.Option(envvar="ORCHESTRATOR_STORAGE", help="Database of trials, as for search.")
]
Interface = Annotated[
    str,
    typer.Option(
        help="Network interface for the all-reduce, such as eth0. Default: the choice of gloo and nccl, or "
        "GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME on the nodes."
    ),
]


def doctor(
    address: Address = "auto",
    data: CheckedData = None,
    space: Space = None,
    storage: Storage = None,
    interface: Interface = "",
    device: Device = "auto",
    home: Home = DEFAULT_HOME,
    cache: Cache = None,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Check whether a search would work on every node of the cluster; nothing is changed.

    Checks packages, code, GPUs, driver, memory, disks, home, locks, clocks, ports, token, MLflow, database and
    datasets; runs a small all-reduce among all nodes and a training step on each. Every finding that is not ok comes
    with a remedy. The exit code is 2 if something would fail; warnings do not count. The checks end within eight
    minutes, even if something hangs.
    """
    from orchestrator.api import machines
    from orchestrator.doctor.checks.findings import Finding, would_fail
    from orchestrator.doctor.checks.shared_home import host
    from orchestrator.doctor.examination import LONGEST_S

    found: list[Finding] = []

    def give_up() -> None:
        """End the process: a hanging check can neither be awaited nor ended."""
        remedy = "find what hangs: `dmesg`, `mount`, `ray status`"
        found.append(
            Finding("doctor", host(), "failure", f"checks were not finished within {LONGEST_S:.0f} s", remedy)
        )
        show(found, as_json)
        os._exit(2)

    with at_the_latest(LONGEST_S, give_up):
        machines.check_machine(
            address=address,
            data=data or (),
            space=space,
            storage=storage,
            interface=interface,
            device=device,
            home=home,
            cache=cache,
            tracking_uri=tracking_uri,
            found=found,
            display=Display(note=note),
        )
    show(found, as_json)
    if would_fail(found):
        raise typer.Exit(2)


@contextmanager
def at_the_latest(seconds: float, give_up: object) -> Iterator[None]:
    timer = threading.Timer(seconds, give_up)  # type: ignore[arg-type]
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def show(found: Sequence[Finding], as_json: bool) -> None:
    """Print a table of findings and remedies for each node; or JSON."""
    from orchestrator.doctor.checks.findings import would_fail

    counts = {severity: sum(one.severity == severity for one in found) for severity in COLORS}
    if as_json:
        print_json({"fails": would_fail(found), **counts, "findings": [one.as_json() for one in found]})
        return
    nodes = list(dict.fromkeys(one.node for one in found))
    for place, node in enumerate(nodes):
        own = [one for one in found if one.node == node]
        is_brief = len(nodes) > MANY_NODES and place > 0
        shown = [one for one in own if not (is_brief and one.severity == "ok")]
        num_ok = sum(one.severity == "ok" for one in own)
        title = f"{node}: {counted(num_ok, 'check')} ok" if is_brief else node
        if shown:
            show_table(_table(shown, title))
        else:
            out.print(title, markup=False, highlight=False)
    words = (
        f"{counted(counts['failure'], 'failure')}, {counted(counts['warning'], 'warning')}, {counts['ok']} ok"
    )
    out.print(f"{words}: {_verdict(counts)}", highlight=False)


def _verdict(counts: dict[str, int]) -> str:
    if counts["failure"]:
        return "something would fail"
    return "it works, but see the warnings" if counts["warning"] else "everything works"


def _table(findings: Sequence[Finding], title: str) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from orchestrator.doctor.checks.findings import worst_first

    table = Table(title=escape(plain(title)), title_justify="left", box=box.SIMPLE_HEAD)
    for head in ("check", "", "finding and remedy"):
        table.add_column(head, overflow="fold", no_wrap=False)
    for one in worst_first(findings):
        text = escape(plain(one.found)) + (f"\n[bold]->[/] {escape(plain(one.remedy))}" if one.remedy else "")
        table.add_row(one.check, f"[{COLORS[one.severity]}]{one.severity}[/]", text)
    return table
