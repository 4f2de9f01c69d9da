"""Studies of a home: found, compared, reported, written to MLflow, removed. Nothing here needs torch or Ray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.api.home import PathLike, as_names, home_folder
from orchestrator.common.errors import python_errors

if TYPE_CHECKING:
    from orchestrator.common.display import Display
    from orchestrator.results.report.files import Report
    from orchestrator.results.stored_study import StoredStudy
    from orchestrator.results.synced import Synced
    from orchestrator.selection.comparison import Comparison


@python_errors()
def studies(home: PathLike | None = None) -> dict[str, StoredStudy]:
    """Name -> study, of all studies of this home.

    >>> import orchestrator as po
    >>> po.studies()["demo"].status().state
    'ended'
    """
    from orchestrator.results.stored_study import StoredStudy
    from orchestrator.search.store.study_store import list_studies

    return {one.name: StoredStudy(one) for one in list_studies(home_folder(home))}


@python_errors()
def load_study(name: str | None = None, *, home: PathLike | None = None) -> StoredStudy:
    """A study of this home, None for the one that was worked on last. Raises `BadStudy` if there is none."""
    from orchestrator.results.stored_study import StoredStudy
    from orchestrator.search.store.study_store import find_study

    return StoredStudy(find_study(home_folder(home), name))


@python_errors(out="page")
def report(
    *studies: str | StoredStudy,
    page: PathLike = "report.html",
    checklists: str | Sequence[str] = (),
    home: PathLike | None = None,
    display: Display | None = None,
) -> Report:
    """Write one page on several studies, by name or as `load_study` gives them; all are compared with the first.

    None: the study that was worked on last. `checklists`: "claim", "tripod" or "midl", filled, in Markdown
    files next to the page. Unreadable files of a study are noted in `display`. Raises one `UserError` with
    everything that is wrong.

    >>> import orchestrator as po
    >>> made = po.report("demo", page="demo.html")
    >>> made.text("methods")[:22]
    'We trained unet on dra'
    """
    from orchestrator.common.display import Display
    from orchestrator.common.errors import BadStudy, Mistakes
    from orchestrator.results.report.checklists.filled import checklist_name
    from orchestrator.results.report.files import refuse_foreign, write_report
    from orchestrator.search.store.damage import damage

    mistakes, found, lists, shown = Mistakes(), [], [], display or Display()
    names = [one if isinstance(one, str) else one.name for one in studies]
    target = Path(page).expanduser().absolute()
    for one in dict.fromkeys(studies) or [None]:
        with mistakes.noted():
            known = load_study(one, home=home) if one is None or isinstance(one, str) else one
            found.append(known.store.snapshot())
    if len(set(names)) < len(names):
        with mistakes.noted():
            raise BadStudy("report", f"expected each study once, found {', '.join(names)}")
    for name in dict.fromkeys(as_names(checklists)):
        with mistakes.noted():
            lists.append(checklist_name(name))
    with mistakes.noted():
        refuse_foreign(target)
    mistakes.raise_all()
    for snapshot in found:
        for line in damage(snapshot):
            shown.note(line)
    return write_report(found, target, lists)


@python_errors()
def compare(
    *systems: str, metric: str = "dice", home: PathLike | None = None, display: Display | None = None
) -> list[Comparison]:
    """How much better each of several systems is than the first, paired image by image, and how sure that is.

    `systems`: names of studies of this home, or "STUDY:TRIAL"; unreadable files of a study are noted in
    `display`. Raises one `UserError` with every study, trial or metric that is not known.

    >>> import orchestrator as po
    >>> po.compare("demo", "demo:7")
    Traceback (most recent call last):
    orchestrator.common.errors.BadStudy: demo: has no trial '7'; known: 0
    """
    from orchestrator.common.display import Display
    from orchestrator.common.errors import Mistakes
    from orchestrator.results.stored_study import known_metric
    from orchestrator.search.store.damage import damage
    from orchestrator.selection import comparison

    mistakes, snapshots, compared, shown = Mistakes(), {}, [], display or Display()
    parts = [system.partition(":") for system in systems]
    with mistakes.noted():
        metric = known_metric(metric)
    for name in dict.fromkeys(name for name, _, _ in parts):
        with mistakes.noted():
            snapshots[name] = load_study(name, home=home).store.snapshot()
            for line in damage(snapshots[name]):
                shown.note(line)
    mistakes.raise_all()
    for name, _, number in parts:
        with mistakes.noted():
            compared.append(comparison.compared_system(snapshots[name], number, metric))
    mistakes.raise_all()
    return comparison.compare(compared)


@python_errors()
def sync(
    study: str | None = None, *, home: PathLike | None = None, tracking_uri: str | None = None
) -> Synced:
    """Write those results of a study that MLflow or the CSV files lack, from its records; nothing twice.

    `study`: None for the one that was worked on last. `tracking_uri`: None for MLflow's database in this home.
    Raises `BadMachine` where the server does not answer.

    >>> import orchestrator as po
    >>> po.sync("demo").num_trials
    1
    """
    from orchestrator.results.synced import synced
    from orchestrator.search.store.study_store import find_study

    return synced(find_study(home_folder(home), study), tracking_uri)


@python_errors()
def remove_study(name: str, *, home: PathLike | None = None) -> None:
    """Delete a study: records, weights and scores of all its trials. Its runs in MLflow and exports of it stay.

    Raises `BadStudy` while a process works on it.

    >>> import orchestrator as po
    >>> po.remove_study("demmo")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    orchestrator.common.errors.BadStudy: ...
    """
    from orchestrator.search.store.study_store import find_study
    from orchestrator.study.housekeeping import remove_study as delete

    delete(find_study(home_folder(home), name))
