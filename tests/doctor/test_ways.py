"""What lies between nodes, and between a study and its servers: ports, tokens, clocks, MLflow, databases."""

from __future__ import annotations

import http.server
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from orchestrator.doctor.checks import clock, database, network, token, tracking_server
from orchestrator.doctor.checks.clock import Skew


def severities(results) -> list[str]:
    return [severity for severity, _, _ in results]


def told(results) -> str:
    return "\n".join(f"{found} -> {remedy}" for _, found, remedy in results)


@contextmanager
def listening(host: str) -> Iterator[int]:
    with socket.create_server((host, 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    """A web server that says this to everybody."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_peers_that_answer_and_one_that_does_not(tmp_path):
    with listening("127.0.0.1") as port:
        assert severities(network.reachable({"n2": ("127.0.0.1", port)})) == ["ok"]
    results = [*network.reachable({"n2": ("127.0.0.1", port)})]
    assert severities(results) == [
        "failure"
    ] and f"cannot reach n2 at 127.0.0.1:{port}: Connection refused" in told(results)


@pytest.mark.parametrize(
    ("host", "has_token", "severity"),
    [("0.0.0.0", False, "warning"), ("0.0.0.0", True, "ok"), ("127.0.0.1", False, "ok")],
)
def test_a_port_that_is_open_to_all_wants_a_token(host: str, has_token: bool, severity: str):
    with listening(host) as port:
        assert host in network.listening()[port]
        assert severities(network.exposed({"raylet": port}, has_token)) == [severity]


def test_ports_of_version_6_are_read_as_the_kernel_writes_them(tmp_path):
    (tmp_path / "tcp6").write_text(
        "sl local\n0: 00000000000000000000000000000000:1F90 0:0 0A x\n"
        "1: B80D0120000000000000000001000000:1F91 0:0 0A x\n"
    )
    assert network.listening(tmp_path) == {8080: {"::"}, 8081: {"2001:db8::1"}}


def test_the_interface_of_an_address_is_found():
    assert network.interface_of("127.0.0.1") == "lo" and network.interface_of("192.0.2.1") is None


@pytest.mark.parametrize(
    ("mode", "content", "bits", "severity", "words"),
    [
        ("token", "t", 0o600, "ok", "readable only by its owner"),
        ("token", "t", 0o644, "warning", "chmod 600"),
        ("token", "", 0o600, "failure", "is empty"),
        ("token", None, 0, "failure", "is missing"),
        ("tokne", "t", 0o600, "failure", "RAY_AUTH_MODE is tokne"),
        ("", None, 0, "warning", "without a token"),
    ],
)
def test_the_token_of_a_cluster(monkeypatch, mode, content, bits, severity, words, tmp_path):
    file = tmp_path / "auth_token"
    if content is not None:
        file.write_text(content)
        file.chmod(bits)
    monkeypatch.setattr(token, "_passes", lambda folder, bit: True)
    results = [*token.sound(False, 2, {"RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN_PATH": str(file)})]
    assert severities(results) == [severity] and words in told(results)


def test_a_token_behind_a_closed_door_is_read_by_nobody(tmp_path):
    file = tmp_path / "private" / "auth_token"
    file.parent.mkdir(mode=0o700)
    file.write_text("t")
    file.chmod(0o644)
    assert severities(
        token.sound(False, 2, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(file)})
    ) == ["ok"]


@pytest.mark.parametrize("environment", [{}, {"RAY_AUTH_MODE": "token"}, {"RAY_AUTH_MODE": "disabled"}])
def test_a_ray_of_our_own_needs_no_token_before(tmp_path, environment: dict[str, str]):
    asked = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "missing"), **environment}
    assert severities(token.sound(True, 1, asked)) == ["ok"]


def test_of_several_answers_the_soonest_tells_the_skew_and_its_bound():
    moments = iter([0.0, 4.0, 10.0, 10.2])
    answers = iter([103.0, 110.1])
    skew = clock.measure(lambda: next(answers), lambda: next(moments), times=2)
    assert skew.seconds == pytest.approx(100.0) and skew.bound_s == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("skew", "severity"),
    [(Skew(0.3, 0.01), "ok"), (Skew(-5, 0.1), "warning"), (Skew(5, 4), "ok"), (Skew(-90, 1), "failure")],
)
def test_a_clock_is_judged_by_what_is_sure(skew: Skew, severity: str):
    ((found, _, _),) = clock.judge(skew)
    assert found == severity


def test_an_mlflow_server_that_is_away_is_a_failure_that_says_so():
    with listening("127.0.0.1") as port:
        pass
    results = [*tracking_server.reachable(f"http://127.0.0.1:{port}")]
    assert severities(results) == ["failure"] and "does not answer: Connection refused" in told(results)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, "no", "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        (200, "<html>hello", "is not an MLflow server"),
        (404, "not found", "is not an MLflow server (404)"),
        (200, "2.9.1", "is of version 2.9.1"),
        (503, "busy", "is not an MLflow server (503)"),
    ],
)
def test_what_is_wrong_with_a_server_is_reported(monkeypatch, status: int, body: str, words: str):
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    with answering(status, body) as uri:
        results = [*tracking_server.reachable(uri)]
    assert "failure" in severities(results) and words in told(results)


def test_mlflows_own_file_is_opened(tmp_path):
    assert "will be" in told(tracking_server.reachable(f"sqlite:///{tmp_path}/mlflow.db"))
    with sqlite3.connect(tmp_path / "mlflow.db") as made:
        made.execute("create table a (b)")
    made.close()
    assert severities(tracking_server.reachable(f"sqlite:///{tmp_path}/mlflow.db")) == ["ok"]
    (tmp_path / "mlflow.db").write_text("no database" * 100)
    assert severities(tracking_server.reachable(f"sqlite:///{tmp_path}/mlflow.db")) == ["failure"]


def test_a_database_is_entered(tmp_path):
    assert severities(database.answers(f"sqlite:///{tmp_path}/trials.db")) == ["ok"]
    results = [*database.answers("postgresql://nobody@127.0.0.1:9/none")]
    assert severities(results) == ["failure"] and "connection refused" in told(results).lower()
    assert "expected one of postgresql" in told(database.answers("oracle://a@b/c"))
