"""MLflow: its server answers, accepts us, and matches our client. Only the study's process uses it."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orchestrator.common.errors import BadMachine
from orchestrator.common.private_api import private
from orchestrator.common.redaction import without_secrets
from orchestrator.common.stored_json import Unreadable, parse
from orchestrator.doctor.checks.findings import Result, failure, ok, warning
from orchestrator.search.store.optuna_storage import reach

OLDEST = 3  # major version of a server that stores everything we write
PATIENCE_S = 5
CREDENTIALS = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
MEANWHILE = "until then a search stores its runs in HOME and writes them later"


def reachable(uri: str) -> Iterator[Result]:
    """Check a tracking URI, which has no password."""
    scheme = urlsplit(uri).scheme.split("+")[0]
    if scheme in ("http", "https"):
        yield from _server(uri)
    elif scheme == "sqlite":
        yield from _file(Path(uri.split("///", 1)[-1].split("?")[0]))
    elif scheme in ("postgresql", "mysql", "mssql"):
        yield from _database(uri)
    else:
        yield ok(f"{uri} is not checked")


def _server(uri: str) -> Iterator[Result]:
    import requests
    from mlflow.exceptions import MlflowException
    from mlflow.utils.rest_utils import http_request

    def get(endpoint: str) -> requests.Response:
        credentials = private("get_default_host_creds")(uri)
        result: requests.Response = http_request(
            credentials, endpoint, "GET", max_retries=0, timeout=PATIENCE_S, raise_on_status=False
        )
        return result

    where = f"the MLflow server {without_secrets(uri)}"
    try:
        version, answer = get("/version"), get("/api/2.0/mlflow/experiments/get?experiment_id=0")
    except (MlflowException, requests.RequestException, OSError) as error:
        yield failure(
            f"{where} does not answer: {_cause(error)}",
            f"start it, or correct MLFLOW_TRACKING_URI; {MEANWHILE}",
        )
        return
    if answer.status_code in (401, 403):
        user = os.environ.get("MLFLOW_TRACKING_USERNAME")
        as_whom = f"user {user}, or the password is wrong" if user else "without a user"
        yield failure(f"{where} rejects us ({answer.status_code}): {as_whom}", CREDENTIALS)
        return
    if version.status_code != 200 or not re.fullmatch(r"\d+\.\d+\S*", version.text.strip()):
        yield failure(
            f"the server at {without_secrets(uri)} is not an MLflow server ({version.status_code})",
            "correct MLFLOW_TRACKING_URI; behind a proxy it needs the path that the proxy gives to MLflow",
        )
        return
    yield from _version(where, version.text.strip())
    if answer.status_code >= 500 or (
        answer.status_code == 404 and b"RESOURCE_DOES_NOT_EXIST" not in answer.content
    ):
        yield failure(
            f"{where} answers {answer.status_code}: {answer.text[:200]}", f"check its log; {MEANWHILE}"
        )
    elif answer.status_code == 200:
        yield from _artifacts(where, _location(answer.text))


def _version(where: str, server: str) -> Iterator[Result]:
    client = metadata.version("mlflow")
    major, own = int(server.split(".")[0]), int(client.split(".")[0])
    if major < OLDEST or major != own:
        yield failure(
            f"{where} is of version {server}, our client of {client}",
            f"run a server of MLflow {own}, such as {client}",
        )
    elif _number(server) < _number(client):
        yield warning(
            f"{where} is of version {server}, older than our client's {client}",
            f"`pip install mlflow=={client}` for the server, then run `mlflow db upgrade` on its database",
        )
    else:
        yield ok(f"{where} answers and accepts us: version {server}, our client {client}")


def _location(answer: str) -> str:
    """The artifact location of MLflow's first experiment; empty if the answer is of another program."""
    try:
        return str(parse(answer, dict[str, dict[str, Any]])["experiment"]["artifact_location"])
    except (Unreadable, KeyError):
        return ""


def _artifacts(where: str, location: str) -> Iterator[Result]:
    if location.startswith(("/", "file:", ".")):
        yield warning(
            f"{where} sends images and models to the path {location} on its own machine",
            "start it with --artifacts-destination, so that it accepts uploads",
        )


def _file(path: Path) -> Iterator[Result]:
    if not path.exists():
        yield ok(f"no server is set: MLflow's database will be {path}")
        return
    try:
        with sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=PATIENCE_S) as database:
            database.execute("select count(*) from sqlite_master").fetchone()
    except sqlite3.Error as error:
        yield failure(
            f"MLflow's database {path} does not open: {error}", "restore a copy of it, or move it away"
        )
        return
    yield ok(f"no server is set: MLflow's database is {path}")


def _database(uri: str) -> Iterator[Result]:
    try:
        reach(uri)
    except BadMachine as error:
        yield failure(
            f"MLflow's database: {'; '.join(error.problems)}",
            f"start it, or correct MLFLOW_TRACKING_URI; {MEANWHILE}",
        )
        return
    yield ok(f"MLflow's database {without_secrets(uri)} answers and accepts us")


def _cause(error: BaseException) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    known = re.search(
        r"(Connection refused|Name or service not known|timed out|CERTIFICATE_VERIFY_FAILED|"
        r"No route to host|Network is unreachable|Temporary failure in name resolution)",
        str(error),
    )
    return known[1] if known else without_secrets(text[-300:])


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
