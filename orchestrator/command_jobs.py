"""Commands as jobs on a cluster, and files that start one: what reads words as the command line does.

It stands above the commands, which it asks how their words are read; all other functions stand below them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.common.errors import python_errors

if TYPE_CHECKING:
    from orchestrator.launch.submit import Job, JobRow


@python_errors()
def submit(
    *words: str, address: str = "auto", env: Mapping[str, str] | None = None, python: str = "python"
) -> Job:
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
    orchestrator.common.errors.BadMachine: words: no command for a job is named 'serch'; known: ...
    """
    import typer

    from orchestrator.cli import app
    from orchestrator.cli.submit import parsed, start_job
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
def jobs(address: str = "auto") -> list[JobRow]:
    """Our jobs on a cluster, the newest first: id, study, state, since when, until when, exit code, command.

    Raises `BadMachine` where no cluster answers.

    >>> import orchestrator as po
    >>> [one.id for one in po.jobs("http://head:8265") if not one.is_over]  # doctest: +SKIP
    ['unet-kvasir-20261129-081500']
    """
    from orchestrator.launch.job_server import job_server
    from orchestrator.launch.submit import jobs as known

    return known(job_server(address))


@python_errors()
def job(id: str, address: str = "auto") -> Job:
    """One of our jobs: `follow(print)` gives its log, `wait()` its end, `stop()` ends it after its epochs.

    Raises `BadMachine` for an id that the cluster does not know.

    >>> import orchestrator as po
    >>> po.job("unet-kvasir-20261129-081500", "http://head:8265").stop()  # doctest: +SKIP
    <JobStatus.STOPPED: 'STOPPED'>
    """
    from orchestrator.launch.job_server import job_server
    from orchestrator.launch.submit import find

    return find(job_server(address), id)


@python_errors()
def cluster_file(kind: str, *, search: Sequence[str] = (), **fields: Any) -> str:
    """The text of a file that starts a cluster, or a search on one, as `orchestrator cluster render` prints it.

    `kind`: "slurm", "dgx2", "ray", "rayjob" and the others of that command. `search`: words after `orchestrator
    search`. `fields`: what is not to be as the command's defaults, such as `gpus=8`. Raises `BadMachine` with all
    mistakes.

    >>> import orchestrator as po
    >>> "#SBATCH --nodes=2" in po.cluster_file("slurm", nodes=2)
    True
    """
    from orchestrator.cli.cluster import refuse_search
    from orchestrator.common.errors import BadMachine, Mistakes
    from orchestrator.common.names import hint
    from orchestrator.launch.kinds import KINDS
    from orchestrator.launch.render import render

    if kind not in KINDS:
        raise BadMachine(kind, f"no file is named so; {hint(kind, KINDS)}known: {', '.join(KINDS)}")
    if unknown := sorted(fields.keys() - {*KINDS[kind].fields}):
        raise BadMachine(kind, f"has no {', '.join(unknown)}; known: {', '.join(KINDS[kind].fields)}")
    words, mistakes = tuple(search), Mistakes()
    with mistakes.noted():
        text = render(kind, fields | ({"search": words} if words else {}))
    with mistakes.noted():
        refuse_search(words)
    mistakes.raise_all()
    return text
