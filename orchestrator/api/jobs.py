"""Jobs on a cluster: made from a parsed command, listed, followed and stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.common.errors import BadMachine, Mistakes, python_errors

if TYPE_CHECKING:
    import typer

    from orchestrator.launch.job_server import JobServer
    from orchestrator.launch.submit import ClusterJob, JobRow, Submission

# Arguments and options whose local files and folders are uploaded; all other paths are the cluster's.
CARRIED = ("file", "splits", "groups", "bundle")
# Parameters that identify a study without a name.
OF_A_STUDY = ("data", "unseen", "splits", "holdout", "seed", "near_duplicates")


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
def job(id: str, address: str = "auto") -> ClusterJob:
    """One of our jobs: `follow(print)` shows its log, `wait()` its end, `stop()` ends it after its epochs.

    Raises `BadMachine` for an id that the cluster does not know.

    >>> import orchestrator as po
    >>> po.job("unet-kvasir-20261129-081500", "http://head:8265").stop()  # doctest: +SKIP
    <JobStatus.STOPPED: 'STOPPED'>
    """
    from orchestrator.launch.job_server import job_server
    from orchestrator.launch.submit import find

    return find(job_server(address), id)


def start_job(
    context: typer.Context, address: str, env: Mapping[str, str], python: str
) -> tuple[ClusterJob, tuple[str, ...]]:
    """Start the job of a command; returns it with its words there. Raises all mistakes as one error."""
    from orchestrator.launch.job_server import job_server
    from orchestrator.launch.submit import refuse_size, submit

    mistakes = Mistakes()
    with mistakes.noted():
        _check_space(context)
    with mistakes.noted():
        _check_budget(context)
    with mistakes.noted():
        _refuse_secret_variables(env)
    with mistakes.noted():
        submission = submission_of(context, address, env, python)
        refuse_size(submission.files)
    with mistakes.noted():
        server: JobServer = job_server(address)
    mistakes.raise_all()
    return submit(server, submission), submission.words


def _check_space(context: typer.Context) -> None:
    """Report mistakes of a search-space file before anything is uploaded."""
    file = context.params.get("file")
    if isinstance(file, Path):
        from orchestrator.search.space.builds import check_builds
        from orchestrator.search.space.space_file import load_space

        check_builds(load_space(file))


def _check_budget(context: typer.Context) -> None:
    """Raise `BadStudy` if a search has no limit, or an impossible one."""
    if context.info_name == "search":
        from orchestrator.search.budget.limits import Budget

        Budget.of_options(context.params)


def submission_of(context: typer.Context, address: str, env: Mapping[str, str], python: str) -> Submission:
    """Submission of a command as a job. Raises `BadMachine` if it shows a password or token to everybody."""
    from orchestrator.launch.submit import Submission

    name = context.info_name or ""
    files: dict[str, Path] = {}
    words = name.split()
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if source is None or source.name == "DEFAULT":
            continue  # defaults are evaluated on the cluster
        value = context.params[option.name or ""]
        if option.name == "address":
            _refuse_other(value, address)
            continue
        if isinstance(value, bool):
            words.append(option.opts[0] if value else option.secondary_opts[0])
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            word = _carry(files, one) if option.name in CARRIED else _there(one)
            words += [word] if option.param_type_name == "argument" else [option.opts[0], word]
    _refuse_secrets(words)
    params = context.params
    return Submission(
        words=tuple(words),
        files=files,
        label=_label(name, params),
        identity=_identity(name, params),
        env=env,
        python=python,
    )


def _carry(files: dict[str, Path], value: Any) -> str:
    """Path within the job of a file or folder to upload, noted in `files`; `value` if it is not here."""
    from orchestrator.launch.submit import NAMED

    source = Path(value).expanduser()
    if not source.is_file() and not (source.is_dir() and isinstance(value, Path)):
        return _there(value)
    name = f"{NAMED}/{source.name}"
    if name in files:
        name = f"{NAMED}/{len(files)}/{source.name}"
    files[name] = source
    return name


def _there(value: Any) -> str:
    return str(value.expanduser().absolute() if isinstance(value, Path) else value)


def _refuse_other(inner: str, address: str) -> None:
    if inner not in ("auto", address):
        raise BadMachine(
            "--address",
            f"a job runs on the cluster to which it is submitted; remove --address {inner} after --",
        )


def _refuse_secrets(words: list[str]) -> None:
    from orchestrator.common.redaction import has_secret

    if secret := sorted({words[at - 1] for at, word in enumerate(words) if has_secret(word)}):
        raise BadMachine(
            ", ".join(secret),
            "contains a password or a token, which the cluster would show with the job; remove it there, and set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, where `ray start` is run",
        )


def _refuse_secret_variables(env: Mapping[str, str]) -> None:
    from orchestrator.common.redaction import has_secret, names_secret

    secret = [name for name, value in env.items() if names_secret(name) or has_secret(value)]
    shown = (
        "the cluster would show {} with the job, and it seems to be secret; set it where `ray start` is run"
    )
    if secret:
        raise BadMachine("--env", [shown.format(name) for name in secret])


def _label(name: str, params: dict[str, Any]) -> str:
    """Label of a job: its study, after the name of the command unless that is search."""
    file = params.get("file")
    of = params.get("study") or "-".join(
        [file.stem if isinstance(file, Path) else "", *(params.get("data") or [])]
    )
    return "-".join(
        part for part in ("" if name == "search" else name.replace(" ", "-"), str(of).strip("-")) if part
    )


def _identity(name: str, params: dict[str, Any]) -> str:
    """Key of a search's study, which cannot run twice, independent of its budget; \"\" for other commands."""
    if name != "search":
        return ""
    named = params["study"] or [params["file"].stem, *(params[key] for key in OF_A_STUDY)]
    return json.dumps([str(params["home"]), named])
