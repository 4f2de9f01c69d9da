"""Help of all commands: options in panels, an example of each, names that a shell completes.

Commands declare their options where they are; how these are grouped is one table here, so that `--home` stands in the
same panel everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from typer import BadParameter
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from orchestrator.cli.console.completion import COMPLETED
from orchestrator.cli.console.examples import EXAMPLES
from orchestrator.common.errors import UserError
from orchestrator.common.names import nearest
from orchestrator.common.private_api import member, set_member

PANELS: Mapping[str, tuple[str, ...]] = {
    "Near-duplicates": ("near_duplicates",),
    "Budget": ("trials", "hours", "gpu_hours", "epochs", "until_unlikely"),
    "Search": (
        *("race", "objectives", "constraints", "sampler", "warm_start", "nested", "rescore", "set_", "fold"),
        *("failures", "sampled", "scale", "only", "also", "seeds", "weights", "imagenet", "tuned"),
    ),
    "Data and split": (
        *("data", "unseen", "splits", "holdout", "seed", "paper_score", "space", "whole_groups"),
    ),
    "Choice of network": (
        "metric",
        "rule",
        "trial_number",
        "network",
        "refit",
        "ensemble",
        "champion",
        "against",
    ),
    "Images and masks": (
        *("part", "images", "masks", "pattern", "allow_empty", "mask_colors", "mask_values", "mask_classes"),
        *("invert_masks", "exif", "without_mask", "skip_bad", "groups", "group_column", "center_column"),
    ),
    "Drawn frames": ("augmentation", "size", "cases", "epoch", "data_draw.centers"),
    "Facts about the data": (
        *("licence", "origin", "annotators", "dates", "inclusion", "centers", "devices", "citation", "ask"),
    ),
    "Jobs": ("list_", "attach", "stop", "detach", "on_interrupt"),
    "Machine": (
        *("address", "device", "workers_per_fit", "fits_per_gpu", "lanes", "gpus", "price", "nodes", "cpus"),
        *(
            "gpu_type",
            "memory_gb",
            "shm_gb",
            "storage_gb",
            "storage_class",
            "head",
            "workers",
            "user",
            "ssh_key",
        ),
        *("port", "dashboard_port", "mlflow_host", "mlflow_port", "allowed_hosts", "interface", "partition"),
        *("account", "queue", "namespace", "image", "database", "python", "env", "name"),
    ),
    "Output": (
        *(
            "as_json",
            "everything",
            "watch",
            "export",
            "out_folder",
            "out_file",
            "out",
            "path",
            "worst",
            "plot",
        ),
        *("page", "latex", "csv", "markdown", "methods", "checklist", "formats", "probabilities"),
        *("sheet", "browser", "log", "overwrite", "yes", "dry_run", "prune", "max_gb"),
    ),
    "Places": ("study", "home", "cache", "tracking_uri", "storage", "venv", "folder"),
}
PANEL_OF = {name: panel for panel, names in PANELS.items() for name in names}
REST = "Options"
TYPES = {"int": "N", "float": "X"}
IN_PARAGRAPH = re.compile(r"(?<!\n)\n(?!\n)")  # where a docstring is wrapped
NOT_A_CHOICE = re.compile(r"(['\"])(?P<found>.*?)\1 is not one of (?P<known>.*)\.$")
MEANT = {"gpu": "cuda"}
FORMER = {  # options as earlier versions called them -> as they are called
    "--twins": "--near-duplicates",
    "--no-twins": "--no-near-duplicates",
}
GROUPS = {  # of the top help: panel -> commands
    "Data": ("data",),
    "Search": ("search", "fit", "plan", "status", "sync", "space", "models"),
    "Results": (
        "leaderboard",
        "best",
        "compare",
        "report",
        "reproduce",
        "evaluate",
        "predict",
        "export",
        "ui",
    ),
    "Machines": ("doctor", "cluster", "submit"),
    "Housekeeping": ("studies", "clean", "completion"),
}

# Of `data`: its commands in the order in which they are needed; Typer lists them in that of their modules.
DATA = (
    *("add", "list", "show", "check", "describe", "preview", "leaks", "split"),
    *("layouts", "draw", "cache", "remove"),
)


class Commands(TyperGroup):
    """Group of all commands. Typer takes every EOFError for Ctrl-D and says "Aborted."; ours is a bug."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for group, names in GROUPS.items():
            for name in names:
                if name in self.commands:
                    self.commands[name].rich_help_panel = group  # type: ignore[attr-defined]
        self.commands = _in_order(self.commands, [name for names in GROUPS.values() for name in names])
        data: Any = self.commands["data"]
        data.commands = _in_order(data.commands, DATA)
        for command in (self, *_all(self.commands.values())):
            _dress(command)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [FORMER.get(word, word) for word in args])

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as mistake:
            mistake.name_options()
            raise
        except EOFError as error:
            raise RuntimeError(f"something that was read ended early: {error}") from error
        except BadParameter as refused:
            refused.message = with_hint(refused.message)
            raise


