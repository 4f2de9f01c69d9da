"""Questions of commands that replace something."""

from __future__ import annotations

from collections.abc import Callable

import typer

from orchestrator.terminal.printing import agreed


def may_replace(*, yes: bool) -> Callable[[str], bool]:
    """A function that asks whether something may be replaced, and ends the command, exit code 1, where it may not."""

    def ask(question: str) -> bool:
        if not agreed(question, yes=yes):
            raise typer.Exit(1)
        return True

    return ask
