"""`orchestrator fit` trains one network here; `orchestrator search` trains many, wherever Ray has room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.console.live import study_view
from orchestrator.cli.console.options import (
    DEFAULT_HOME,
    Address,
    Cache,
    Data,
    Device,
    Holdout,
    Home,
    NearDuplicates,
    Seed,
    Splits,
    TrackingUri,
    Unseen,
    Width,
)
from orchestrator.cli.console.printing import epoch_line, err, out
from orchestrator.cli.data.splits import load_split, refuse_split, warn_of_lopsided
from orchestrator.cli.doctor import refuse_what_would_fail
from orchestrator.cli.results import leaderboard
from orchestrator.cli.submit import run_as_job
from orchestrator.common.cpus import usable_cpus
from orchestrator.common.errors import FitFailed, Mistakes
from orchestrator.search.choices import RuleName

if TYPE_CHECKING:
    from orchestrator.data.splits.split_file import SplitPlan
    from orchestrator.ray_cluster.machine import Machine
    from orchestrator.search.store.trials import StudyTrial
    from orchestrator.study.spec import Study


def fit(
    file: Annotated[
        Path, typer.Argument(metavar="SPACE", help="Search-space file; its baseline is trained.")
    ],
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
) -> None:
    """Train one fit in this process, without Ray. Run again, it goes on from its checkpoint."""
    import torch

    from orchestrator.scoring.formatting import percent
    from orchestrator.scoring.pending_cases import scores_under
    from orchestrator.search.fit_jobs import FitJobRunner
    from orchestrator.search.records.ledger import Ledger
    from orchestrator.search.records.trial_score import fold_specs
    from orchestrator.search.space.builds import check_builds, check_weights, override
    from orchestrator.search.space.space_file import load_space
    from orchestrator.training.process import settle

    home = home.expanduser().resolve()
    mistakes = Mistakes()
    with mistakes.noted():
        space = load_space(file)
        check_builds(space)
        check_weights(space)
        configuration = space.configuration(override(space.baseline_params(), set_ or [], space))
    with mistakes.noted():
        refuse_split(home, data, [], splits, holdout, seed)
    with mistakes.noted():
        chosen = torch.device(device_here(device))
    with mistakes.noted():
        refuse_what_would_fail(home, cache, device, gpus=[0])
    mistakes.tell()
    sources, _, plan = load_split(
        home, data, [], splits, holdout, seed, near_duplicates=near_duplicates, cache=cache, fold=fold
    )
    warn_of_lopsided(plan, sources)
    specs = fold_specs(configuration, plan)
    ledger = Ledger(home / "fits")
    out.print(
        f"fit {specs[fold].fit_id}: {configuration.network}, fold {fold} of {plan.name}, on {chosen}",
        highlight=False,
    )

    def show(row: dict[str, float]) -> bool:
        out.print(epoch_line(row, configuration.recipe.epochs), highlight=False)
        return True

    settle()
    loader_workers = min(8, usable_cpus() - 1) if chosen.type == "cuda" else 0
    FitJobRunner(home, cache or home / "cache", ledger)(specs[fold], chosen, loader_workers, show)
    record = ledger.read(specs[fold].fit_id)
    masks = configuration.masks.best(record.histograms)
    scores = {name: float(values.mean()) for name, values in scores_under(record.histograms, masks).items()}
    text = "  ".join(f"{name} {percent(value)}" for name, value in scores.items())
    out.print(
        f"in percent: {text}  at threshold {masks.threshold:.3f}"
        f"{', the best one for this fold' if configuration.masks.is_open else ''}; best epoch {record.best_epoch + 1}",
        highlight=False,
    )
    out.print(f"{record.seconds:.0f} s of training; record and weights in {record.folder}", highlight=False)


def search(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="SPACE", help="Search-space file.")],
    data: Data,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Settings to try; those of earlier runs count.")
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(
            min=0, help="Wall time of this run; then all stops after its epoch. Run again to go on."
        ),
    ] = None,
    gpu_hours: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Time of fits x GPUs they hold, over all runs; where there are none, time of fits in CPU lanes.",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Training epochs of all fits, over all runs.")
    ] = None,
    until_unlikely: Annotated[
        bool,
        typer.Option(
            "--until-unlikely",
            help="Stop when no improvement is likely: when a model of all settings expects less than 0.1 Dice points "
            "of the best one it can find, three settings in a row.",
        ),
    ] = False,
    unseen: Unseen = None,
    splits: Splits = "five-fold",
    holdout: Holdout = 0.1,
    study: Annotated[
        str | None, typer.Option(help="Name. Default: made of SPACE, the data and the split.")
    ] = None,
    workers_per_fit: Width = None,
    fits_per_gpu: Annotated[
        int,
        typer.Option(min=1, help="Fits of one worker that share a GPU, each with its part of the memory."),
    ] = 1,
    lanes: Annotated[int | None, typer.Option(min=1, help="Fits at a time. Default: as many as fit.")] = None,
    race: Annotated[
        RuleName | None,
        typer.Option(
            help="Who gets more folds; none: every trial gets all. Default: paired; with several objectives none."
        ),
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help="What is maximised: mean over images (default), worst-fold, center-mean or worst-center. Repeat for "
            "further objectives, also minimised ones: parameters, gmacs, inference_ms; the first names the champion."
        ),
    ] = None,
    constraint: Annotated[
        list[str] | None,
        typer.Option(
            help="What the champion may cost: 'parameters<=5e6', also gmacs, inference_ms. Repeat for several. What is "
            "known to cost more is not trained, but for the paper's setting."
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="What proposes configurations: surrogate (default, a Gaussian process that reads on how many folds a "
            "score rests), tpe (default for several objectives), gp, random; or any sampler of Optuna with keyword "
            "arguments, 'optuna:NSGAIISampler(population_size=20)', or of OptunaHub, 'optunahub:PACKAGE.CLASS()'."
        ),
    ] = None,
    warm_start: Annotated[
        list[str] | None,
        typer.Option(
            help="Earlier study, of this home or an experiment in MLflow, whose five best settings are tried right "
            "after the paper's, where they fit. Repeat for several."
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            envvar="ORCHESTRATOR_STORAGE",
            help="Database that keeps the trials, as a URL without a password: postgresql://user@host/name, mysql, "
            "sqlite. Default: a journal file in the study's folder. A study stays where it was begun.",
        ),
    ] = None,
    nested: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Outer folds: for each, first, a study of the same budget searches without its cases and is scored on "
            "them, so that what the whole search gives on new images is known without selection bias.",
        ),
    ] = None,
    rescore: Annotated[
        int,
        typer.Option(
            min=0,
            help="Of the trials that cannot be told from the winner so many, at most, are scored again on fresh folds "
            "and training seeds before one is named; 0: none.",
        ),
    ] = 3,
    seed: Seed = 0,
    near_duplicates: NearDuplicates = True,
    address: Address = "auto",
    device: Device = "auto",
    home: Home = DEFAULT_HOME,
    cache: Cache = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Search hyperparameters; every trial is cross-validated. Run the same command again to resume.

    One of --trials, --hours, --gpu-hours, --epochs and --until-unlikely is needed; of several the first ends the
    search. Then no new setting is begun, but those that may win still get all their folds, as far as the budget goes:
    of hours, GPU-hours and epochs enough is held back for them, as well as can be told. Only --hours is hard: what is
    not finished then waits for the next run, and no champion is named before the finalists were scored again. Ctrl-C
    stops after the epochs in flight, a second one at once; so does SIGUSR1, until SIGTERM follows; SIGTERM and SIGHUP
    wait ten seconds for them. All can be resumed: exit code 130 after Ctrl-C, 75 after the others, and 2 where a disk
    is full or a node is lost.

    With --nested K there are K + 1 studies, one after another, and each may spend the whole budget.
    """
    from orchestrator.ray_cluster.machine import Machine, reach_cluster
    from orchestrator.results.mlflow.client import default_uri, refuse_locked_out
    from orchestrator.results.mlflow.earlier_studies import earlier_configurations
    from orchestrator.results.mlflow.sink import MlflowSink
    from orchestrator.results.sinks.console import ConsoleSink
    from orchestrator.results.sinks.csv_files import CsvSink
    from orchestrator.search.fit_jobs import FitJobRunner
    from orchestrator.search.space.builds import check_builds, check_weights
    from orchestrator.search.space.space_file import load_space
    from orchestrator.search.store.study_record import specification
    from orchestrator.search.store.study_store import StudyStore
    from orchestrator.search.store.trials import outside_cases
    from orchestrator.selection.warm_start import fit_in
    from orchestrator.study.run import run_study
    from orchestrator.study.spec import Study

    is_served = address.startswith(("ray://", "http://", "https://"))
    mistakes = Mistakes()
    with mistakes.noted():
        spec = specification(
            {
                "trials": trials,
                "hours": hours,
                "gpu_hours": gpu_hours,
                "epochs": epochs,
                "until_unlikely": until_unlikely,
                "race": race,
                "objectives": objective,
                "constraints": constraint,
                "sampler": sampler,
                "warm_start": warm_start,
                "storage": storage,
                "nested": nested,
                "rescore": rescore,
                "seed": seed,
            }
        )
    with mistakes.noted():
        space = load_space(file)
        check_builds(space)
        if not is_served:
            check_weights(space)
    if is_served:  # data, home and machine are the cluster's
        mistakes.tell()
        raise typer.Exit(run_as_job(context, address, on_interrupt="stop"))
    home = home.expanduser().resolve()
    with mistakes.noted():
        refuse_split(home, data, unseen or [], splits, holdout, seed)
    with mistakes.noted():
        StudyStore(home, study or file.stem)
    with mistakes.noted():
        machine = Machine(address, device, workers_per_fit, lanes, fits_per_gpu)
        head = reach_cluster(address)  # once: what it has to say is said before minutes of other work
        machine = replace(machine, address=head or "local")
        refuse_what_would_fail(home, cache, device, head=head, trains_by_ray=True)
    with mistakes.noted():
        refuse_locked_out(tracking_uri or default_uri(home))
    mistakes.tell()
    if len(spec.objectives) > 1 and race is None:
        err.print("several objectives: every trial gets all its folds (--race none)", highlight=False)

    def home_of(plan: SplitPlan) -> StudyStore:
        others = [f"vs-{other}" for other in unseen or []]
        return StudyStore(home, study or "-".join([file.stem, *data, plan.name, *others]))

    def refuse_changes(plan: SplitPlan) -> None:
        """What needs no near-duplicates to be refused is refused before they are looked for."""
        home_of(plan).refuse_changes(space, plan, spec, but=["splits"])

    sources, tests, plan = load_split(
        home,
        data,
        unseen or [],
        splits,
        holdout,
        seed,
        near_duplicates=near_duplicates,
        cache=cache,
        check=refuse_changes,
    )
    study_home = home_of(plan)
    name = study_home.name
    if study is None and (begun := _begun_without_near_duplicates(home, name, plan)) is not None:
        err.print(
            f"study {begun} was begun without looking for near-duplicates; --no-near-duplicates goes on with it, "
            "this is another one",
            highlight=False,
        )
    asked = Study(
        home=study_home,
        space=space,
        plan=plan,
        datasets=sources,
        unseen=tests,
        spec=spec,
    )
    if warm_start and not study_home.exists():
        outside = {case_id for ids in outside_cases(plan, tests).values() for case_id in ids}
        earlier = earlier_configurations(home, warm_start, tracking_uri or default_uri(home), plan, outside)
        fitted = fit_in(space, earlier, asked.secondary)
        asked = replace(asked, warm_start_configurations=fitted.configurations)
        for line in fitted.lines:
            err.print(line, highlight=False)

    def carry_out(one: Study) -> StudyTrial | None:
        work = FitJobRunner(home, cache or home / "cache", one.home.ledger, one.secondary.is_measured)
        with study_view() as (say, show):
            console = ConsoleSink(one.home, say=say, show=show)
            try:
                return run_study(
                    one, machine, work, [console, MlflowSink(one.home, tracking_uri), CsvSink(one.home)]
                )
            except KeyboardInterrupt:
                say(f"interrupted; the same command goes on from here (study {one.home.name})")
                raise

    if nested is not None:
        _carry_out_nested(asked, nested, machine, carry_out)
    champion = carry_out(asked)
    leaderboard(name, home=home)
    if champion is None and study_home.contenders():
        err.print(
            "the hours were over before the finalists were scored again, so no champion is named yet; the same "
            f"command goes on from here (study {name})",
            highlight=False,
        )
    elif champion is None and study_home.ranked():
        raise FitFailed(
            f"study {name}: no finished trial keeps its constraints; the table above says by how much"
        )
    elif champion is None:
        raise FitFailed(f"study {name}: no trial was finished; the errors are in the table above")