def _in_order(commands: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Commands in the order of `names`, then the others."""
    return {name: commands[name] for name in dict.fromkeys([*names, *commands]) if name in commands}


def _all(commands: Iterable[Any]) -> Iterator[TyperCommand | TyperGroup]:
    for command in commands:
        yield command
        yield from _all(getattr(command, "commands", {}).values())


def _dress(command: TyperCommand | TyperGroup) -> None:
    """Give a command panels for its options, an example below them, and completion of names."""
    name = getattr(command.callback, "__name__", "")
    if command.help:
        command.help = IN_PARAGRAPH.sub(" ", command.help)
    command.get_params = _with_short_types(command.get_params)  # type: ignore[assignment, method-assign]
    for param in command.params:
        if isinstance(param, TyperArgument):
            param.display_type_rich = _no_type  # type: ignore[method-assign]
        if isinstance(param, TyperOption) and param.rich_help_panel is None:
            param.rich_help_panel = PANEL_OF.get(f"{name}.{param.name}") or PANEL_OF.get(
                param.name or "", REST
            )
        own = f"{name}.{param.name}"  # of this command alone
        completed: Callable[..., Any] | None = COMPLETED.get(own) or COMPLETED.get(param.name or "")
        if completed is not None and member(param, "_custom_shell_complete") is None:
            set_member(param, "_custom_shell_complete", completed)
    if name in EXAMPLES and not command.epilog:
        command.epilog = f"Example: {EXAMPLES[name]}"


def _no_type(ctx: Any) -> None:
    """Of an argument: its name and help say more than Typer's `<list[str]>`."""


def _with_short_types(params: Callable[[Any], list[Any]]) -> Callable[[Any], list[Any]]:
    """The function that lists the parameters of a command, with --help and those of completion, which come last."""

    def listed(ctx: Any) -> list[Any]:
        found = params(ctx)
        for param in found:
            if isinstance(param, TyperOption) and param.metavar is None:
                param.metavar = _short_type(param)
        return found

    return listed


def _short_type(param: TyperOption) -> str | None:
    """Placeholder of an option's value in the help, one word; "" for a flag; None: list the choices."""
    kind = param.type_descriptor
    if kind.is_choice:
        return None
    if param.is_flag:
        return ""
    return "PATH" if kind.is_path else TYPES.get(param.bare_type(), "TEXT")


def with_hint(message: str) -> str:
    """The message of a value that is no choice, with the choice that was probably meant."""
    message = message.removeprefix("Value error, ")
    match = NOT_A_CHOICE.search(message)
    if match is None:
        return message
    near = MEANT.get(match["found"]) or nearest(match["found"], re.findall(r"'([^']*)'", match["known"]))
    return message if near is None else f"{message} Did you mean {near}?"
