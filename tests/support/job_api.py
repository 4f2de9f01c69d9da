"""A cluster's job server without a cluster: it remembers jobs, and serves logs that can be made to break."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

TOKEN = "t" * 32
DONE = {
    "type": "SUBMISSION",
    "status": "SUCCEEDED",
    "driver_exit_code": 0,
    "entrypoint": "exec python -m orchestrator x",
}


class JobApi:
    """Jobs by id, as Ray tells of them; `log` is what each printed, `breaks` how often reading it breaks off."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.log = "one\ntwo\nthree\n"
        self.ends: dict[str, Any] = {}  # how the jobs that are submitted end, where not well
        self.breaks = 0
        self.more = 0  # lines that a running job goes on to print, 20 a second
        self.wants_token = False
        self.asked: list[dict[str, Any]] = []  # bodies of submissions
        self.url = ""

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.wants_token and request.path != "/api/version":
            given = request.headers.get("authorization", "")
            if given != f"Bearer {TOKEN}":
                return web.Response(
                    status=403 if given else 401, text="Unauthorized: Missing authentication token"
                )
        return await handler(request)

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": ""}
        )

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response([{"submission_id": id, **job} for id, job in self.jobs.items()])

    async def _job(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        if id not in self.jobs:
            return web.Response(status=404)
        return web.json_response({"submission_id": id, **self.jobs[id]})

    async def _submit(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        told = {"entrypoint": body["entrypoint"], "metadata": body["metadata"]}
        self.jobs[body["submission_id"]] = {**DONE, **told, **self.ends}
        return web.json_response({"job_id": body["submission_id"], "submission_id": body["submission_id"]})

    async def _stop(self, request: web.Request) -> web.Response:
        self.jobs[request.match_info["id"]] |= {"status": "STOPPED", "driver_exit_code": None}
        return web.json_response({"stopped": True})

    async def _package(self, request: web.Request) -> web.Response:
        return web.Response()  # it is there already

    async def _tail(self, request: web.Request) -> web.StreamResponse:
        answer = web.WebSocketResponse()
        await answer.prepare(request)
        lines = self.log.splitlines(keepends=True)
        for number, line in enumerate(lines):
            if self.breaks and number == len(lines) - 1:
                self.breaks -= 1
                assert request.transport is not None
                request.transport.abort()
                return answer
            await answer.send_str(line)
        while self.jobs[request.match_info["id"]]["status"] == "RUNNING":
            await asyncio.sleep(0.05)
            if self.more and not answer.closed:
                self.more -= 1
                await answer.send_str("another\n")
        return answer

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/api/version", self._version),
                web.get("/api/jobs/", self._list),
                web.post("/api/jobs/", self._submit),
                web.get("/api/jobs/{id}", self._job),
                web.post("/api/jobs/{id}/stop", self._stop),
                web.get("/api/jobs/{id}/logs/tail", self._tail),
                web.get("/api/packages/{protocol}/{name}", self._package),
            ]
        )
        return app


@contextmanager
def serving(api: JobApi) -> Iterator[JobApi]:
    """The server in a thread of its own."""
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    ready = threading.Event()

    async def serve() -> None:
        runner = web.AppRunner(api.app())
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        api.url = f"http://{host}:{port}"
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait()
    try:
        yield api
    finally:
        for job in api.jobs.values():
            job["status"] = "STOPPED"  # whoever reads its log need not wait any more
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
