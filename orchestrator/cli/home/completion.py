"""`orchestrator completion`: the script by which a shell completes commands, options and names."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from orchestrator.common.private_api import private
from orchestrator.terminal.printing import out

PROGRAM, VARIABLE = "orchestrator", "_ORCHESTRATOR_COMPLETE"


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="Shell to print the script for.")],
) -> None:
    """Print a script that makes a shell complete commands, options, datasets, studies, networks and search spaces.

    `--install-completion` installs it for the current shell; this is for all users of a machine, for a container, or
    for files that you manage yourself.
    """
    script = private("get_completion_script")(prog_name=PROGRAM, complete_var=VARIABLE, shell=shell)
    out.print(script, markup=False, highlight=False, soft_wrap=True)
