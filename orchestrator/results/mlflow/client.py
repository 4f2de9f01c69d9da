"""The client of MLflow: made for an explicit URI, without global state, quiet, and without sending usage data."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from orchestrator.common.errors import BadMachine
from orchestrator.common.private_api import private
from orchestrator.common.redaction import without_secrets

if TYPE_CHECKING:
    from mlflow import MlflowClient

# A request that every user may make, and seconds after which its answer is given up.
ANY_REQUEST, REQUEST_S = "/api/2.0/mlflow/experiments/search?max_results=1", 20
# Answers of MLflow that will be the same next time. Everything else means that the server is away.
FINAL_ANSWERS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")
SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two lines a run
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # would break into ours
}
# Loggers that announce every table that is made and every step of a registration.
CHATTY = ("alembic", "mlflow.pyfunc", "mlflow.store.model_registry.abstract_store")
# A logger that prints the traceback of every error that is raised as well.
TWICE = "mlflow.store.db.utils"
# Warnings of MLflow 3.17 about its own code.
NOISE = (
    "The ``noload`` loader strategy",  # its queries, on SQLAlchemy 2.1
    ".*Any type hint is inferred as AnyType",  # its own classes, on import of mlflow.pyfunc
)


def default_uri(home: Path) -> str:
    """URI of the MLflow database of a home, for use where no server is named."""
    return f"sqlite:///{home / 'mlflow.db'}"


def check_uri(uri: str) -> None:
    """Raises `BadMachine` for a URI that MLflow would refuse later: a folder is no tracking store since MLflow 3.13."""
    scheme = uri.split(":")[0].split("+")[0]
    if scheme not in SCHEMES:
        raise BadMachine(
            "MLFLOW_TRACKING_URI",
            f"expected a server (http://host:5000) or a database (sqlite:////path/mlflow.db), found {uri!r}",
        )
    try:
        urlsplit(uri)
    except ValueError as error:  # such as brackets around what is no IPv6 address
        raise BadMachine("MLFLOW_TRACKING_URI", f"expected a URL, found {uri!r}: {error}") from None


def connect(uri: str) -> MlflowClient:
    """MLflow client of a server or database; in a new SQLite file it makes the tables, taking seconds."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for logger in CHATTY:
        logging.getLogger(logger).setLevel(logging.WARNING)
    logging.getLogger(TWICE).setLevel(logging.CRITICAL)
    for message in NOISE:
        warnings.filterwarnings("ignore", message=message)
    from mlflow import MlflowClient  # slow to import

    return MlflowClient(with_credentials_apart(uri))


def refuse_locked_out(uri: str) -> None:
    """Raise `BadMachine` if the server rejects these credentials (401, 403); silence is no mistake."""
    if urlsplit(uri).scheme not in ("http", "https"):
        return
    from mlflow.exceptions import MlflowException
    from mlflow.utils.rest_utils import http_request

    credentials = private("get_default_host_creds")(with_credentials_apart(uri))
    try:
        answer = http_request(
            credentials, ANY_REQUEST, "GET", max_retries=0, timeout=REQUEST_S, raise_on_status=False
        )
    except (MlflowException, OSError):
        return
    if answer.status_code in (401, 403):
        user = os.environ.get("MLFLOW_TRACKING_USERNAME")
        who = f"user {user} with the password that is set" if user else "anybody without a user and password"
        raise BadMachine(
            "MLFLOW_TRACKING_URI",
            f"the MLflow server {without_secrets(uri)} denies access to {who} ({answer.status_code}); set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
        )


def is_refusal(error: Exception) -> bool:
    """Whether MLflow itself rejected a call for good; a bare 400 is a proxy's, as MLflow answers in JSON."""
    from mlflow.exceptions import RestException

    code = getattr(error, "error_code", None)
    return code in FINAL_ANSWERS and (code != "BAD_REQUEST" or isinstance(error, RestException))


def with_credentials_apart(uri: str) -> str:
    """A URL without its user and password, which are put into the environment variables that MLflow reads.

    `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD` stay as they are where they are set already.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not (parts.username and parts.password):
        return uri
    os.environ.setdefault("MLFLOW_TRACKING_USERNAME", unquote(parts.username))
    os.environ.setdefault("MLFLOW_TRACKING_PASSWORD", unquote(parts.password))
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
