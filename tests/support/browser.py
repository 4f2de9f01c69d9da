"""A headless Chromium that opens pages and says what is on them, by its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome")
START_S, PAGE_S = 60.0, 60.0


def installed() -> str | None:
    """The program; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name)) is not None), None)


@dataclass
class Browser:
    """One tab. Used by one thread."""

    loop: asyncio.AbstractEventLoop
    socket: aiohttp.ClientWebSocketResponse
    _number: int = field(default=0)

    def command(self, method: str, **params: Any) -> dict[str, Any]:
        """What the browser answers to a command of the protocol."""
        return self.loop.run_until_complete(asyncio.wait_for(self._command(method, params), PAGE_S))

    def open(self, url: str) -> None:
        """Open a page from nothing, so that no other page's state is left."""
        self.command("Page.navigate", url="about:blank")
        self.command("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        found = self.command("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def text(self) -> str:
        """All text on the page, as somebody would read it, then that of its plots."""
        plots = "[...document.querySelectorAll('svg text')].map(one => one.textContent).join(' ')"
        return str(self.evaluate(f"document.body ? document.body.innerText + ' ' + {plots} : ''"))

    def wait_for(self, *texts: str, seconds: float = PAGE_S) -> str:
        """The text of the page once it holds all of these; AssertionError with the page's text if it never does."""
        end = time.monotonic() + seconds
        while missing := [text for text in texts if text not in (page := self.text())]:
            assert time.monotonic() < end, f"{missing} not on the page:\n{page}"
            time.sleep(0.3)
        return self.text()

    def settled(self, quiet_s: float = 3.0) -> str:
        """The text of the page once it has not changed for a while, so that a screenshot has its charts."""
        end, page, since = time.monotonic() + PAGE_S, self.text(), time.monotonic()
        while time.monotonic() < min(end, since + quiet_s):
            time.sleep(0.3)
            if (now := self.text()) != page:
                page, since = now, time.monotonic()
        return page

    def click(self, selector: str, text: str = "") -> None:
        """Click the first element of a CSS selector that holds this text."""
        script = (
            f"(() => {{ const found = [...document.querySelectorAll({json.dumps(selector)})]"
            f".find(one => (one.innerText || '').includes({json.dumps(text)})); if (!found) return null;"
            " found.scrollIntoView({block: 'center'}); const box = found.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        place = self.evaluate(script)
        assert place, f"nothing to click: {selector} {text!r}"
        for kind in ("mousePressed", "mouseReleased"):
            self.command(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1
            )

    def screenshot(self, file: Path) -> None:
        """Write what is shown as a PNG."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"]))

    async def _command(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        await self.socket.send_json({"id": self._number, "method": method, "params": params})
        async for message in self.socket:
            answer = json.loads(message.data)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return dict(answer["result"])
        raise ConnectionError("the browser has closed")


@contextmanager
def browser(width: int = 1600, height: int = 1000) -> Iterator[Browser]:
    """A tab of this many pixels, of a Chromium of its own with an empty profile."""
    program = installed()
    assert program is not None, f"none of {', '.join(NAMES)} is installed"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-port=0",
            "--no-first-run",
        ]
        size = [f"--window-size={width},{height}", f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen([program, *options, *size], stderr=subprocess.PIPE, text=True)
        loop = asyncio.new_event_loop()
        try:
            port = _port(process)
            session, socket = loop.run_until_complete(_connect(port))
            tab = Browser(loop, socket)
            tab.command("Page.enable")
            yield tab
            loop.run_until_complete(socket.close())
            loop.run_until_complete(session.close())
        finally:
            process.terminate()
            process.wait(timeout=20)
            if process.stderr is not None:
                process.stderr.close()
            loop.close()


def _port(process: subprocess.Popen[str]) -> int:
    """The port on which the browser listens, which is in the first lines that it prints."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"DevTools listening on ws://[^:]+:(\d+)/", line):
            return int(found.group(1))
    raise AssertionError("Chromium ended before it listened")


async def _connect(port: int) -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
    session = aiohttp.ClientSession()
    end = time.monotonic() + START_S
    while True:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            tabs = [one for one in await answer.json() if one["type"] == "page"]
        if tabs:
            break
        assert time.monotonic() < end
        await asyncio.sleep(0.2)
    # A screenshot may be larger than the limit of a message that is the default.
    return session, await session.ws_connect(tabs[0]["webSocketDebuggerUrl"], max_msg_size=0)
