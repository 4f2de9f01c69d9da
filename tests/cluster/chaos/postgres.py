"""A PostgreSQL server of our own, which can be stopped, killed and started."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from chaos.gate import free_port

BINARIES = "/usr/lib/postgresql"


@dataclass(frozen=True)
class Postgres:
    """A server whose data lie in a folder."""

    folder: Path
    port: int
    binaries: Path

    @property
    def url(self) -> str:
        return f"postgresql://chaos@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        self.run(
            "pg_ctl",
            "-D",
            str(self.folder / "data"),
            "-w",
            "-l",
            str(self.folder / "log"),
            "-o",
            options,
            "start",
        )

    def stop(self, mode: str = "immediate") -> None:
        """Immediate: as if the power failed."""
        self.control("-m", mode, "stop")

    def control(self, *words: str) -> None:
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-w", *words)

    def run(self, program: str, *words: str) -> None:
        """As a user who is not root: PostgreSQL refuses that one."""
        before = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        subprocess.run(
            [*before, str(self.binaries / program), *words],
            check=True,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )


def find_binaries() -> Path:
    """The folder of `initdb` and `pg_ctl`. Raises `RuntimeError` where there is none."""
    if (found := shutil.which("pg_ctl")) is not None:
        return Path(found).resolve().parent
    folders = sorted(Path(BINARIES).glob("*/bin/pg_ctl"))
    if not folders:
        raise RuntimeError("needs PostgreSQL (apt-get install postgresql)")
    return folders[-1].parent


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server with an empty database."""
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    server = Postgres(folder, free_port(), find_binaries())
    if os.getuid() == 0:
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
    try:
        server.run("initdb", "-D", str(folder / "data"), "-U", "chaos", "-A", "trust", "--no-sync")
        server.start()
        yield server
    finally:
        with suppress(subprocess.CalledProcessError):  # it is stopped already
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
