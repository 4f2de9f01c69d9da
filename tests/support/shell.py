"""The command line in processes of its own, as people start it; what is left of them is found by their environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SETTINGS = ("MLFLOW_", "RAY_", "ORCHESTRATOR_")  # of whoever runs the tests: not for what they start


@dataclass(frozen=True)
class Shell:
    """A home, a folder for Ray's sockets that is short enough for them, and commands that know of no other."""

    home: Path
    ray: Path

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
        own = {
            "ORCHESTRATOR_HOME": self.home,
            "RAY_TMPDIR": self.ray,
            "ORCHESTRATOR_CLAIMS": self.ray / "claims",
        }
        return inherited | {name: str(folder) for name, folder in own.items()}

    def run(self, *words: str | Path) -> str:
        """Run a command to its end and return what it printed; AssertionError with its stderr if it fails."""
        done = subprocess.run(
            command(*words), cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextmanager
    def running(self, *words: str | Path) -> Iterator[tuple[subprocess.Popen[str], Callable[[str], None]]]:
        """A command in the background, and a function that waits until it has printed something."""
        with (
            tempfile.NamedTemporaryFile("w+", suffix=".log") as log,
            subprocess.Popen(
                command(*words), cwd=ROOT, env=self.environment, stdout=log, stderr=log, text=True
            ) as process,
        ):

            def printed() -> str:
                return Path(log.name).read_text()

            def wait_for(words: str) -> None:
                wait_until(lambda: words in printed() or process.poll() is not None, printed)
                assert words in printed(), printed()

            try:
                yield process, wait_for
            finally:
                process.kill()

    def processes(self) -> list[int]:
        """Every process that was started by these commands, or by what they started."""
        mark = f"RAY_TMPDIR={self.ray}".encode()
        return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if mark in _read(path)]

    def close(self) -> None:
        """End what is still running."""
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.processes(), lambda: f"processes {self.processes()} are still there")


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "orchestrator", *map(str, words)]


def wait_until(happened: Callable[[], bool], what: Callable[[], str], patience_s: float = 300.0) -> None:
    """Wait for something. AssertionError with `what()` if it does not happen."""
    deadline = time.monotonic() + patience_s
    while not happened():
        assert time.monotonic() < deadline, f"nothing happened in {patience_s:.0f} s: {what()}"
        time.sleep(0.1)


def _read(path: Path) -> bytes:
    try:
        return b"\0" + path.read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # it ended, or is not ours
        return b""
