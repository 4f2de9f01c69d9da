"""cluster/mlflow-server.sh with PostgreSQL: who is let in, and what a search loses when the server stops (nothing)."""

from __future__ import annotations

import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from chaos.gate import free_port
from chaos.postgres import find_binaries, postgres
from outcome import runs_of
from shell import Shell, command, wait_until
from tiny_space import tiny_space

from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.launch.render import render, write
from orchestrator.search.store.study_store import StudyStore

pytestmark = pytest.mark.services
SPACE = tiny_space(epochs=4)


@dataclass(frozen=True)
class Server:
    """The rendered script, run."""

    script: Path
    folder: Path
    port: int

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self, word: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [shutil.which("bash"), self.script, word], capture_output=True, text=True, timeout=300
        )

    def asks(self, password: str, host: str = "127.0.0.1:") -> int:
        """The status of a call of MLflow's API."""
        url = f"{self.uri}/api/2.0/mlflow/experiments/search?max_results=1"
        headers = {"Host": host + str(self.port)}
        return requests.get(url, auth=("admin", password), headers=headers, timeout=60).status_code


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    try:
        find_binaries()
    except RuntimeError as missing:
        pytest.skip(str(missing))
    with tempfile.TemporaryDirectory(prefix="ml") as folder, postgres() as database:
        home, port = Path(folder, "a home"), free_port()
        values = {"home": str(home), "venv": sys.prefix, "database": database.url, "mlflow_port": port}
        write(Path(folder, "server.sh"), render("mlflow-server", values))
        made = Server(Path(folder, "server.sh"), home / "mlflow-server", port)
        started = made.run("start")
        try:
            assert started.returncode == 0, started.stderr
            yield made
        finally:
            made.run("stop")


@pytest.fixture(scope="module")
def password(server: Server) -> str:
    return server.run("password").stdout.strip()


def test_only_the_password_that_was_made_is_let_in(server: Server, password: str):
    assert [server.asks(one) for one in (password, "password1234", "")] == [200, 401, 401]
    assert server.asks(password, host="elsewhere.example:") == 403


def test_its_secrets_are_for_its_user_alone(server: Server):
    modes = {
        file.name: stat.S_IMODE(file.stat().st_mode) for file in server.folder.iterdir() if file.is_file()
    }
    assert {"admin_password", "key", "auth.ini"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_it_is_started_once_and_keeps_its_secrets(server: Server, password: str):
    assert "was started already" in server.run("start").stdout
    assert server.run("status").returncode == 0
    assert (server.run("stop").returncode, server.run("status").returncode) == (0, 1)
    assert server.run("start").returncode == 0
    assert server.asks(password) == 200


def test_stop_spares_a_process_that_only_has_the_number_of_the_server(server: Server, tmp_path: Path):
    script = tmp_path / "server.sh"
    script.write_text(server.script.read_text().replace(str(server.folder.parent), str(tmp_path)))
    (tmp_path / "mlflow-server").mkdir()
    with subprocess.Popen(["sleep", "300"], start_new_session=True) as other:
        host = subprocess.run(["hostname"], capture_output=True, text=True).stdout.strip()
        (tmp_path / "mlflow-server" / "running").write_text(f"{host} {other.pid} Mon Jan 1 00:00:00 2024\n")
        assert "does not run" in Server(script, tmp_path, 0).run("stop").stdout
        assert other.poll() is None
        other.kill()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """With homes "calm" and "stormy", which hold the same images."""
    with tempfile.TemporaryDirectory(prefix="mls", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "space.toml").write_text(SPACE)
        draw_dataset(folder / "frames", num_cases=24, size=32)
        for home in ("calm", "stormy"):
            add_dataset(folder / home, "drawn", folder / "frames", allow_empty=True)
        yield folder
        Shell(folder, folder).close()


def search_words(folder: Path) -> list[str | Path]:
    words = [
        "search",
        folder / "space.toml",
        "--data",
        "drawn",
        "--trials",
        "2",
        "--rescore",
        "0",
        "--lanes",
        "1",
    ]
    return [*words, "--no-near-duplicates", "--splits", "k-fold:2", "--address", "local", "--study", "one"]


def num_finished(study: StudyStore) -> int:
    return len(list(study.ledger.fits.glob("[!.]*/record.json")))


def test_a_wrong_password_is_one_sentence_before_anything_is_trained(server: Server, folder: Path):
    credentials = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "wrong"}
    refused = subprocess.run(
        command(*search_words(folder), "--tracking-uri", server.uri),
        env=Shell(folder / "stormy", folder).environment | credentials,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert refused.returncode == 2, refused.stderr
    assert "MLFLOW_TRACKING_PASSWORD" in refused.stderr
    assert not StudyStore(folder / "stormy", "one").exists()


def test_a_server_that_stops_and_starts_under_a_search_misses_nothing(
    server: Server, password: str, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    calm, stormy = (Shell(folder / name, folder) for name in ("calm", "stormy"))
    calm.run(*search_words(folder))
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    credentials = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": password}
    study = StudyStore(stormy.home, "one")
    with (
        (folder / "log").open("w+") as log,
        subprocess.Popen(
            command(*search_words(folder), "--tracking-uri", server.uri),
            env=stormy.environment | credentials,
            stdout=log,
            stderr=log,
        ) as search,
    ):
        wait_until(lambda: num_finished(study) >= 1 or search.poll() is not None, lambda: "no fit")
        assert server.run("stop").returncode == 0
        wait_until(lambda: num_finished(study) >= 3 or search.poll() is not None, lambda: "no third fit")
        search.send_signal(
            signal.SIGSTOP
        )  # so that it cannot end before the server is back, however slow that is
        assert server.run("start").returncode == 0
        search.send_signal(signal.SIGCONT)
        search.wait(timeout=600)
    printed = (folder / "log").read_text()
    assert search.returncode == 0, printed
    assert "is away; nothing is lost" in printed
    assert runs_of(study, server.uri) == runs_of(StudyStore(calm.home, "one"))
