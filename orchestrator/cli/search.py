"""`orchestrator search`: train many networks, wherever Ray has room."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    SpaceFile,
    Splits,
    TrackingUri,
    Unseen,
    Width,
    study_options,
)
from orchestrator.cli.results.leaderboard import leaderboard
from orchestrator.cli.submit import run_as_job
from orchestrator.common.errors import Mistakes
from orchestrator.terminal.live import ASIDE, CONSOLE
from orchestrator.terminal.printing import note

if TYPE_CHECKING:
    from orchestrator.api.study import Study


StudyName = Annotated[
    str | None, typer.Option(help="Name of the study. Default: made from SPACE, the data and the split.")
]


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
    study: StudyName = None,
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

    At least one of --trials, --hours, --gpu-hours, --epochs and --until-unlikely is needed; the first one reached ends
    the search. No new configuration is started then, but those that may still win get all their folds if the budget
    allows: an estimate of the hours, GPU-hours and epochs they need is held back. Only --hours is a hard limit:
    unfinished work waits for the next run, and no champion is named before the finalists have been re-evaluated.

    Ctrl-C stops the search after the current epochs, a second Ctrl-C at once. SIGUSR1 also waits for these epochs,
    until SIGTERM follows; SIGTERM and SIGHUP wait ten seconds for them. The search can be resumed in every case: the
    exit code is 130 after Ctrl-C, 75 after the other signals, and 2 if a disk is full or a node is lost.

    With --nested K, K + 1 studies run one after another, and each may spend the whole budget.
    """
    if address.startswith(("ray://", "http://", "https://")):  # data, home and machine are the cluster's
        refuse_before_upload(file, given)
        raise typer.Exit(run_as_job(context, address, on_interrupt="stop"))
    from orchestrator.api.study import Study

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
    from orchestrator.api.study import NoChampion

    try:
        champion = asked.run()
    except NoChampion:
        leaderboard(asked.name, home=asked.home, as_json=as_json)
        raise
    leaderboard(asked.name, home=asked.home, as_json=as_json)
    if champion is None:
        note(
            "the hours were used up before the finalists were re-evaluated, so no champion is named yet; the same "
            f"command continues from here (study {asked.name})"
        )


def refuse_before_upload(file: Path, given: Mapping[str, Any]) -> None:
    """Raise mistakes in options and search space that a cluster would find only minutes later."""
    from orchestrator.search.space.builds import buildable_space
    from orchestrator.search.store.study_record import specification

    mistakes = Mistakes()
    with mistakes.noted():
        specification(given)
    with mistakes.noted():
        buildable_space(file, note)
    mistakes.raise_all()
