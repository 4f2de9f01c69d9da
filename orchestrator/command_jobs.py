"""Commands given as words, for a job or for a file that starts a cluster; parsed as on the command line.

These two functions import the commands, to parse the words; all other functions of the API are in layers
below them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.common.errors import python_errors

if TYPE_CHECKING:
    from orchestrator.launch.submit import ClusterJob


@python_errors()
def submit(
    *words: str, address: str = "auto", env: Mapping[str, str] | None = None, python: str = "python"
) -> ClusterJob:
    """Run a command of `orchestrator` as a job on a Ray cluster; the result can `follow`, `wait` and `stop` it.

    `words`: as on the command line. `address`: http://HOST:8265 of the dashboard, ray://HOST:10001, HOST:PORT of the
    head node, or "auto" for the Ray that was started on this machine. `env`: variables for the job and its workers, no
    secrets: a cluster shows them to everybody. `python`: on the cluster, with our packages. This package is uploaded,
    and so are local search spaces, split files and exported networks; all other paths are the cluster's. Raises one
    `UserError` with everything that is wrong, and `BadMachine` where the same search runs there.

    >>> import orchestrator as po
    >>> head = "http://head:8265"
    >>> job = po.submit("search", "unet", "--data", "kvasir", "--trials", "40", address=head)  # doctest: +SKIP
    >>> job.follow(lambda text: print(text, end=""))  # doctest: +SKIP
    0
    >>> po.submit("serch", "unet")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    orchestrator.common.errors.BadMachine: words: no command that can run as a job is named 'serch'; known: ...
    """
    import typer

    from orchestrator.api.jobs import start_job
    from orchestrator.cli import app
    from orchestrator.cli.submit import parsed
    from orchestrator.common.errors import BadMachine

    # Depending on its release, Typer has its own Click or uses the package; this class is in either.
    usage_error: type[Any] = typer.BadParameter.__bases__[0]
    command: Any = typer.main.get_command(app)
    try:
        context = parsed(command.context_class(command, info_name="orchestrator"), words)
    except usage_error as error:
        raise BadMachine("words", getattr(error, "message", str(error))) from None
    job, _ = start_job(context, address, dict(env or {}), python)
    return job


@python_errors()
def cluster_file(kind: str, *, search: Sequence[str] = (), **fields: Any) -> str:
    """The text of a file that starts a cluster, or a search on one, as `orchestrator cluster render` prints it.

    `kind`: "slurm", "dgx2", "ray", "rayjob" and the others of that command. `search`: words after
    `orchestrator search`. `fields`: values other than the command's defaults, such as `gpus=8`. Raises
    `BadMachine` with all mistakes.

    >>> import orchestrator as po
    >>> "#SBATCH --nodes=2" in po.cluster_file("slurm", nodes=2)
    True
    """
    from orchestrator.cli.cluster import cluster_text
    from orchestrator.common.errors import BadMachine
    from orchestrator.common.names import hint
    from orchestrator.launch.kinds import KINDS

    if kind not in KINDS:
        raise BadMachine(kind, f"there is no such file; {hint(kind, KINDS)}known: {', '.join(KINDS)}")
    if unknown := sorted(fields.keys() - {*KINDS[kind].fields}):
        raise BadMachine(kind, f"has no {', '.join(unknown)}; known: {', '.join(KINDS[kind].fields)}")
    return cluster_text(kind, fields | ({"search": tuple(search)} if search else {}))
