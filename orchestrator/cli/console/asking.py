"""Questions of commands before they replace something."""

from __future__ import annotations

from collections.abc import Callable

import typer

from orchestrator.terminal.printing import agreed


def may_replace(*, yes: bool) -> Callable[[str], bool]:
    """Function that asks whether something may be replaced; if not, the command ends with exit code 1."""

    def ask(question: str) -> bool:
        if not agreed(question, yes=yes):
            raise typer.Exit(1)
        return True

    return ask
