"""A Ray that is started by hand, as on a cluster: a head node with ports, a token and a folder of its own."""

from __future__ import annotations

import json
import os
import random
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shell import ROOT, Shell, command, wait_until

BIN = Path(sys.executable).parent
FREE = "import json, ray; ray.init(logging_level='ERROR'); print(json.dumps(ray.available_resources()))"


class Cluster:
    """One head node that nobody else on this machine can mistake for theirs."""

    def __init__(self, shell: Shell, temp_dir: Path | None = None) -> None:
        self.temp_dir = temp_dir or shell.ray
        self.gcs, self.dashboard, self.client, *others = free_ports(6)
        self.shell = shell
        names = (
            "--ray-client-server-port",
            "--dashboard-agent-listen-port",
            "--dashboard-agent-grpc-port",
            "--metrics-export-port",
        )
        self.ports = dict(
            zip(
                ("--port", "--dashboard-port", *names),
                (self.gcs, self.dashboard, self.client, *others),
                strict=True,
            )
        )
        self.environment = shell.environment | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": shell.environment.get("RAY_AUTH_TOKEN", secrets.token_hex(32)),
            "RAY_ADDRESS": f"127.0.0.1:{self.gcs}",
            "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{self.dashboard}",
        }

    @contextmanager
    def up(self) -> Iterator[None]:
        """Start it in the foreground of a process of ours, and end that and all that came of it."""
        ports = [f"{name}={port}" for name, port in self.ports.items()]
        ports += ["--min-worker-port=0", "--max-worker-port=0"]  # any that is free
        size = ["--num-cpus=4", "--num-gpus=16", "--object-store-memory=200000000"]
        where = ["--node-ip-address=127.0.0.1", f"--temp-dir={self.temp_dir}"]
        head = [BIN / "ray", "start", "--head", "--block", "--disable-usage-stats", *ports, *size, *where]
        environment = {name: value for name, value in self.environment.items() if name != "RAY_ADDRESS"}
        with (
            (self.shell.ray / "head.log").open("w") as log,
            subprocess.Popen(head, env=environment, stdout=log, stderr=log) as process,
        ):
            try:
                wait_until(
                    lambda: self.takes_jobs() or process.poll() is not None, lambda: "no job was taken"
                )
                assert process.poll() is None, Path(log.name).read_text()
                yield
            finally:
                self.shell.close()

    def takes_jobs(self) -> bool:
        """Whether the dashboard and its agent are both there: the one answers long before the other does."""
        return self.ray("job", "submit", "--", "true").returncode == 0

    def ray(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run one of Ray's own commands against this cluster, where the project lies."""
        return subprocess.run(
            [BIN / "ray", *words], cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=600
        )

    def outside(self, *words: str | Path) -> subprocess.Popen[str]:
        """Begin a command as somebody does who has nothing of this cluster but an address and its token."""
        told = {"RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "ORCHESTRATOR_HOME"}
        environment = {name: value for name, value in self.environment.items() if name not in told}
        return subprocess.Popen(
            command(*words),
            cwd=self.shell.home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def search_through_client(self, *words: str | Path, port: int = 0) -> subprocess.Popen[str]:
        return self.outside("search", *words, "--address", f"ray://127.0.0.1:{port or self.client}")

    def submit(self, *words: str | Path) -> subprocess.Popen[str]:
        return self.outside("submit", "--address", self.environment["RAY_API_SERVER_ADDRESS"], *words)

    def available(self) -> dict[str, float]:
        done = subprocess.run(
            [sys.executable, "-c", FREE], env=self.environment, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout.splitlines()[-1])


def free_ports(number: int) -> list[int]:
    """Ports that nothing listens on, and that the system gives to nobody who asks for just any."""
    candidates = random.sample(range(24_000, 32_000), 200)
    return [port for port in candidates if _is_free(port)][:number]


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0
