"""`orchestrator submit`: commands as jobs on a cluster, independent of the laptop that submits them."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orchestrator.cli.console.options import AsJson
from orchestrator.common.errors import BadMachine
from orchestrator.terminal.printing import err, out, print_json, show_table

if TYPE_CHECKING:
    from rich.table import Table

    from orchestrator.launch.submit import ClusterJob, JobRow

OnInterrupt = Literal["ask", "detach", "stop"]
NOT_FOUND = 127  # a shell's exit code
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # of an environment variable


Command = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="-- COMMAND...",
        help="Command to run: search SPACE --data ..., best, evaluate ...",
    ),
]
ClusterAddress = Annotated[
    str,
    typer.Option(
        help="http://HOST:8265 of the dashboard, ray://HOST:10001, HOST:PORT of the head node, or auto: the Ray "
        "started on this machine."
    ),
]
ListJobs = Annotated[bool, typer.Option("--list", help="List the jobs of this program.")]
Attach = Annotated[str | None, typer.Option(metavar="ID", help="Show the log of a job until it ends.")]
Stop = Annotated[
    str | None,
    typer.Option(metavar="ID", help="Stop a job after its current epochs, within 15 minutes."),
]
Detach = Annotated[bool, typer.Option("--detach", help="Do not wait for the job.")]
Interrupt = Annotated[
    OnInterrupt,
    typer.Option(help="What Ctrl-C does: ask (without a terminal: detach), detach from the job, or stop it."),
]
Env = Annotated[
    list[str] | None,
    typer.Option(
        help="Environment variable for the job and its workers: NAME=VALUE, or NAME of one set here; repeat for "
        "several. Do not pass secrets: a cluster shows them to everybody."
    ),
]
Interpreter = Annotated[
    str, typer.Option(help="Python on the cluster that has the packages of this program.")
]


def submit(
    context: typer.Context,
    command: Command = None,
    address: ClusterAddress = "auto",
    list_: ListJobs = False,
    attach: Attach = None,
    stop: Stop = None,
    detach: Detach = False,
    on_interrupt: Interrupt = "ask",
    env: Env = None,
    python: Interpreter = "python",
    as_json: AsJson = False,
) -> None:
    """Run a command as a job on a Ray cluster and show its log here; the exit code is that of the command.

    This package is uploaded, and so are local search spaces, split files and exported models. All other paths, and the
    data, are those of the cluster. Options from environment variables here are passed on, but passwords of MLflow and
    of databases are not: set them where `ray start` is run. A search that was submitted before continues where it
    stopped; one that is still running is refused, with its id.
    """
    modes = [bool(command), list_, attach is not None, stop is not None]
    if sum(modes) != 1:
        raise typer.BadParameter("expected one of -- COMMAND..., --list, --attach ID and --stop ID")
    if command:
        raise typer.Exit(
            run_as_job(parsed(context.find_root(), command), address, on_interrupt, detach, env, python)
        )

    from orchestrator.api import jobs as api

    if list_:
        rows = api.jobs(address)
        print_json([_plain(row) for row in rows]) if as_json else show_table(_table(rows))
    elif attach is not None:
        raise typer.Exit(_follow(api.job(attach, address), address, on_interrupt))
    elif stop is not None:
        _stop(api.job(stop, address))


def run_as_job(
    context: typer.Context,
    address: str,
    on_interrupt: OnInterrupt,
    detach: bool = False,
    env: list[str] | None = None,
    python: str = "python",
) -> int:
    """Run the command of a context as a job; return its exit code, or 0 at once with `detach`."""
    from orchestrator.api.jobs import start_job

    job, words = start_job(context, address, dict(_variable(one) for one in env or []), python)
    out.print(f"job {job.id}: {shlex.join(words)}", highlight=False)
    if detach:
        err.print(_how_on(job, address), highlight=False)
        return 0
    code = _follow(job, address, on_interrupt)
    if code == NOT_FOUND:
        err.print(f"the cluster's shell finds no {python}; set the Python of Ray there with --python PATH")
    return code


def parsed(root: Any, words: Sequence[str]) -> typer.Context:
    """Context of a command given as words, parsed like a command line. `BadParameter` for other commands."""
    command: Any = root.command
    names, rest = [], list(words)
    while hasattr(command, "commands"):
        name = rest.pop(0) if rest else ""
        if name not in command.commands or name == "submit":
            known = ", ".join(other for other in command.commands if other != "submit")
            raise typer.BadParameter(f"no command that can run as a job is named {name!r}; known: {known}")
        names.append(name)
        command = command.commands[name]
    result: typer.Context = command.make_context(" ".join(names), rest, parent=root)
    return result


def _variable(text: str) -> tuple[str, str]:
    """Name and value of NAME=VALUE, or of a variable NAME set here. Raises `BadMachine` if there is none."""
    name, equals, value = text.partition("=")
    if not NAME.fullmatch(name):
        raise BadMachine(
            "--env", f"expected NAME=VALUE, with a name of letters, digits and _, found {name!r}"
        )
    if not equals and name not in os.environ:
        raise BadMachine("--env", f"{name} is not set here; use NAME=VALUE")
    return name, value if equals else os.environ[name]


def _follow(job: ClusterJob, address: str, on_interrupt: OnInterrupt) -> int:
    try:
        return job.follow(
            lambda text: print(text, end="", flush=True), lambda line: err.print(line, highlight=False)
        )
    except KeyboardInterrupt as interrupt:
        if _is_to_stop(job, address, on_interrupt, getattr(interrupt, "signum", signal.SIGINT)):
            _stop(job)
        raise


def _is_to_stop(job: ClusterJob, address: str, on_interrupt: OnInterrupt, signum: int) -> bool:
    """Whether to stop a job when its log is left; never after the loss of a terminal."""
    can_ask = signum == signal.SIGINT and sys.stdin.isatty() and err.is_terminal
    if on_interrupt == "stop" and signum != signal.SIGHUP:
        return True
    err.print(_how_on(job, address), highlight=False)
    if on_interrupt != "ask" or not can_ask:
        return False
    err.print("Stop the job as well? \\[y/N] (Ctrl-C again: no) ", end="", highlight=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _how_on(job: ClusterJob, address: str) -> str:
    ours = f"orchestrator submit --address {shlex.quote(address)}"
    return f"job {job.id} continues; `{ours} --attach {job.id}` follows it, `{ours} --stop {job.id}` ends it"


def _stop(job: ClusterJob) -> None:
    err.print(f"job {job.id} will end after its current epochs; waiting for it", highlight=False)
    err.print(f"job {job.id}: {str(job.stop()).lower()}", highlight=False)


def _plain(row: JobRow) -> dict[str, Any]:
    moments = {"since": row.since, "until": row.until}
    return asdict(row) | {
        name: at.isoformat(timespec="seconds") if at else None for name, at in moments.items()
    }


def _table(rows: list[JobRow]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from orchestrator.launch.submit import clock

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    columns: dict[str, Callable[[JobRow], str]] = {
        "job": lambda row: row.id,
        "state": lambda row: row.state if row.exit_code in (None, 0) else f"{row.state} ({row.exit_code})",
        "since": lambda row: clock(row.since),
        "until": lambda row: clock(row.until),
        "command": lambda row: row.command,
    }
    for name in columns:
        table.add_column(name, no_wrap=name != "command", overflow="fold")
    for row in rows:
        table.add_row(*(Text(read(row)) for read in columns.values()))
    return table
