"""`orchestrator submit`: any command of ours as a job of a cluster, from a laptop that may close."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orchestrator.cli.console.options import AsJson
from orchestrator.cli.console.printing import err, out, print_json
from orchestrator.common.errors import BadMachine, Mistakes

if TYPE_CHECKING:
    from rich.table import Table

    from orchestrator.launch.job_server import JobServer
    from orchestrator.launch.submit import Job, JobRow, Submission

OnInterrupt = Literal["ask", "detach", "stop"]
# Arguments and options whose files and folders go with a job, where they are here; all other paths are the cluster's.
CARRIED = ("file", "splits", "groups", "bundle")
NOT_FOUND = 127  # a shell's exit code
# What names a study, where it has no name of its own.
OF_A_STUDY = ("data", "unseen", "splits", "holdout", "seed", "near_duplicates")


def submit(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- COMMAND...", help="Of orchestrator: search SPACE --data ..., best, evaluate ..."
        ),
    ] = None,
    address: Annotated[
        str,
        typer.Option(
            help="http://HOST:8265 of the dashboard, ray://HOST:10001, HOST:PORT of the head node, or auto: the Ray "
            "that was started on this machine."
        ),
    ] = "auto",
    list_: Annotated[bool, typer.Option("--list", help="Show our jobs.")] = False,
    attach: Annotated[
        str | None, typer.Option(metavar="ID", help="Show the log of a job until it is over.")
    ] = None,
    stop: Annotated[
        str | None,
        typer.Option(metavar="ID", help="End a job after the epochs in flight, within 15 minutes."),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the job.")] = False,
    on_interrupt: Annotated[
        OnInterrupt,
        typer.Option(
            help="What Ctrl-C does with the job: ask (where there is no terminal: detach), detach from it, or stop it."
        ),
    ] = "ask",
    env: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=VALUE, or NAME of a variable here, for the job and its workers; repeat for several. Nothing "
            "secret: a cluster shows it to all."
        ),
    ] = None,
    python: Annotated[str, typer.Option(help="Python of the cluster that has what we need.")] = "python",
    as_json: AsJson = False,
) -> None:
    """Run a command as a job on a Ray cluster, and show its log here; its exit code is that of this command.

    This package goes with it, and so do a search space, the file of a split and an exported model that are here. All
    other paths are the cluster's, and so is the data. Options that come from the environment here go with the command;
    passwords of MLflow and of databases do not: they belong where `ray start` is run. A search that was submitted
    before goes on where it stopped; one that is running is refused, with its id.
    """
    asked = [bool(command), list_, attach is not None, stop is not None]
    if sum(asked) != 1:
        raise typer.BadParameter("expected one of -- COMMAND..., --list, --attach ID and --stop ID")
    if command:
        raise typer.Exit(
            run_as_job(_parsed(context, command), address, on_interrupt, detach, env or [], python)
        )

    from orchestrator.launch.job_server import job_server
    from orchestrator.launch.submit import find, jobs

    server = job_server(address)
    if list_:
        rows = jobs(server)
        print_json([_plain(row) for row in rows]) if as_json else out.print(_table(rows))
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
    """Have a cluster run the command that a context holds; its exit code, 0 at once with `detach`."""
    from orchestrator.launch.job_server import job_server
    from orchestrator.launch.submit import refuse_size, submit

    mistakes = Mistakes()
    with mistakes.noted():
        _check_space(context)
    with mistakes.noted():
        submission = submission_of(context, address, env or [], python)
        refuse_size(submission.files)
    with mistakes.noted():
        server: JobServer = job_server(address)
    mistakes.tell()
    job = submit(server, submission)
    out.print(f"job {job.id}: {shlex.join(submission.words)}", highlight=False)
    if detach:
        err.print(_how_on(job, address), highlight=False)
        return 0
    code = _follow(job, address, on_interrupt)
    if code == NOT_FOUND:
        err.print(
            f"the cluster's shell finds no {python}; --python PATH names the Python that Ray runs in there"
        )
    return code


def _parsed(context: typer.Context, words: list[str]) -> typer.Context:
    """The context of a command that is given as words, checked as if it were typed."""
    command: Any = context.find_root().command
    names, rest = [], list(words)
    while hasattr(command, "commands"):
        name = rest.pop(0) if rest else ""
        if name not in command.commands or name == context.info_name:
            known = ", ".join(other for other in command.commands if other != context.info_name)
            raise typer.BadParameter(f"no command that can be a job is named {name!r}; known: {known}")
        names.append(name)
        command = command.commands[name]
    return command.make_context(" ".join(names), rest, parent=context.find_root())


def _check_space(context: typer.Context) -> None:
    """Find mistakes of a search-space file here, before anything is uploaded."""
    file = context.params.get("file")
    if isinstance(file, Path):
        from orchestrator.search.space.builds import check_builds
        from orchestrator.search.space.space_file import load_space

        check_builds(load_space(file))


def submission_of(context: typer.Context, address: str, env: list[str], python: str) -> Submission:
    """What a cluster is asked for. Raises `BadMachine` where everybody there would see a password or a token."""
    from orchestrator.launch.submit import Submission

    name = context.info_name or ""
    files: dict[str, Path] = {}
    words = name.split()
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if source is None or source.name == "DEFAULT":
            continue  # what a default means is for the cluster to say
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
        env=dict(_variable(one) for one in env),
        python=python,
    )


def _carry(files: dict[str, Path], value: Any) -> str:
    """The name that a file or folder gets in the job; what is not here is the cluster's."""
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
            f"a job runs on the cluster that it is submitted to; leave --address {inner} out behind --",
        )


