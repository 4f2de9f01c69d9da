"""How we reach MLflow: an explicit client, no global state, no chatter, no usage data sent to anybody."""

from __future__ import annotations

import logging
import os
import warnings
from typing import TYPE_CHECKING

from orchestrator.errors import BadMachine

if TYPE_CHECKING:
    from mlflow import MlflowClient

SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")


def check_uri(uri: str) -> None:
    """Refuse what MLflow would refuse later: folders have been no tracking stores since MLflow 3.13."""
    scheme = uri.split(":")[0].split("+")[0]
    if scheme not in SCHEMES:
        raise BadMachine(
            "MLFLOW_TRACKING_URI",
            f"expected a server (http://host:5000) or a database (sqlite:////path/mlflow.db), found {uri!r}",
        )


def connect(uri: str) -> MlflowClient:
    """Open a client; a new SQLite file gets its tables, which takes seconds."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for chatty in ("alembic", "mlflow.store.db.utils"):  # they announce every table they create
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # MLflow 3.17 on SQLAlchemy 2.1; nothing that we could mend.
    warnings.filterwarnings("ignore", message="The ``noload`` loader strategy", category=DeprecationWarning)
    from mlflow import MlflowClient  # slow to import: only who writes or reads runs should pay

    return MlflowClient(uri)
