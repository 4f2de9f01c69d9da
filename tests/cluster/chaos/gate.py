"""A real MLflow server behind a gate that can be shut in several ways."""

from __future__ import annotations

import base64
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

from shell import wait_until

from chaos.nodes import kill

State = Literal["open", "hanging", "500", "html", "cut"]  # cut: requests are carried out, answers are not
USER, PASSWORD = "sam", "s3cret"
HOP = {"connection", "transfer-encoding", "content-length", "host"}


class Gate:
    """Passes requests on to a server, or does not, on a port that stays the same."""

    def __init__(self, server_port: int) -> None:
        self.server_port, self.port = server_port, free_port()
        self.state: State = "open"
        self.wants_password = False
        self.num_refused = 0
        self.listener: ThreadingHTTPServer | None = None
        self.come_back()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def turn(self, state: State) -> None:
        self.state = state

    def come_back(self) -> None:
        gate = self

        class Handler(_Handler):
            of = gate

        ThreadingHTTPServer.allow_reuse_address = True
        self.listener = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.listener.daemon_threads = True
        threading.Thread(target=self.listener.serve_forever, daemon=True).start()

    def go_down(self) -> None:
        """Nobody listens any more."""
        assert self.listener is not None
        self.listener.shutdown()
        self.listener.server_close()
        self.listener = None

    def close(self) -> None:
        self.state = "open"
        if self.listener is not None:
            self.go_down()


class _Handler(BaseHTTPRequestHandler):
    of: Gate

    def _answer(self) -> None:
        gate = self.of
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        while gate.state == "hanging":
            time.sleep(0.2)
        if gate.state in ("500", "html"):
            gate.num_refused += 1
            self._send(500 if gate.state == "500" else 200, b"<html>down for maintenance</html>", {})
            return
        token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if gate.wants_password and self.headers.get("Authorization") != f"Basic {token}":
            gate.num_refused += 1
            self._send(401, b"You are not authenticated.", {"WWW-Authenticate": 'Basic realm="mlflow"'})
            return
        server = http.client.HTTPConnection("127.0.0.1", gate.server_port, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
        server.request(self.command, self.path, body, headers)
        answer = server.getresponse()
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in HOP}
        content = answer.read()
        server.close()
        if gate.state == "cut":
            gate.num_refused += 1
            self.close_connection = True
            self.connection.close()
            return
        self._send(answer.status, content, kept)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        with suppress(ConnectionError):  # who asked waits no longer
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: it would be printed."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def mlflow_behind_gate(folder: Path) -> Iterator[Gate]:
    """An MLflow server with a file of its own, and the gate to it."""
    port = free_port()
    words = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    where = ["--backend-store-uri", f"sqlite:///{folder}/server.db"]
    artifacts = ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words, *where, *artifacts],
            env=os.environ
            | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # eight processes that nobody needs
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    gate = Gate(port)
    try:
        wait_until(lambda: _is_up(port), lambda: (folder / "server.log").read_text()[-2000:], 180)
        yield gate
    finally:
        gate.close()
        kill([server.pid, *_below(server.pid)])
        server.wait()


def _is_up(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _below(pid: int) -> list[int]:
    """The processes of the session that a server began."""
    told = subprocess.run(["ps", "-o", "pid=", "-s", str(pid)], capture_output=True, text=True).stdout
    return [int(word) for word in told.split()]