def _refuse_secrets(words: list[str]) -> None:
    from orchestrator.common.redaction import has_secret

    if secret := sorted({words[at - 1] for at, word in enumerate(words) if has_secret(word)}):
        raise BadMachine(
            ", ".join(secret),
            "holds a password or a token, and the cluster would show it with the job; leave it out of the URL, and set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, where `ray start` is run",
        )


def _variable(text: str) -> tuple[str, str]:
    import os

    from orchestrator.common.redaction import has_secret, names_secret

    name, equals, value = text.partition("=")
    if not equals and name not in os.environ:
        raise BadMachine("--env", f"{name} is not set here; NAME=VALUE gives its value")
    value = value if equals else os.environ[name]
    if names_secret(name) or has_secret(value):
        raise BadMachine(
            "--env",
            f"the cluster would show {name} with the job, and it looks secret; set it where `ray start` is run",
        )
    return name, value


def _label(name: str, params: dict[str, Any]) -> str:
    """A study, with the command if that is no search."""
    file = params.get("file")
    of = params.get("study") or "-".join(
        [file.stem if isinstance(file, Path) else "", *(params.get("data") or [])]
    )
    return "-".join(
        part for part in ("" if name == "search" else name.replace(" ", "-"), str(of).strip("-")) if part
    )


def _identity(name: str, params: dict[str, Any]) -> str:
    """Of a search its study, which cannot run twice, whatever its budget is; of other commands their words: \"\"."""
    if name != "search":
        return ""
    named = params["study"] or [params["file"].stem, *(params[key] for key in OF_A_STUDY)]
    return json.dumps([str(params["home"]), named])


def _follow(job: Job, address: str, on_interrupt: OnInterrupt) -> int:
    try:
        return job.follow(
            lambda text: print(text, end="", flush=True), lambda line: err.print(line, highlight=False)
        )
    except KeyboardInterrupt as asked:
        if _is_to_stop(job, address, on_interrupt, getattr(asked, "signum", signal.SIGINT)):
            _stop(job)
        raise


def _is_to_stop(job: Job, address: str, on_interrupt: OnInterrupt, signum: int) -> bool:
    """What is to become of a job whose log nobody reads any more. A terminal that is lost never stops it."""
    can_ask = signum == signal.SIGINT and sys.stdin.isatty() and err.is_terminal
    if on_interrupt == "stop" and signum != signal.SIGHUP:
        return True
    err.print(_how_on(job, address), highlight=False)
    if on_interrupt != "ask" or not can_ask:
        return False
    err.print("Stop the job, too? \\[y/N] (Ctrl-C again: no) ", end="", highlight=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _how_on(job: Job, address: str) -> str:
    ours = f"orchestrator submit --address {shlex.quote(address)}"
    return f"job {job.id} goes on; `{ours} --attach {job.id}` follows it, `{ours} --stop {job.id}` ends it"


def _stop(job: Job) -> None:
    err.print(f"job {job.id} is asked to end after its epochs, and is waited for", highlight=False)
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
