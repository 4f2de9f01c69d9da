"""Connections between nodes, and the visibility of Ray's ports."""

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
# Default ports of `ray start --head`.
OF_RAY = {"head (--port)": 6379, "dashboard": 8265, "clients": 10001, "dashboard agent": 52365}


def reachable(peers: Mapping[str, Address]) -> Iterator[Result]:
    """Whether the raylets of other nodes answer; `peers`: name -> host and port."""
    if not peers:
        return
    with ThreadPoolExecutor(len(peers)) as pool:
        answers = pool.map(lambda address: why_silent(_text(address)), peers.values())
        silent = {name: why for name, why in zip(peers, answers, strict=True) if why is not None}
    for name, why in silent.items():
        yield failure(
            f"cannot reach {name} at {_text(peers[name])}: {why}",
            "open the nodes' ports to each other: check the firewall, and `ray start --node-ip-address` for a node "
            "with several addresses",
        )
    if not silent:
        yield ok(f"reaches {', '.join(peers)}")


def exposed(ports: Mapping[str, int], has_token: bool) -> Iterator[Result]:
    """Whether Ray's ports on this node are open to other machines without a token."""
    found = listening()
    wide = {name: port for name, port in ports.items() if any(is_wide(at) for at in found.get(port, ()))}
    listed = ", ".join(f"{name} {port}" for name, port in wide.items())
    if wide and not has_token:
        yield warning(
            f"{listed}: open on every interface; without a token anyone who reaches them can run programs here",
            "set RAY_AUTH_MODE=token for `ray start` and the search, or restrict them by a firewall",
        )
    elif wide:
        yield ok(f"{listed}: open on every interface, protected by a token")
    else:
        yield ok("Ray's ports are not open on every interface")


def free() -> Iterator[Result]:
    """Default ports of a cluster that are in use."""
    found = listening()
    taken = ", ".join(f"{port} ({name})" for name, port in OF_RAY.items() if port in found)
    yield ok(
        f"in use: {taken}; another `ray start --head` here needs others"
        if taken
        else "Ray's default ports are free"
    )


def listening(folder: Path = Path("/proc/net")) -> dict[int, set[str]]:
    """Port -> addresses of this machine that accept TCP connections."""
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
    """The network interface with this IPv4 address, such as eth0; None if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            try:
                answer = ioctl(asking, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:  # an interface without address
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None


def free_port(host: str) -> int:
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        result: int = server.getsockname()[1]
        return result


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address in the kernel's format: words of four bytes, each in the machine's byte order."""
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
