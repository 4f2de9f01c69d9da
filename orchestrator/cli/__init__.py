"""The commands; the only package that exits the process. Its output is shown by `terminal`.

Exit codes: 0 done, 1 it failed, 2 a fault that the user or an administrator can correct, 75 ended by SIGTERM,
SIGHUP or SIGUSR1 and 130 by Ctrl-C, after which the same command goes on. What a command needs is imported
inside it, so that `--help` does not wait for torch, Ray and MLflow.
"""

from __future__ import annotations

import atexit
import errno
import gc
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.markup import escape

from orchestrator.cli import (
    cluster,
    doctor,
    evaluate,
    export,
    fit,
    networks,
    plan,
    report,
    search,
    space,
    status,
    submit,
    sync,
    ui,
)
from orchestrator.cli.console.help import Commands
from orchestrator.cli.data import datasets as data
from orchestrator.cli.home import clean, completion, studies
from orchestrator.cli.results import best, leaderboard, predict, reproduce
from orchestrator.common.cpus import limit_spinning
from orchestrator.common.errors import BadData, FitFailed, UserError
from orchestrator.common.faults import machine_fault
from orchestrator.common.interruption import RUN_AGAIN, exit_code, listening, requested_signal
from orchestrator.common.redaction import without_secrets
from orchestrator.terminal.printing import encodable, err, plain


def _show_version(wanted: bool) -> None:
    if wanted:
        from orchestrator import __version__

        print(f"orchestrator {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=Commands,
    help="Search hyperparameters and cross-validate polyp segmentation networks.",
    epilog="Exit codes: 0 success; 1 failure or bug; 2 something to fix in the command, the data or the machine; 75 "
    "ended by SIGTERM, SIGHUP or SIGUSR1: run the same command again; 130 ended by Ctrl-C.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.add_typer(space.app, name="space")
app.add_typer(networks.app, name="models")
app.add_typer(export.app, name="export")
app.add_typer(studies.app, name="studies")
app.add_typer(cluster.app, name="cluster")
for command in (
    fit.fit,
    plan.plan,
    search.search,
    status.status,
    sync.sync,
    ui.ui,
    leaderboard.leaderboard,
    best.best,
    report.report,
    reproduce.reproduce,
    predict.predict,
    evaluate.evaluate,
    evaluate.compare,
    doctor.doctor,
    clean.clean,
    completion.completion,
):
    app.command()(command)
# Options behind a command are that command's, with and without -- before it.
app.command(context_settings={"allow_interspersed_args": False})(submit.submit)


@app.callback()
def orchestrator(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Search hyperparameters and cross-validate polyp segmentation networks."""


# What a file system refuses for a reason of the user's: a place that is no folder, or no permission.
OF_THE_USER = (errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOTDIR)


TEXTS = ("cluster", "submit")  # take texts for files and other commands, which may be empty


def spare_collections() -> None:
    """Collect garbage less often, and not at exit, so that imports and the end of the process are faster.

    Importing torch, Ray and MLflow makes a million lasting objects. The collector would scan them repeatedly
    during the imports, which takes a second, and once more at exit, which takes two to four.
    """
    gc.set_threshold(50_000, 20, 20)
    atexit.register(gc.freeze)


def main() -> None:
    """Run the command line; a user's mistake or a machine's fault ends with one message and exit code 2."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    spare_collections()
    limit_spinning()
    encodable()
    with listening():
        try:
            _run()
        except BaseException as end:
            signum = requested_signal()
            if signum is None or (isinstance(end, SystemExit) and not end.code):
                raise
            # Whatever came of it: a scheduler sends its signal to every process, and what those say then is no matter.
            if (code := exit_code(signum)) == RUN_AGAIN:
                name = signal.Signals(signum).name
                err.print(
                    f"ended by {name}; the same command continues from here (exit code {code})",
                    highlight=False,
                )
            sys.exit(code)


def _refuse_empty(words: Sequence[str]) -> None:
    """Raise `BadData` for an empty word of the command: as a path it would be this folder, as a name none."""
    empty = [number for number, word in enumerate(words) if not word.strip()]
    if empty and words[0] not in TEXTS:
        before = shlex.join(words[: empty[0]])
        raise BadData(
            "command",
            f"expected a value after {before!r}, found an empty one; is a variable of a script not set?",
        )


def _run() -> None:
    try:
        _refuse_empty(sys.argv[1:])
        app()
    except UserError as mistake:
        for one in mistake.each:
            err.print(f"[bold red]error:[/] {escape(plain(str(one)))}", highlight=False)
        sys.exit(2)
    except FitFailed as failure:
        err.print(f"[bold red]failed:[/] {escape(plain(without_secrets(str(failure))))}", highlight=False)
        sys.exit(1)
    except Exception as bug:
        if isinstance(bug, OSError) and bug.errno in OF_THE_USER and bug.filename is not None:
            err.print(
                f"[bold red]error:[/] {escape(plain(f'{bug.filename}: {bug.strerror}'))}", highlight=False
            )
            sys.exit(2)
        if (fault := machine_fault(bug)) is None:
            _show(bug)
            sys.exit(1)
        err.print(f"[bold red]error:[/] {escape(plain(without_secrets(str(fault))))}", highlight=False)
        sys.exit(2)


def _show(bug: Exception) -> None:
    """Print the traceback of an error that is no mistake of the user's, without the secrets of URLs in it."""
    sys.stderr.write(without_secrets("".join(traceback.format_exception(bug))))
