"""`orchestrator cluster render`: files that start a cluster, or a search on one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.search import search
from orchestrator.common.errors import BadMachine, Mistakes
from orchestrator.launch.kinds import KINDS, FileKind
from orchestrator.launch.spec import Cluster
from orchestrator.terminal.printing import note

# Depending on its release, Typer has its own Click or uses the package; this class is in either.
UsageError: type[Any] = typer.BadParameter.__bases__[0]
app = typer.Typer(help="Create files that start a cluster, or a search on one.", no_args_is_help=True)
render_app = typer.Typer(
    help="Print or write one of these files; --help of each describes its purpose and options.",
    no_args_is_help=True,
)
app.add_typer(render_app, name="render")

Out = Annotated[Path | None, typer.Option("--out", help="File to write. Default: print it.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a file that has other content.")]
FIELDS = {one.name: one for one in fields(Cluster)}
# Options of `search` that the file sets; they are options of `render` where they can be chosen.
OF_THE_FILE = ("address", "home", "cache", "tracking_uri")


def command(name: str, kind: FileKind) -> Callable[..., None]:
    """Command that renders a file of this kind, with an option for every field."""

    def carry_out(out: Path | None, overwrite: bool, **given: Any) -> None:
        from orchestrator.launch.render import write

        values = {name: _frozen(value) for name, value in given.items() if value not in (None, [])}
        text = cluster_text(name, values)
        if out is None:
            print(text, end="")
        else:
            changed = write(out, text, overwrite=overwrite)
            note(f"{out}: {'written' if changed else 'unchanged'}")

    parameters = [_parameter(FIELDS[name], kind) for name in kind.fields]
    more = [_option("out", Out, None), _option("overwrite", Overwrite, False)]
    carry_out.__signature__ = Signature([*parameters, *more])  # type: ignore[attr-defined]
    carry_out.__annotations__ = {}
    carry_out.__doc__ = f"{kind.meaning}\n\nWith the defaults the result is cluster/{kind.file}."
    return carry_out


def cluster_text(kind: str, values: Mapping[str, Any]) -> str:
    """Text of a file of this kind; `values`: fields other than its defaults. Raises all mistakes at once."""
    from orchestrator.launch.render import render

    mistakes = Mistakes()
    with mistakes.noted():
        text = render(kind, values)
    with mistakes.noted():
        refuse_search(values.get("search", ()))
    mistakes.raise_all()
    return text


def refuse_search(words: tuple[str, ...]) -> None:
    """Raise `BadMachine` if the words are no search or repeat the file's options, `BadStudy` if unlimited."""
    if not words:
        return
    from orchestrator.search.budget.limits import Budget

    alone = typer.Typer()
    alone.command()(search)
    where = "words after --"
    try:
        context = typer.main.get_command(alone).make_context("search", list(words))
    except UsageError as error:
        raise BadMachine(where, f"{error.format_message()} (they follow `orchestrator search`)") from error
    except typer.Exit:
        raise BadMachine(where, "expected a search, found a request for its help") from None
    repeated = [name for name in OF_THE_FILE if _is_given(context, name)]
    if repeated:
        options = ", ".join("--" + name.replace("_", "-") for name in repeated)
        raise BadMachine(where, f"expected no {options}, which the file itself sets; give them before --")
    Budget.of_options(context.params)


def _is_given(context: Any, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _parameter(one: Field[Any], kind: FileKind) -> Parameter:
    default = kind.defaults.get(one.name, one.default)
    shown = " ".join(default) if isinstance(default, tuple) else default
    help = one.metadata["meaning"] + ("." if default in (None, ()) else f". Default: {shown}.")
    if one.name == "search":
        words = typer.Argument(metavar="-- WORDS", help=help, show_default=False)
        return _option("search", Annotated[list[str] | None, words], None)
    if isinstance(one.default, tuple):
        return _option(
            one.name,
            Annotated[list[str] | None, typer.Option("--" + one.name[:-1].replace("_", "-"), help=help)],
            None,
        )
    kind_of = str if one.default is None else type(one.default)
    return _option(one.name, Annotated[kind_of | None, typer.Option(help=help)], None)


def _option(name: str, annotation: Any, default: Any) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


for _name, _kind in KINDS.items():
    render_app.command(_name)(command(_name, _kind))
