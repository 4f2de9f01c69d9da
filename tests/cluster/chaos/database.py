"""The database that keeps the trials is restarted, or is away for longer."""

from __future__ import annotations

import time

from chaos.disturbed_study import FAULT, DisturbedStudy
from chaos.faults import fault
from chaos.postgres import Postgres, postgres


def database_of(disturbed: DisturbedStudy) -> Postgres:
    server = disturbed.stack.enter_context(postgres())
    disturbed.storage = server.url
    return server


@fault("database-restart", "the database (PostgreSQL) is killed and started again within seconds", "database")
def restarted(disturbed: DisturbedStudy) -> None:
    server = database_of(disturbed)
    disturbed.start()
    disturbed.until_train()
    disturbed.disturb("the database is killed", server.stop)
    time.sleep(3)
    server.start()
    disturbed.say("the database is started again")
    disturbed.recover()
    disturbed.finish()


@fault(
    "database-away",
    "the database (PostgreSQL) is away; it is started again, then the same command",
    "database",
)
def away(disturbed: DisturbedStudy) -> None:
    server = database_of(disturbed)
    disturbed.start()
    disturbed.until_train()
    disturbed.disturb("the database is killed", server.stop)
    disturbed.end(FAULT)
    disturbed.seconds["given up"] = time.monotonic() - disturbed.disturbed_at
    server.start()
    disturbed.say("the database is started again")
    disturbed.start()
    disturbed.recover(since=disturbed.begun)
    disturbed.finish()
