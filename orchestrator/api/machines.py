"""Whether a search would work on this machine, on every node of a cluster, and with its data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.api.home import PathLike, as_names, cache_folder, home_folder
from orchestrator.common.errors import python_errors

if TYPE_CHECKING:
    from orchestrator.common.display import Display
    from orchestrator.doctor.checks.findings import Finding
    from orchestrator.search.choices import DeviceName


@python_errors()
def check_machine(
    *,
    address: str = "auto",
    data: str | Sequence[str] = (),
    space: PathLike | None = None,
    storage: str | None = None,
    interface: str = "",
    device: DeviceName = "auto",
    home: PathLike | None = None,
    cache: PathLike | None = None,
    tracking_uri: str | None = None,
    found: list[Finding] | None = None,
    display: Display | None = None,
) -> list[Finding]:
    """Check whether a search would work here, on every node of the cluster; nothing is changed.

    Packages, code, GPUs, driver, memory, disks, home, locks, clocks, ports, token, MLflow, database and
    datasets; a small all-reduce among all nodes and a training step on each. Every finding has a `severity`
    ("ok", "warning", "failure"), what was `found`, and a `remedy` if it is not ok. `data`: datasets that must
    be identical on every node. `space`: search space, of whose baseline a step is timed. `storage`: a
    database of trials, as for a study. `interface`: network interface of the all-reduce. `found`: list to
    which findings are added as they come. Takes minutes.

    >>> import orchestrator as po
    >>> findings = po.check_machine(address="local", device="cpu")  # doctest: +SKIP
    >>> [one.check for one in findings if one.severity == "failure"]  # doctest: +SKIP
    []
    """
    from orchestrator.common.display import Display
    from orchestrator.doctor.examination import Scope, examine
    from orchestrator.results.mlflow.client import check_uri, with_credentials_apart

    folder, shown = home_folder(home), display or Display()
    if tracking_uri is not None:
        check_uri(tracking_uri)
        tracking_uri = with_credentials_apart(tracking_uri)
    scope = Scope(
        home=folder,
        cache=cache_folder(cache, folder),
        address=address,
        device=device,
        data=as_names(data),
        storage=storage,
        tracking_uri=tracking_uri,
        interface=interface,
        **({"space": _space_text(Path(space))} if space is not None else {}),
    )
    findings: list[Finding] = [] if found is None else found
    examine(scope, findings, lambda stage: shown.note(f"checking {stage}"))
    return findings


def _space_text(file: Path) -> str:
    """Text of a search-space file. `BadSpace` for the user's own networks, whose file other nodes lack."""
    from orchestrator.common.errors import BadSpace
    from orchestrator.common.network_files import is_pinned
    from orchestrator.search.space.space_file import load_space

    space = load_space(file)
    if any(map(is_pinned, space.networks)):
        problem = (
            "doctor times networks that come with the program; give a space without module:function, or none"
        )
        raise BadSpace(space.where, problem)
    return space.text
