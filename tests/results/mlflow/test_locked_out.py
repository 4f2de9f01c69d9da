"""Whether an MLflow server lets us in is asked before a search begins."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from orchestrator.common.errors import BadMachine
from orchestrator.results.mlflow.client import refuse_locked_out


@contextmanager
def answering(status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_does_not_let_us_in_is_a_mistake_that_names_no_password(
    status: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "sam")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wr0ng")
    with answering(status) as uri, pytest.raises(BadMachine, match="user sam") as refused:
        refuse_locked_out(uri)
    assert "MLFLOW_TRACKING_PASSWORD" in str(refused.value) and "wr0ng" not in str(refused.value)


@pytest.mark.parametrize("status", [200, 500, 502])
def test_a_server_that_lets_us_in_or_is_ill_is_no_mistake(status: int):
    with answering(status) as uri:
        refuse_locked_out(uri)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:////nowhere/mlflow.db"])
def test_a_server_that_is_away_or_a_database_is_no_mistake(uri: str):
    refuse_locked_out(uri)
