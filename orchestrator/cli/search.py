"""`orchestrator fit` trains one network here; `orchestrator search` trains many, wherever Ray has room."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.console.live import ASIDE, CONSOLE
from orchestrator.cli.console.options import (
    DEFAULT_HOME,
    Address,
    AsJson,
    Cache,
    Data,
    Device,
    FitsPerGpu,
    Holdout,
    Home,
    MaxLanes,
    NearDuplicates,
    Seed,
    SpaceFile,
    Splits,
    TrackingUri,
    Unseen,
    Width,
    study_options,
)
from orchestrator.cli.console.printing import epoch_line, err, note, out, print_json
from orchestrator.cli.data.splits import load_split, warn_of_lopsided
from orchestrator.cli.doctor import refuse_what_would_fail
from orchestrator.cli.results.leaderboard import leaderboard
from orchestrator.cli.submit import run_as_job
from orchestrator.common.cpus import usable_cpus
from orchestrator.common.errors import Mistakes

if TYPE_CHECKING:
    from orchestrator.api_study import Study
    from orchestrator.scoring.mask_choice import MaskChoice
    from orchestrator.search.records.fit_records import FitRecord


def fit(
    file: SpaceFile,
    data: Data,
    fold: Annotated[int, typer.Option(min=0, help="Which fold.")] = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value instead of the baseline's.")
    ] = None,
    splits: Splits = "five-fold",
    holdout: Holdout = 0.1,
    seed: Seed = 0,
    near_duplicates: NearDuplicates = True,
    device: Device = "auto",
    home: Home = DEFAULT_HOME,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Train one fit in this process, without Ray. Run again, it goes on from its checkpoint."""
    import torch

    from orchestrator.search.fit_jobs import FitJobRunner
    from orchestrator.search.records.ledger import Ledger
    from orchestrator.search.records.trial_score import fold_specs
    from orchestrator.search.space.builds import check_builds, check_weights, override
    from orchestrator.search.space.space_file import load_space
    from orchestrator.study.loading import DataChoice
    from orchestrator.training.process import configure_process

    home = home.expanduser().resolve()
    choice, mistakes = DataChoice(home, data, (), splits, holdout, seed, near_duplicates, cache), Mistakes()
    with mistakes.noted():
        space = load_space(file)
        check_builds(space)
        check_weights(space)
        configuration = space.configuration(override(space.baseline_params(), set_ or [], space))
    with mistakes.noted():
        choice.refuse()
    with mistakes.noted():
        chosen = torch.device(device_here(device))
    with mistakes.noted():
        refuse_what_would_fail(home, cache, device, gpus=[0])
    mistakes.raise_all()
    sources, _, plan = load_split(choice, fold=fold)
    warn_of_lopsided(plan, sources)
    specs = fold_specs(configuration, plan)
    ledger = Ledger(home / "fits")
    log = err if as_json else out
    log.print(
        f"fit {specs[fold].fit_id}: {configuration.network}, fold {fold} of {plan.name}, on {chosen}",
        highlight=False,
    )

    def show(row: dict[str, float]) -> bool:
        log.print(epoch_line(row, configuration.recipe.epochs), highlight=False)
        return True

    configure_process()
    loader_workers = min(8, usable_cpus() - 1) if chosen.type == "cuda" else 0
    FitJobRunner(home, cache or home / "cache", ledger)(specs[fold], chosen, loader_workers, show)
    record = ledger.read(specs[fold].fit_id)
    _print_fit(record, configuration.masks, as_json=as_json)


def _print_fit(record: FitRecord, choice: MaskChoice, *, as_json: bool) -> None:
    """Scores of a fit at the mask rule that suits its own validation images best, and where it is kept."""
    from orchestrator.scoring.formatting import percent
    from orchestrator.scoring.pending_cases import scores_under

    masks = choice.best(record.histograms)
    scores = {name: float(values.mean()) for name, values in scores_under(record.histograms, masks).items()}
    if as_json:
        facts = {"fit_id": record.fit_id, "scores": scores, "threshold": masks.threshold}
        place = {"seconds": record.seconds, "folder": str(record.folder)}
        print_json({**facts, "best_epoch": record.best_epoch + 1, "epochs": len(record.curves), **place})
        return
    text = "  ".join(f"{name} {percent(value)}" for name, value in scores.items())
    out.print(
        f"in percent: {text}  at threshold {masks.threshold:.3f}"
        f"{', the best one for this fold' if choice.is_open else ''}; best epoch {record.best_epoch + 1}",
        highlight=False,
    )
    out.print(f"{record.seconds:.0f} s of training; record and weights in {record.folder}", highlight=False)


