"""Reachability of an address within seconds: Ray itself would retry for minutes."""

from __future__ import annotations

import os
import socket

from orchestrator.common.errors import BadMachine

CONNECT_S, GREET_S = 2.0, 5.0


def why_silent(address: str, *, is_grpc: bool = False) -> str | None:
    """Why "host:port" cannot be reached; None if a server answers, with gRPC if `is_grpc`."""
    host, colon, port = address.rpartition(":")
    host = host.strip("[]")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        return f"expected host:port, found {address}"
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except TimeoutError:
        return f"no answer within {CONNECT_S:.0f} seconds"
    except UnicodeError:  # a part of the name is empty or too long
        return f"expected the name of a host, found {host}"
    except OSError as error:
        return error.strerror or str(error)
    return None if not is_grpc or os.environ.get("RAY_USE_TLS", "0") == "1" else _why_no_grpc(address)


def _why_no_grpc(address: str) -> str | None:
    import grpc

    with grpc.insecure_channel(
        address, options=[("grpc.enable_http_proxy", 0)]
    ) as channel:  # as Ray connects
        try:
            grpc.channel_ready_future(channel).result(timeout=GREET_S)
        except grpc.FutureTimeoutError:
            return "the server there is not Ray"
    return None


def refuse_user(address: str) -> None:
    """Raise `BadMachine` for an address with a user or a password: Ray does not use them, and would log them."""
    if "@" in address:
        raise BadMachine(
            "--address",
            "expected auto, local, HOST:PORT, ray://HOST:PORT or http://HOST:PORT, found one with a user or password; "
            "a cluster's token belongs in RAY_AUTH_TOKEN, with RAY_AUTH_MODE=token",
        )
