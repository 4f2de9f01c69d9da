"""`orchestrator data describe`, and the options of `data add` that state the same: licence, source, annotators."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from orchestrator.cli.console.options import DEFAULT_HOME, AsJson, Home
from orchestrator.data.stated_fields import FIELDS
from orchestrator.terminal.printing import err, out, plain, print_json

Licence = Annotated[str | None, typer.Option(help=FIELDS["licence"])]
Source = Annotated[str | None, typer.Option("--source", help=FIELDS["source"])]
Annotators = Annotated[str | None, typer.Option(help=FIELDS["annotators"])]
Dates = Annotated[str | None, typer.Option(help=FIELDS["dates"])]
Inclusion = Annotated[str | None, typer.Option(help=FIELDS["inclusion"])]
Centers = Annotated[str | None, typer.Option(help=FIELDS["centers"])]
Devices = Annotated[str | None, typer.Option(help=FIELDS["devices"])]
Citation = Annotated[str | None, typer.Option(help=FIELDS["citation"])]


def given(*values: str | None) -> dict[str, str | None]:
    """Statements by their names, of values in the order of `FIELDS`."""
    return dict(zip(FIELDS, values, strict=True))


def data_describe(
    name: str,
    licence: Licence = None,
    origin: Source = None,
    annotators: Annotators = None,
    dates: Dates = None,
    inclusion: Inclusion = None,
    centers: Centers = None,
    devices: Devices = None,
    citation: Citation = None,
    ask: Annotated[
        bool, typer.Option("--ask", help="Ask for each in turn; press Enter to leave it as it is.")
    ] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """State what model cards and papers have to say about a dataset; without options, show what is stated.

    A new statement replaces an earlier one; "not stated" withdraws it. Neither changes the fingerprint.
    """
    from orchestrator.api import datasets as api

    values = given(licence, origin, annotators, dates, inclusion, centers, devices, citation)
    if ask:
        fields = api.describe_dataset(name, home=home)
        values = {key: value or _answer(key, fields[key]) for key, value in values.items()}
    fields = api.describe_dataset(name, home=home, **values)
    if as_json:
        print_json(fields)
        return
    for key, value in fields.items():
        out.print(f"{key:>16}  {value}", markup=False, highlight=False)


def _answer(key: str, known: str) -> str | None:
    """Statement that the user types for a field; None for an empty line or the end of the input."""
    err.print(f"{FIELDS[key]} Now: {plain(known)}", markup=False, highlight=False)
    err.print(f"{key}: ", end="", highlight=False)
    return sys.stdin.readline().strip() or None