@study_options()
def search(
    context: typer.Context,
    file: SpaceFile,
    data: Data,
    given: Mapping[str, Any],
    unseen: Unseen = None,
    splits: Splits = "five-fold",
    holdout: Holdout = 0.1,
    near_duplicates: NearDuplicates = True,
    study: Annotated[
        str | None, typer.Option(help="Name. Default: made of SPACE, the data and the split.")
    ] = None,
    workers_per_fit: Width = None,
    fits_per_gpu: FitsPerGpu = 1,
    lanes: MaxLanes = None,
    address: Address = "auto",
    device: Device = "auto",
    home: Home = DEFAULT_HOME,
    cache: Cache = None,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Search hyperparameters; every trial is cross-validated. Run the same command again to resume.

    One of --trials, --hours, --gpu-hours, --epochs and --until-unlikely is needed; of several the first ends the
    search. Then no new configuration is begun, but those that may win still get all their folds, as far as the budget
    goes: of hours, GPU-hours and epochs enough is held back for them, as well as can be told. Only --hours is hard:
    what is not finished then waits for the next run, and no champion is named before the finalists were re-evaluated.

    Ctrl-C stops after the epochs in flight, a second one at once; so does SIGUSR1, until SIGTERM follows; SIGTERM and
    SIGHUP wait ten seconds for them. All can be resumed: exit code 130 after Ctrl-C, 75 after the others, and 2 where
    a disk is full or a node is lost.

    With --nested K there are K + 1 studies, one after another, and each may spend the whole budget.
    """
    if address.startswith(("ray://", "http://", "https://")):  # data, home and machine are the cluster's
        refuse_before_upload(file, given)
        raise typer.Exit(run_as_job(context, address, on_interrupt="stop"))
    from orchestrator.api_study import Study

    asked = Study(
        file,
        data,
        unseen=unseen or (),
        splits=splits,
        holdout=holdout,
        near_duplicates=near_duplicates,
        name=study,
        home=home,
        cache=cache,
        tracking_uri=tracking_uri,
        address=address,
        device=device,
        workers_per_fit=workers_per_fit,
        lanes=lanes,
        fits_per_gpu=fits_per_gpu,
        progress=ASIDE if as_json else CONSOLE,
        **given,
    )
    _run(asked, as_json=as_json)


def _run(asked: Study, *, as_json: bool) -> None:
    """Run a study, and show its leaderboard, also where no trial can be its champion."""
    from orchestrator.api_study import NoChampion

    try:
        champion = asked.run()
    except NoChampion:
        leaderboard(asked.name, home=asked.home, as_json=as_json)
        raise
    leaderboard(asked.name, home=asked.home, as_json=as_json)
    if champion is None:
        note(
            "the hours were over before the finalists were re-evaluated, so no champion is named yet; the same "
            f"command goes on from here (study {asked.name})"
        )


def refuse_before_upload(file: Path, given: Mapping[str, Any]) -> None:
    """Raises what is wrong with options and search space, which a cluster would find out minutes later."""
    from orchestrator.search.space.builds import check_builds
    from orchestrator.search.space.space_file import load_space
    from orchestrator.search.store.study_record import specification

    mistakes = Mistakes()
    with mistakes.noted():
        specification(given)
    with mistakes.noted():
        check_builds(load_space(file))
    mistakes.raise_all()


def device_here(device: str) -> str:
    import torch

    from orchestrator.common.errors import BadMachine

    if device == "cuda" and not torch.cuda.is_available():
        raise BadMachine("--device", "cuda needs a GPU that torch can use, found none; use --device cpu")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
