"""Execution of a module in a separate process, which can be killed whatever it hangs in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orchestrator


class Failed(Exception):
    """The process ended without an answer; the message is its last line of output."""


def run_isolated(
    module: str, request: Mapping[str, Any], limit_s: float, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run `python -m module` with a request in JSON, and return its answer, the last line of its output.

    Raises `TimeoutError` after `limit_s`, after killing it with all its children, and `Failed`.
    """
    source = str(Path(orchestrator.__path__[0]).parent)
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    configuration = os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | dict(environment or {})
    command = [sys.executable, "-m", module, json.dumps(dict(request))]
    with subprocess.Popen(
        command,
        env=configuration,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=limit_s)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise TimeoutError(f"no answer within {limit_s:.0f} s") from None
            raise
    if process.returncode:
        lines = [line.strip() for line in err.splitlines() if line.strip()]
        raise Failed(lines[-1] if lines else f"its process ended with {process.returncode}")
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    return result
