"""`orchestrator submit`: commands as jobs on a cluster, independent of the laptop that submits them."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orchestrator.cli.console.options import AsJson
from orchestrator.common.errors import BadMachine, Mistakes
from orchestrator.terminal.printing import err, out, print_json, show_table

if TYPE_CHECKING:
    from rich.table import Table

    from orchestrator.launch.job_server import JobServer
    from orchestrator.launch.submit import Job, JobRow, Submission

OnInterrupt = Literal["ask", "detach", "stop"]
# Arguments and options whose local files and folders are uploaded; all other paths are the cluster's.
CARRIED = ("file", "splits", "groups", "bundle")
NOT_FOUND = 127  # a shell's exit code
# Parameters that identify a study without a name.
OF_A_STUDY = ("data", "unseen", "splits", "holdout", "seed", "near_duplicates")


def submit(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- COMMAND...",
            help="Command of orchestrator: search SPACE --data ..., best, evaluate ...",
        ),
    ] = None,
    address: Annotated[
        str,
        typer.Option(
            help="http://HOST:8265 of the dashboard, ray://HOST:10001, HOST:PORT of the head node, or auto: the Ray "
            "started on this machine."
        ),
    ] = "auto",
    list_: Annotated[bool, typer.Option("--list", help="Show our jobs.")] = False,
    attach: Annotated[
        str | None, typer.Option(metavar="ID", help="Show the log of a job until it is over.")
    ] = None,
    stop: Annotated[
        str | None,
        typer.Option(metavar="ID", help="End a job after its current epochs, within 15 minutes."),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the job.")] = False,
    on_interrupt: Annotated[
        OnInterrupt,
        typer.Option(
            help="Effect of Ctrl-C on the job: ask (without a terminal: detach), detach from it, or stop it."
        ),
    ] = "ask",
    env: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=VALUE, or NAME of a variable here, for the job and its workers; repeat for several. No "
            "secrets: a cluster shows them to everybody."
        ),
    ] = None,
    python: Annotated[str, typer.Option(help="Python on the cluster that has our packages.")] = "python",
    as_json: AsJson = False,
) -> None:
    """Run a command as a job on a Ray cluster, and show its log here; the exit code is that of the command.

    This package is uploaded, and so are local search spaces, split files and exported models. All other paths are the
    cluster's, and so is the data. Options from environment variables here are passed on; passwords of MLflow and of
    databases are not: they belong where `ray start` is run. A search that was submitted before continues where it
    stopped; one that is running is rejected with its id.
    """
    modes = [bool(command), list_, attach is not None, stop is not None]
    if sum(modes) != 1:
        raise typer.BadParameter("expected one of -- COMMAND..., --list, --attach ID and --stop ID")
    if command:
        raise typer.Exit(
            run_as_job(parsed(context.find_root(), command), address, on_interrupt, detach, env, python)
        )

    from orchestrator.launch.job_server import job_server
    from orchestrator.launch.submit import find, jobs

    server = job_server(address)
    if list_:
        rows = jobs(server)
        print_json([_plain(row) for row in rows]) if as_json else show_table(_table(rows))
    elif attach is not None:
        raise typer.Exit(_follow(find(server, attach), address, on_interrupt))
    elif stop is not None:
        _stop(find(server, stop))


def run_as_job(
    context: typer.Context,
    address: str,
    on_interrupt: OnInterrupt,
    detach: bool = False,
    env: list[str] | None = None,
    python: str = "python",
) -> int:
    """Run the command of a context as a job; return its exit code, or 0 at once with `detach`."""
    job, words = start_job(context, address, dict(_variable(one) for one in env or []), python)
    out.print(f"job {job.id}: {shlex.join(words)}", highlight=False)
    if detach:
        err.print(_how_on(job, address), highlight=False)
        return 0
    code = _follow(job, address, on_interrupt)
    if code == NOT_FOUND:
        err.print(f"the cluster's shell finds no {python}; set the Python of Ray there with --python PATH")
    return code


def start_job(
    context: typer.Context, address: str, env: Mapping[str, str], python: str
) -> tuple[Job, tuple[str, ...]]:
    """The job of a command, and its words there. Raises everything that is wrong with it in one error."""
    from orchestrator.launch.job_server import job_server
    from orchestrator.launch.submit import refuse_size, submit

    mistakes = Mistakes()
    with mistakes.noted():
        _check_space(context)
    with mistakes.noted():
        submission = submission_of(context, address, env, python)
        refuse_size(submission.files)
    with mistakes.noted():
        server: JobServer = job_server(address)
    mistakes.raise_all()
    return submit(server, submission), submission.words


def parsed(root: Any, words: Sequence[str]) -> typer.Context:
    """The context of a command given as words, parsed as on the command line."""
    command: Any = root.command
    names, rest = [], list(words)
    while hasattr(command, "commands"):
        name = rest.pop(0) if rest else ""
        if name not in command.commands or name == "submit":
            known = ", ".join(other for other in command.commands if other != "submit")
            raise typer.BadParameter(f"no command for a job is named {name!r}; known: {known}")
        names.append(name)
        command = command.commands[name]
    result: typer.Context = command.make_context(" ".join(names), rest, parent=root)
    return result


def _check_space(context: typer.Context) -> None:
    """Report mistakes of a search-space file before anything is uploaded."""
    file = context.params.get("file")
    if isinstance(file, Path):
        from orchestrator.search.space.builds import check_builds
        from orchestrator.search.space.space_file import load_space

        check_builds(load_space(file))


def submission_of(context: typer.Context, address: str, env: Mapping[str, str], python: str) -> Submission:
    """The job for a command. Raises `BadMachine` if it would show a password or a token to everybody."""
    from orchestrator.launch.submit import Submission

    name = context.info_name or ""
    files: dict[str, Path] = {}
    words = name.split()
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if source is None or source.name == "DEFAULT":
            continue  # defaults are evaluated on the cluster
        value = context.params[option.name or ""]
        if option.name == "address":
            _refuse_other(value, address)
            continue
        if isinstance(value, bool):
            words.append(option.opts[0] if value else option.secondary_opts[0])
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            word = _carry(files, one) if option.name in CARRIED else _there(one)
            words += [word] if option.param_type_name == "argument" else [option.opts[0], word]
    _refuse_secrets(words)
    params = context.params
    return Submission(
        words=tuple(words),
        files=files,
        label=_label(name, params),
        identity=_identity(name, params),
        env=env,
        python=python,
    )


def _carry(files: dict[str, Path], value: Any) -> str:
    """The name of a file or folder within the job; the given path if it is not here."""
    from orchestrator.launch.submit import NAMED

    source = Path(value).expanduser()
    if not source.is_file() and not (source.is_dir() and isinstance(value, Path)):
        return _there(value)
    name = f"{NAMED}/{source.name}"
    if name in files:
        name = f"{NAMED}/{len(files)}/{source.name}"
    files[name] = source
    return name


def _there(value: Any) -> str:
    return str(value.expanduser().absolute() if isinstance(value, Path) else value)


def _refuse_other(inner: str, address: str) -> None:
    if inner not in ("auto", address):
        raise BadMachine(
            "--address",
            f"a job runs on the cluster to which it is submitted; remove --address {inner} after --",
        )


def _refuse_secrets(words: list[str]) -> None:
    from orchestrator.common.redaction import has_secret

    if secret := sorted({words[at - 1] for at, word in enumerate(words) if has_secret(word)}):
        raise BadMachine(
            ", ".join(secret),
            "contains a password or a token, which the cluster would show with the job; remove it there, and set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, where `ray start` is run",
        )


def _variable(text: str) -> tuple[str, str]:
    import os

    from orchestrator.common.redaction import has_secret, names_secret

    name, equals, value = text.partition("=")
    if not equals and name not in os.environ:
        raise BadMachine("--env", f"{name} is not set here; use NAME=VALUE")
    value = value if equals else os.environ[name]
    if names_secret(name) or has_secret(value):
        raise BadMachine(
            "--env",
            f"the cluster would show {name} with the job, and it seems to be secret; set it where `ray start` is run",
        )
    return name, value


def _label(name: str, params: dict[str, Any]) -> str:
    """A study, with the command unless that is search."""
    file = params.get("file")
    of = params.get("study") or "-".join(
        [file.stem if isinstance(file, Path) else "", *(params.get("data") or [])]
    )
    return "-".join(
        part for part in ("" if name == "search" else name.replace(" ", "-"), str(of).strip("-")) if part
    )


def _identity(name: str, params: dict[str, Any]) -> str:
    """Key of a search's study, which cannot run twice, independent of its budget; \"\" for other commands."""
    if name != "search":
        return ""
    named = params["study"] or [params["file"].stem, *(params[key] for key in OF_A_STUDY)]
    return json.dumps([str(params["home"]), named])


def _follow(job: Job, address: str, on_interrupt: OnInterrupt) -> int:
    try:
        return job.follow(
            lambda text: print(text, end="", flush=True), lambda line: err.print(line, highlight=False)
        )
    except KeyboardInterrupt as interrupt:
        if _is_to_stop(job, address, on_interrupt, getattr(interrupt, "signum", signal.SIGINT)):
            _stop(job)
        raise


def _is_to_stop(job: Job, address: str, on_interrupt: OnInterrupt, signum: int) -> bool:
    """Whether to stop a job when its log is left; never after the loss of a terminal."""
    can_ask = signum == signal.SIGINT and sys.stdin.isatty() and err.is_terminal
    if on_interrupt == "stop" and signum != signal.SIGHUP:
        return True
    err.print(_how_on(job, address), highlight=False)
    if on_interrupt != "ask" or not can_ask:
        return False
    err.print("Stop the job as well? \\[y/N] (Ctrl-C again: no) ", end="", highlight=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _how_on(job: Job, address: str) -> str:
    ours = f"orchestrator submit --address {shlex.quote(address)}"
    return f"job {job.id} continues; `{ours} --attach {job.id}` follows it, `{ours} --stop {job.id}` ends it"


def _stop(job: Job) -> None:
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
