"""Ways between nodes: who reaches whom, and to whom Ray's ports are open."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from fcntl import ioctl
from pathlib import Path

from orchestrator.common.hosts import why_silent
from orchestrator.doctor.checks.findings import Result, failure, ok, warning

LISTENS = "0A"
SIOCGIFADDR = 0x8915
Address = tuple[str, int]
# Ports that `ray start --head` takes where no others are named.
OF_RAY = {"head (--port)": 6379, "dashboard": 8265, "clients": 10001, "dashboard agent": 52365}


def reachable(peers: Mapping[str, Address]) -> Iterator[Result]:
    """Whether the raylets of other nodes answer: name -> host and port."""
    if not peers:
        return
    with ThreadPoolExecutor(len(peers)) as pool:
        told = pool.map(lambda address: why_silent(_text(address)), peers.values())
        silent = {name: why for name, why in zip(peers, told, strict=True) if why is not None}
    for name, why in silent.items():
        yield failure(
            f"cannot reach {name} at {_text(peers[name])}: {why}",
            "let the nodes reach each other's ports: see the firewall, and `ray start --node-ip-address` for a node "
            "with several addresses",
        )
    if not silent:
        yield ok(f"reaches {', '.join(peers)}")


def exposed(ports: Mapping[str, int], has_token: bool) -> Iterator[Result]:
    """Whether Ray's ports of this node are open to other machines without a token."""
    found = listening()
    wide = {name: port for name, port in ports.items() if any(is_wide(at) for at in found.get(port, ()))}
    told = ", ".join(f"{name} {port}" for name, port in wide.items())
    if wide and not has_token:
        yield warning(
            f"{told}: open on every interface, and without a token whoever reaches them can run programs here",
            "set RAY_AUTH_MODE=token for `ray start` and the search, or close them to others by a firewall",
        )
    elif wide:
        yield ok(f"{told}: open on every interface, to those who have the token")
    else:
        yield ok("Ray's ports are not open on every interface")


def free() -> Iterator[Result]:
    """Which of the ports that a cluster takes by default are taken."""
    found = listening()
    taken = ", ".join(f"{port} ({name})" for name, port in OF_RAY.items() if port in found)
    yield ok(
        f"taken: {taken}; another `ray start --head` here needs others"
        if taken
        else "Ray's usual ports are free"
    )


def listening(folder: Path = Path("/proc/net")) -> dict[int, set[str]]:
    """Port -> the addresses of this machine at which somebody takes TCP connections."""
    found: dict[int, set[str]] = {}
    for name in ("tcp", "tcp6"):
        for line in _lines(folder / name):
            _, local, _, state, *_ = line.split()
            if state == LISTENS:
                address, port = local.split(":")
                found.setdefault(int(port, 16), set()).add(str(_address(address)))
    return found


def is_wide(address: str) -> bool:
    return ipaddress.ip_address(address).is_unspecified


def interface_of(address: str) -> str | None:
    """The network interface that has this IPv4 address, such as eth0."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            try:
                answer = ioctl(asking, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:  # it has none
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None


def free_port(host: str) -> int:
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        return server.getsockname()[1]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """As the kernel writes it: words of four bytes, each in the machine's order."""
    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    return ipaddress.ip_address(b"".join(words))


def _text(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _lines(path: Path) -> Iterable[str]:
    try:
        return path.read_text().splitlines()[1:]
    except OSError:
        return ()
