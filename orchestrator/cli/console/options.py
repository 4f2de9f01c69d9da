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
    int, typer.Option(help="Fits of one worker that share a GPU, each with its part of the memory.")
]
MaxLanes = Annotated[
    int | None,
    typer.Option(help="Most fits in parallel. Default: as many as the cluster holds."),
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
        envvar="ORCHESTRATOR_HOME", help="Where datasets, studies and MLflow live; shared by all nodes."
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        envvar="ORCHESTRATOR_CACHE",
        callback=absolute,
        help="Where decoded images are kept; a fast local disk. Default: HOME/cache.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Device = Annotated[DeviceName, typer.Option(help="Device to train on.")]
PredictDevice = Annotated[
    DeviceName,
    typer.Option(help="Device to predict on. auto: a GPU where there is one, with PyTorch; else the CPU."),
]
Formats = Annotated[
    str | None,
    typer.Option(
        help="What --export writes besides the weights, separated by commas: onnx (always), pipeline (image of any "
        "size in, mask out), torch-export, fp16, int8 (with their loss of Dice), triton. Default: onnx,pipeline, which "
        "are made in seconds and serve without further code."
    ),
]
Address = Annotated[
    str,
    typer.Option(
        help="auto: a running Ray cluster, else this machine; local: this machine; HOST:PORT of a head node; "
        "or ray://HOST:PORT or http://HOST:8265, where a search becomes a job, as `submit` makes one."
    ),
]
Width = Annotated[
    int | None,
    typer.Option(
        help="Data-parallel workers of one fit; does not change its result. Default: what ends soonest by a few steps "
        "that are timed first, where a node has several GPUs; else 1.",
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
        help="Share of the cases set aside for the champion's test; with --splits holdout as many again are validated.",
    ),
]
NearDuplicates = Annotated[
    bool,
    typer.Option(
        "--near-duplicates/--no-near-duplicates",
        help="Look for frames that show the same place, within and between datasets, and never part them; minutes for "
        "a thousand frames, once. The file of a split that was written before is used as it is.",
    ),
]
Metric = Annotated[str, typer.Option(help="dice, iou, precision, recall, f2 or accuracy.")]
ChoosingMetric = Annotated[
    str,
    typer.Option(
        help="dice, iou, precision, recall, f2 or accuracy; or, of masks, nsd, boundary_f or lesion_f1: the best of "
        "the trials whose networks are kept, which predict their validation images on --device, once."
    ),
]
MaskMetric = Annotated[
    str,
    typer.Option(
        help="Metric that orders the cases: dice, iou, precision, recall, f2, accuracy, hausdorff, hausdorff95 (hd95), "
        "nsd, boundary_f or lesion_f1."
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
            "--tracking-uri holds a password or a token, and `ps` and Ray's dashboard show the command lines of "
            "programs; MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, keep it apart",
            highlight=False,
        )
    return uri


TrackingUri = Annotated[
    str | None,
    typer.Option(
        envvar="MLFLOW_TRACKING_URI",
        callback=warn_of_password,
        help="MLflow server. Default: SQLite in HOME. Its password belongs in MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD, or a token in MLFLOW_TRACKING_TOKEN.",
    ),
]
DEFAULT_HOME = Path.home() / ".orchestrator"
