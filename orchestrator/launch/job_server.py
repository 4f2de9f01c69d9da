"""The job server of a cluster, found from any of its addresses within seconds; errors in one sentence."""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import requests
from ray.dashboard.utils import ray_address_to_api_server_url, ray_client_address_to_api_server_url
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from orchestrator.common.errors import BadMachine, MachineFault
from orchestrator.common.hosts import refuse_user, why_silent
from orchestrator.common.private_api import member, private
from orchestrator.launch.environment import environment

for chatty in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk", "ray.client_builder"):
    # they log every package that they upload, or skip, and what they pass to a head
    logging.getLogger(chatty).setLevel(logging.WARNING)
logger = logging.getLogger(__name__)
CONNECT_S, ANSWER_S = 4.0, 60.0  # an upload of hundreds of megabytes takes long
PROBE_S = 5.0


class JobServer(JobSubmissionClient):
    """Ray's client with time limits; it would wait for an answer forever."""

    def _do_request(self, *args: Any, **kwargs: Any) -> requests.Response:
        return super()._do_request(*args, **{"timeout": (CONNECT_S, ANSWER_S)} | kwargs)

    @property
    def headers(self) -> dict[str, str]:
        """Headers of every request, including the token."""
        return self._headers


def job_server(address: str) -> JobServer:
    """The job server behind `http(s)://HOST:PORT`, `ray://HOST:PORT`, `HOST:PORT` or `auto`.

    Raises `BadMachine` if no job server answers, or if it requires another token.
    """
    refuse_user(address)
    with translated_errors(address):
        url = _url(address)
        # has priority over arguments of Ray's client, like RAY_ADDRESS
        with environment("RAY_API_SERVER_ADDRESS", url):
            server = JobServer(url, headers=_headers())
        # unlike the version, this requires the token
        member(server, "_do_request")("GET", "/api/jobs/", timeout=(CONNECT_S, ANSWER_S))
        return server


CLIENT_REFUSED = (
    "something listens there, but no Ray client server that accepts this token answers; set RAY_AUTH_MODE=token and "
    "the cluster's token, or give the address of its dashboard, http://HOST:8265"
)
CLIENT_NOT_STARTED = (
    "the head node started no server for this client, though it was asked {attempts} times: give the address of its "
    "dashboard, http://HOST:8265"
)
# Ray's proxy forks one for each client while its other threads run; under load that process often dies at once (2.60).
ATTEMPTS = 4


@contextmanager
def translated_errors(address: str) -> Iterator[None]:
    """Context in which errors of a job server become `BadMachine` or `MachineFault` in one sentence."""
    try:
        yield
    except AuthenticationError as error:
        raise BadMachine("--address", f"{_token_advice(address, str(error))}") from error
    except requests.Timeout as error:
        raise MachineFault("--address", f"the job server at {address} does not answer in time") from error
    except requests.ConnectionError as error:
        raise MachineFault("--address", f"the connection to {address} broke: {_why(error)}") from error
    except (ConnectionError, RuntimeError, ValueError, requests.RequestException) as error:
        why = _why(error).removeprefix(f"{address}: ")
        raise BadMachine("--address", f"no Ray cluster accepts jobs at {address}: {why}") from error


def _token_advice(address: str, error: str) -> str:
    if "required" in error.splitlines()[0]:
        return (
            f"the cluster at {address} requires a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH if it is not in ~/.ray/auth_token"
        )
    source = next((name for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if name in os.environ), None)
    return f"the cluster at {address} requires another token than that of {source or '~/.ray/auth_token'}"


def _why(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def _headers() -> dict[str, str]:
    """Headers from the environment, as for Ray's own commands, for a proxy in front of the cluster."""
    try:
        headers = json.loads(os.environ.get("RAY_JOB_HEADERS") or "{}")
    except ValueError:
        headers = None
    if not isinstance(headers, dict):
        raise BadMachine("RAY_JOB_HEADERS", 'expected JSON, such as {"Authorization": "Bearer ..."}')
    return headers


def _url(address: str) -> str:
    if address == "auto":
        address = _running()
    if address.startswith(("http://", "https://")):
        return _answering(address.rstrip("/"))
    host = address.removeprefix("ray://")
    if (silence := why_silent(host)) is not None:
        raise ConnectionError(silence)
    if not address.startswith("ray://") and _speaks_http(host):
        return f"http://{host}"
    return _answering(_dashboard_of(address), from_head=True)


def _running() -> str:
    """The address that Ray's own commands would use, by their priorities."""
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        if os.environ.get(name, "auto") not in ("", "auto", "local"):
            refuse_user(os.environ[name])
            return os.environ[name]
    found: str | None = private("find_bootstrap_address")(None)
    if found:
        return found
    raise ConnectionError("no Ray was started here; set a cluster, such as --address http://HOST:8265")


def _speaks_http(host: str) -> bool:
    """Whether this is a dashboard, and not the port of a head node or of its client server."""
    try:
        requests.get(f"http://{host}/api/version", timeout=PROBE_S)
    except requests.RequestException:
        return False
    return True


def _dashboard_of(address: str) -> str:
    """Address of a cluster's dashboard, according to its head node."""
    with environment("RAY_ADDRESS", None), environment("RAY_API_SERVER_ADDRESS", None):
        if not address.startswith("ray://"):
            return ray_address_to_api_server_url(address)
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # it says what the error says
            return _dashboard_by_client(address)


def _dashboard_by_client(address: str) -> str:
    """Dashboard's address by Ray's client, asked again where the head failed to start a server for it."""
    attempt = 0
    while True:
        attempt += 1
        try:
            found: str = ray_client_address_to_api_server_url(address)
            return found
        except ConnectionError as error:  # of a port that answers: a refused token looks the same
            if "Starting Ray client server failed" not in str(error):
                raise ConnectionError(f"{CLIENT_REFUSED} ({_why(error)})") from error
            if attempt == ATTEMPTS:
                what = CLIENT_NOT_STARTED.format(attempts=ATTEMPTS)
                raise ConnectionError(f"{what} ({_why(error)})") from error
            logger.warning("%s started no server for this client (%s); asking again", address, _why(error))


def _answering(url: str, from_head: bool = False) -> str:
    """The URL if a server listens there. Raises `ConnectionError`, with advice if the URL came from the head."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        if not requests.utils.get_environ_proxies(url):  # otherwise the proxy connects
            socket.create_connection((parts.hostname or "", port), timeout=CONNECT_S).close()
    except OSError as error:
        late = f"no answer within {CONNECT_S:.0f} seconds"
        why = late if isinstance(error, TimeoutError) else error.strerror or str(error)
        if from_head and _is_loopback(parts.hostname):
            why = (
                f"its dashboard listens only on {parts.netloc} of the head node; open a tunnel, `ssh -N -L "
                f"{port}:{parts.netloc} HEAD`, and use --address http://127.0.0.1:{port}"
            )
        raise ConnectionError(f"{url}: {why}") from error
    return url


def _is_loopback(host: str | None) -> bool:
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"