def _carry_out_nested(
    whole: Study, num_outer: int, machine: Machine, carry_out: Callable[[Study], StudyTrial | None]
) -> None:
    """Carry out the study of every outer fold, and keep what their champions are worth on these folds."""
    from orchestrator.selection.nested import outer_estimate, remember_nested
    from orchestrator.study.checks import check
    from orchestrator.study.run import begin, inner_studies

    inner = inner_studies(whole, num_outer)
    for study in (whole, *inner):
        check(study, machine)
    for study in (whole, *inner):  # all at once: the same words must mean the same studies
        begin(study)
    waiting = []
    for outer, study in enumerate(inner, start=1):
        held_out = len(study.plan.test)
        out.print(
            f"outer fold {outer} of {num_outer}: {study.home.name}, without {held_out} cases", highlight=False
        )
        if carry_out(study) is None:
            if not study.home.contenders():
                raise FitFailed(
                    f"study {study.home.name}: no trial can be its champion; `leaderboard` says why"
                )
            waiting.append(study.home.name)
    homes = [study.home for study in inner]
    if waiting:
        err.print(
            f"no nested estimate yet: {', '.join(waiting)} named no champion in its hours; "
            "the same command goes on from here",
            highlight=False,
        )
    else:
        remember_nested(whole.home, outer_estimate(whole.home, homes, str(whole.budget)))


def _begun_without_near_duplicates(home: Path, name: str, plan: SplitPlan) -> str | None:
    """The study that the same command meant before twins were looked for, and whose name says so, if there is one."""
    from orchestrator.search.store.study_store import StudyStore

    before = name.replace(plan.name, replace(plan, near_duplicates=None).name)
    is_new = before != name and not StudyStore(home, name).exists()
    return before if is_new and StudyStore(home, before).exists() else None


def device_here(device: str) -> str:
    import torch

    from orchestrator.common.errors import BadMachine

    if device == "cuda" and not torch.cuda.is_available():
        raise BadMachine("--device", "cuda needs a GPU that torch can use, found none; use --device cpu")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
