"""The database that keeps the trials is restarted, or is away for longer."""

from __future__ import annotations

import time

from chaos.faults import fault
from chaos.postgres import Postgres, postgres
from chaos.scene import FAULT, Scene


def database_of(scene: Scene) -> Postgres:
    server = scene.stack.enter_context(postgres())
    scene.storage = server.url
    return server


@fault("database-restart", "the database (PostgreSQL) is killed and started again within seconds", "database")
def restarted(scene: Scene) -> None:
    server = database_of(scene)
    scene.start()
    scene.until_train()
    scene.strike("the database is killed", server.stop)
    time.sleep(3)
    server.start()
    scene.say("the database is started again")
    scene.recover()
    scene.finish()


@fault(
    "database-away",
    "the database (PostgreSQL) is away; it is started again, then the same command",
    "database",
)
def away(scene: Scene) -> None:
    server = database_of(scene)
    scene.start()
    scene.until_train()
    scene.strike("the database is killed", server.stop)
    scene.end(FAULT)
    scene.seconds["given up"] = time.monotonic() - scene.struck
    server.start()
    scene.say("the database is started again")
    scene.start()
    scene.recover(since=scene.begun)
    scene.finish()
