"""One fit in this process, without Ray: trained, or read from its record if it is finished."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.api.home import PathLike, as_names, cache_folder, home_folder
from orchestrator.common.errors import python_errors

if TYPE_CHECKING:
    import torch

    from orchestrator.common.display import Display
    from orchestrator.common.errors import Mistakes
    from orchestrator.data.cases import Dataset
    from orchestrator.data.splits.split_plan import SplitPlan
    from orchestrator.results.single_fit import SingleFit
    from orchestrator.search.choices import DeviceName
    from orchestrator.search.records.fit_records import FitRecord
    from orchestrator.search.space.space import Configuration
    from orchestrator.study.loading import DataChoice

Parameters = Mapping[str, Any] | Sequence[str]  # by name, or "name=value" as on the command line


@python_errors()
def fit(
    space: PathLike,
    data: str | Sequence[str],
    *,
    fold: int = 0,
    parameters: Parameters = (),
    splits: PathLike = "five-fold",
    holdout: float = 0.1,
    seed: int = 0,
    near_duplicates: bool = True,
    device: DeviceName = "auto",
    export: PathLike | None = None,
    replace: bool | Callable[[str], bool] = False,
    log: bool = False,
    tracking_uri: str | None = None,
    home: PathLike | None = None,
    cache: PathLike | None = None,
    display: Display | None = None,
) -> SingleFit:
    """Train the baseline of a search space on one fold, here; repeated, it goes on from its checkpoint.

    `parameters`: values in place of the baseline's. `export`: folder for weights, ONNX, configuration and card;
    `replace`: whether an export of another network there may be replaced, or a function that is asked. `log`: write a
    run into MLflow; `run_id` of the result is its id. Raises one `UserError` with everything that is wrong, before
    anything is trained, and `FitFailed` where training diverges.

    >>> import orchestrator as po
    >>> done = po.fit("tiny.toml", "drawn", splits="k-fold:2", parameters={"learning_rate": 2e-3}, device="cpu")
    >>> done.configuration.recipe.learning_rate, 0 <= done.scores["dice"] <= 1
    (0.002, True)
    """
    from orchestrator.common.display import Display
    from orchestrator.results.export.write import refuse_to_replace
    from orchestrator.results.mlflow.client import default_uri
    from orchestrator.results.single_fit import SingleFit
    from orchestrator.search.records.trial_score import fold_specs
    from orchestrator.study.loading import DataChoice

    folder, shown = home_folder(home), display or Display()
    choice = DataChoice(
        folder, as_names(data), (), str(splits), holdout, seed, near_duplicates, cache_folder(cache, folder)
    )
    target = None if export is None else Path(export).expanduser().absolute()
    uri = (tracking_uri or default_uri(folder)) if log else None
    configuration, chosen = _checked(Path(space), parameters, choice, device, target, uri, shown)
    _refuse_fold(fold)
    sources, _, plan = choice.load(shown, fold=fold)
    _note_lopsided(plan, sources, shown)
    if target is not None:
        earlier = SingleFit.why_ask(target, fold_specs(configuration, plan)[fold].fit_id)
        refuse_to_replace(target, earlier, replace)
    done = SingleFit.of(_trained(configuration, plan, fold, choice, chosen, shown), configuration, plan)
    return dataclasses.replace(
        done,
        bundle=None if target is None else done.export(target),
        run_id=None if uri is None else done.log(uri),
    )


def _refuse_fold(fold: int) -> None:
    from orchestrator.common.errors import BadSplit

    if fold < 0:
        raise BadSplit("--fold", f"needs a number of at least 0, found {fold}")


def _checked(
    file: Path,
    parameters: Parameters,
    choice: DataChoice,
    device: DeviceName,
    export: Path | None,
    uri: str | None,
    shown: Display,
) -> tuple[Configuration, torch.device]:
    """Configuration and device of a fit. Raises all mistakes in its arguments as one error."""
    from orchestrator.common.errors import Mistakes
    from orchestrator.doctor.quick import Quick
    from orchestrator.search.space.builds import check_builds, check_weights, override
    from orchestrator.search.space.space_file import load_space
    from orchestrator.training.process import device_here

    mistakes = Mistakes()
    with mistakes.noted():
        space = load_space(file)
        check_builds(space)
        check_weights(space)
        given = parameters if isinstance(parameters, Mapping) else as_names(parameters)
        configuration = space.configuration(override(space.baseline_params(), given, space))
        for name in sorted(configuration.recipe.idle & {one.split("=")[0].strip() for one in given}):
            shown.note(f"--set {name} has no effect with these other parameters")
    with mistakes.noted():
        choice.refuse()
    with mistakes.noted():
        chosen = device_here(device)
    with mistakes.noted():
        for line in Quick(choice.home, choice.cache_folder, device != "cpu", [0]).refuse():
            shown.note(line)
    _note_refused(mistakes, export, uri)
    mistakes.raise_all()
    return configuration, chosen


def _note_refused(mistakes: Mistakes, export: Path | None, uri: str | None) -> None:
    """Note an export folder or MLflow server that would reject the result only after hours of training."""
    from orchestrator.results.export.write import refuse_to_overwrite
    from orchestrator.results.mlflow.client import check_uri, refuse_locked_out

    if export is not None:
        with mistakes.noted():
            refuse_to_overwrite(export)
    if uri is not None:
        with mistakes.noted():
            check_uri(uri)
            refuse_locked_out(uri)


def _note_lopsided(plan: SplitPlan, sources: Sequence[Dataset], shown: Display) -> None:
    """Show a warning where a large group makes a fold differ much from the others."""
    from orchestrator.data.splits.plan import group_of_case
    from orchestrator.data.splits.proportions import lopsided

    if line := lopsided(plan, group_of_case(sources, plan.near_duplicates)):
        shown.note(f"warning: {line}")


def _trained(
    configuration: Configuration,
    plan: SplitPlan,
    fold: int,
    choice: DataChoice,
    device: torch.device,
    shown: Display,
) -> FitRecord:
    """Train the fit, or read its record if it is finished; shows a line per epoch, returns the record."""
    from orchestrator.common.cpus import usable_cpus
    from orchestrator.results.views.score_lines import epoch_line
    from orchestrator.search.fit_jobs import FitJobRunner, closing_cases
    from orchestrator.search.records.ledger import Ledger
    from orchestrator.search.records.trial_score import fold_specs
    from orchestrator.training.process import configure_process

    spec, ledger = fold_specs(configuration, plan)[fold], Ledger(choice.home / "fits")
    shown.announce(f"fit {spec.fit_id}: {configuration.network}, fold {fold} of {plan.name}, on {device}")

    def show(row: dict[str, float]) -> bool:
        shown.announce(epoch_line(row, configuration.recipe.epochs))
        return True

    configure_process()
    loader_workers = min(8, usable_cpus() - 1) if device.type == "cuda" else 0
    with closing_cases():
        FitJobRunner(choice.home, choice.cache_folder, ledger)(spec, device, loader_workers, show)
    return ledger.read(spec.fit_id)
