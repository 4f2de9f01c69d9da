"""A real MLflow server that wants a password."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.common.hosts import why_silent
from orchestrator.doctor.checks import tracking_server

pytestmark = pytest.mark.slow
USER, PASSWORD = "admin", "a-long-password"


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    pytest.importorskip("flask_wtf", reason="needs mlflow[auth]")
    folder = tmp_path_factory.mktemp("mlflow")
    config = folder / "auth.ini"
    config.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/auth.db\n"
        f"admin_username = {USER}\nadmin_password = {PASSWORD}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [
        "server",
        "--app-name",
        "basic-auth",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    words += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    own = {"MLFLOW_AUTH_CONFIG_PATH": str(config), "MLFLOW_FLASK_SERVER_SECRET_KEY": "key"}
    own["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # eight processes that nobody needs
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words], cwd=folder, env=os.environ | own, stdout=log, stderr=log
        )
        try:
            _wait_for(f"127.0.0.1:{port}", process, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)


def _wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 240
    while why_silent(address) is not None:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.5)


@pytest.mark.parametrize(
    ("user", "password", "severity", "words"),
    [
        (None, None, "failure", "rejects us (401): without a user"),
        (USER, "guessed", "failure", f"rejects us (401): user {USER}, or the password is wrong"),
        (USER, PASSWORD, "ok", "answers and accepts us"),
    ],
)
def test_who_is_let_in_is_reported(server, monkeypatch, user, password, severity, words):
    for name, value in (("MLFLOW_TRACKING_USERNAME", user), ("MLFLOW_TRACKING_PASSWORD", password)):
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    ((found, told, _),) = tracking_server.reachable(server)
    assert found == severity and words in told
