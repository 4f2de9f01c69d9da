"""A Ray cluster whose nodes are network namespaces of this machine: each its own address, link, ports, temporary folder
and object store. They share the disk, as a cluster does by NFS. Needs root."""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from shell import ROOT, SETTINGS, wait_until

from orchestrator.common.allocator import KEEP_FREED_MEMORY

MARK = "CHAOS_NODE"  # in the environment of everything that runs on a node
SUPPORT = ROOT / "tests" / "support"
PORT = 6379
STORE = 100 * 2**20  # bytes of an object store
START_S = 180.0
STARTED = b"will now block forever"
NUMBERS = itertools.count()


def why_not() -> str | None:
    """Why this machine cannot have network namespaces; None if it can."""
    if shutil.which("ip") is None:
        return "needs `ip` (apt-get install iproute2)"
    name = f"probe{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        return f"needs the right to make network namespaces: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return None


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@dataclass
class Node:
    """A namespace, and the Ray of it."""

    name: str
    address: str
    folder: Path  # Ray's temporary one
    link: str  # its end of the cable at the bridge
    process: subprocess.Popen[bytes] | None = None

    def inside(self, *words: str) -> list[str]:
        """A command as it runs there."""
        return ["ip", "netns", "exec", self.name, *words]

    def pids(self, title: str = "") -> list[int]:
        """What runs there by that title, such as "ray::Dispatcher"; all without one."""
        return [pid for pid in marked(f"{MARK}={self.name}") if title in title_of(pid)]

    def cut(self) -> None:
        """Pull the cable: what is sent is lost, and nobody hears of it."""
        ip("link", "set", self.link, "down")

    def repair(self) -> None:
        ip("link", "set", self.link, "up")


@dataclass
class Nodes:
    """A bridge with namespaces; the first is the head's. A context that leaves nothing behind."""

    folder: Path
    cpus: int = 1
    nodes: list[Node] = field(default_factory=list)
    token: str = field(default_factory=lambda: secrets.token_hex(32))

    def __enter__(self) -> Nodes:
        # A name of its own: what a namespace held goes away a moment after it.
        self.bridge, self.net = f"ch{os.getpid()}{chr(97 + next(NUMBERS) % 26)}", _free_net()
        ip("link", "add", self.bridge, "type", "bridge")
        ip("link", "set", self.bridge, "up")
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        for node in self.nodes:
            ip("netns", "del", node.name)
        ip("link", "del", self.bridge)

    @property
    def head(self) -> Node:
        return self.nodes[0]

    @property
    def address(self) -> str:
        return f"{self.head.address}:{PORT}"

    @property
    def environment(self) -> dict[str, str]:
        """Of everything that runs here: nothing that whoever starts it has set, a token, our own claims."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
        own = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_DISABLE_IMPORT_WARNING": "1",
            "PYTHONPATH": f"{SUPPORT}:{ROOT}",
            "ORCHESTRATOR_CLAIMS": str(self.folder / "claims"),
        }
        return inherited | dict(KEEP_FREED_MEMORY) | own

    def add(self) -> Node:
        """A namespace with a cable to the bridge; Ray does not run there yet."""
        place = len(self.nodes) + 1
        name, link = f"{self.bridge}n{place}", f"{self.bridge}v{place}"
        node = Node(name, f"{self.net}.{place}", self.folder / f"n{place}", link)
        ip("netns", "add", name)
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", link, "master", self.bridge, "up")
        for words in (
            ("addr", "add", f"{node.address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
        ):
            ip("-n", name, *words)
        self.nodes.append(node)
        return node

    def restart(self, node: Node, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        """Another Ray on a node, with more in its environment."""
        self.stop(node)
        self.start(node, environment)

    def start(self, node: Node, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        """`ray start --block`, and wait until the node is there."""
        node.folder.mkdir(exist_ok=True, parents=True)
        role = ["--head", f"--port={PORT}"] if node is self.head else [f"--address={self.address}"]
        words = [
            str(Path(sys.executable).with_name("ray")),
            *("start", "--block", *role, f"--node-ip-address={node.address}", f"--temp-dir={node.folder}"),
            *(f"--num-cpus={self.cpus}", f"--object-store-memory={STORE}", "--disable-usage-stats"),
        ]
        log = node.folder.parent / f"{node.name}.log"
        with log.open("ab") as file:
            said = file.tell()
            node.process = subprocess.Popen(
                node.inside(*words),
                cwd=ROOT,
                env=self.environment | {MARK: node.name} | dict(environment),
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        # Said once the cluster knows of the node: a driver that comes sooner would join another's.
        wait_until(lambda: STARTED in log.read_bytes()[said:], lambda: log.read_text()[-2000:], START_S)

    def up(self, num_nodes: int) -> Nodes:
        """So many nodes that run Ray."""
        while len(self.nodes) < num_nodes:
            self.add()
        for node in self.nodes[:num_nodes]:
            if not node.pids("raylet/raylet"):
                self.stop(node)
                self.start(node)
        return self

    def end(self) -> None:
        """Kill whatever runs on the nodes."""
        for node in self.nodes:
            self.stop(node)

    def stop(self, node: Node) -> None:
        kill(node.pids())
        if node.process is not None:
            node.process.wait(30)


def kill(pids: list[int], signum: int = signal.SIGKILL) -> None:
    """End processes, and see them gone."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)
    if signum == signal.SIGKILL:
        wait_until(lambda: not any(_lives(pid) for pid in pids), lambda: f"{pids} live on", 30)


def marked(mark: str) -> list[int]:
    """Processes with this in their environment, and those whose parents had it and that renamed themselves."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def title_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:300]
    except OSError:
        return ""


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _free_net() -> str:
    """The first three numbers of addresses that nobody here uses."""
    taken = subprocess.run(["ip", "-4", "route"], check=True, capture_output=True, text=True).stdout
    return next(f"10.77.{number}" for number in range(1, 250) if f"10.77.{number}." not in taken)
