"""The commands; the only room that prints or exits.

Exit codes: 0 done, 1 it failed, 2 the user can mend it, 130 interrupted (and, for a search, resumable).
What a command needs is imported inside it, so that `--help` does not wait for torch, Ray and MLflow.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from orchestrator.cli import data, evaluate, networks, plan, results, search, space, status
from orchestrator.cli.screen import err, plain
from orchestrator.errors import FitFailed, UserError
from orchestrator.redaction import without_secrets


class Commands(TyperGroup):
    """The commands. Typer takes every EOFError for Ctrl-D and says "Aborted."; ours ask nothing, so it is a bug."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EOFError as error:
            raise RuntimeError(f"something that was read ended early: {error}") from error


app = typer.Typer(
    cls=Commands,
    help="Search hyperparameters and cross-validate polyp segmentation networks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(data.app, name="data")
app.add_typer(space.app, name="space")
app.add_typer(networks.app, name="models")
for command in (
    search.fit,
    plan.plan,
    search.search,
    status.status,
    results.leaderboard,
    results.best,
    results.predict,
    evaluate.evaluate,
    evaluate.compare,
):
    app.command()(command)


# What a file system refuses for a reason of the user's: a place that is no folder, no permission, no room.
OF_THE_USER = (
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EROFS,
)


def main() -> None:
    """Run the command line; a user's mistake is one message and exit code 2."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        app()
    except UserError as mistake:
        for one in mistake.each:
            err.print(f"[bold red]error:[/] {escape(plain(str(one)))}", highlight=False)
        sys.exit(2)
    except OSError as refusal:
        if refusal.errno not in OF_THE_USER or refusal.filename is None:
            _show(refusal)
            sys.exit(1)
        told = escape(plain(f"{refusal.filename}: {refusal.strerror}"))
        err.print(f"[bold red]error:[/] {told}", highlight=False)
        sys.exit(2)
    except FitFailed as failure:
        err.print(f"[bold red]failed:[/] {escape(plain(without_secrets(str(failure))))}", highlight=False)
        sys.exit(1)
    except Exception as bug:
        _show(bug)
        sys.exit(1)


def _show(bug: Exception) -> None:
    """The traceback of what is no mistake of the user's, without the secrets of URLs in its messages."""
    sys.stderr.write(without_secrets("".join(traceback.format_exception(bug))))
