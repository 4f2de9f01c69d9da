"""Options that several commands share, so that they are spelled and explained once."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_origin

import typer

from orchestrator.search.choices import DeviceName
from orchestrator.search.study_spec import SpecField, spec_fields

FIELDS = {one.name: one for one in spec_fields()}


def finite(value: float | None) -> float | None:
    """The number itself. Raises `typer.BadParameter` for inf and nan, which ranges of options let through."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"expected a finite number, found {value}")
    return value


def absolute(path: Path | None) -> Path | None:
    """The absolute path: fits run in folders of their own, where a relative path would mean another file."""
    return None if path is None else path.expanduser().absolute()


FitsPerGpu = Annotated[
    int, typer.Option(help="Number of one-worker fits that share a GPU, each with its part of the memory.")
]
MaxLanes = Annotated[
    int | None,
    typer.Option(help="Maximum number of fits in parallel. Default: as many as the cluster has room for."),
]
SpaceFile = Annotated[
    Path,
    typer.Argument(
        metavar="SPACE", help="Search-space file, or the name of one that comes with the program."
    ),
]
Home = Annotated[
    Path,
    typer.Option(
        envvar="ORCHESTRATOR_HOME", help="Folder of datasets, studies and MLflow; shared by all nodes."
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        envvar="ORCHESTRATOR_CACHE",
        callback=absolute,
        help="Folder for decoded images, on a fast local disk. Default: HOME/cache.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Device = Annotated[DeviceName, typer.Option(help="Device to train on.")]
PredictDevice = Annotated[
    DeviceName,
    typer.Option(help="Device to predict on. auto: a GPU (with PyTorch) if there is one, else the CPU."),
]
Formats = Annotated[
    str | None,
    typer.Option(
        help="Comma-separated formats for --export to write besides the weights: onnx (always), pipeline (takes an "
        "image of any size, gives its mask), torch-export, fp16, int8 (with their loss of Dice), triton. Default: "
        "onnx,pipeline, which take seconds to write and need no further code to run."
    ),
]
Address = Annotated[
    str,
    typer.Option(
        help="auto: a running Ray cluster, else this machine; local: this machine; HOST:PORT: a head node; "
        "ray://HOST:PORT or http://HOST:8265: run the search there as a job, as `submit` does."
    ),
]
Width = Annotated[
    int | None,
    typer.Option(
        help="Data-parallel workers per fit; does not change the result. Default: if a node has several GPUs, time a "
        "few steps and use the number that should finish soonest; else 1.",
    ),
]
Data = Annotated[list[str], typer.Option(help="Dataset to train on; repeat for several.")]
Unseen = Annotated[
    list[str] | None, typer.Option(help="Dataset that only the champion is scored on; repeat for several.")
]
Splits = Annotated[
    str,
    typer.Option(
        help="five-fold, k-fold:N, repeated:RxK (K folds, drawn R times), holdout (one fold), cross-dataset (five "
        "folds, needs --unseen), leave-one-center-out, leave-one-dataset-out, published (train, val and test "
        "of the archives), or the JSON file of a split."
    ),
]
Holdout = Annotated[
    float,
    typer.Option(
        min=0,
        max=0.5,
        help="Share of the cases held out to test the champion; with --splits holdout, as many again are for "
        "validation.",
    ),
]
NearDuplicates = Annotated[
    bool,
    typer.Option(
        "--near-duplicates/--no-near-duplicates",
        help="Find frames that show the same place, within and between datasets, and keep them on one side of a "
        "split; takes minutes for a thousand frames, once. An existing split file is used as it is.",
    ),
]
Metric = Annotated[str, typer.Option(help="dice, iou, precision, recall, f2 or accuracy.")]
ChoosingMetric = Annotated[
    str,
    typer.Option(
        help="dice, iou, precision, recall, f2 or accuracy; or a metric of masks, nsd, boundary_f or lesion_f1, which "
        "compares only trials whose networks are kept: these predict their validation images on --device, once."
    ),
]
MaskMetric = Annotated[
    str,
    typer.Option(
        help="Metric to sort the cases by: dice, iou, precision, recall, f2, accuracy, hausdorff, hausdorff95 (hd95), "
        "hausdorff_normalised, hausdorff95_normalised, nsd, boundary_f or lesion_f1."
    ),
]


def study_options(**defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator that gives a command options of the study's specification, by name in its parameter `given`.

    `defaults`: option name -> its default here; without any, all options with their own defaults.
    """
    chosen = defaults or {name: one.default for name, one in FIELDS.items()}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**values: Any) -> None:
            command(given={name: values.pop(name) for name in chosen}, **values)

        parameters: list[inspect.Parameter] = []
        for own in inspect.signature(command, eval_str=True).parameters.values():
            given = [_parameter(FIELDS[name], default) for name, default in chosen.items()]
            parameters += given if own.name == "given" else [own.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate


def _parameter(field: SpecField, default: Any) -> inspect.Parameter:
    is_repeated = get_origin(field.kind) is tuple
    kind: Any = list[str] | None if is_repeated else field.kind
    default = None if is_repeated else default
    annotation = Annotated[kind, _option(field)]
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _option(field: SpecField) -> Any:
    """Typer option of a field, without its range: `specification` rejects values, with all mistakes."""
    said = field.option
    names = [said.flag] if said.flag else []
    return typer.Option(*names, help=said.help, envvar=said.env)


Seed = Annotated[
    int, typer.Option(min=FIELDS["seed"].least, max=FIELDS["seed"].most, help=FIELDS["seed"].option.help)
]


def warn_of_password(context: typer.Context, uri: str | None) -> str | None:
    """Warn that other users can read a password on the command line."""
    from orchestrator.common.redaction import has_secret
    from orchestrator.terminal.printing import err

    source = context.get_parameter_source("tracking_uri")
    if uri is not None and has_secret(uri) and source is not None and source.name == "COMMANDLINE":
        err.print(
            "--tracking-uri holds a password or a token, and `ps` and Ray's dashboard show command lines to other "
            "users; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, instead",
            highlight=False,
        )
    return uri


TrackingUri = Annotated[
    str | None,
    typer.Option(
        envvar="MLFLOW_TRACKING_URI",
        callback=warn_of_password,
        help="MLflow server. Default: SQLite in HOME. Put its user and password in MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD, or a token in MLFLOW_TRACKING_TOKEN.",
    ),
]
DEFAULT_HOME = Path.home() / ".orchestrator"
