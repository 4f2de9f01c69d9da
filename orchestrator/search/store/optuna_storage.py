"""Storage of an Optuna study: a journal file in the study's folder, or a database named by a URL.

The URL is stored with the study, so it contains no password: drivers find one in `~/.pgpass`, or in the file
that MySQL's `read_default_file` names.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend

from orchestrator.common.errors import BadMachine, UserError
from orchestrator.common.faults import chain
from orchestrator.common.files import naming
from orchestrator.common.interruption import requested_signal

if TYPE_CHECKING:  # a study that is in its journal needs no SQLAlchemy, which takes a tenth of `status`
    from sqlalchemy import URL, Dialect

logger = logging.getLogger(__name__)

WHERE = "--storage"
BACKENDS = ("postgresql", "mysql", "mariadb", "sqlite")
PATIENCE_S = 10  # for a server that does not answer
RESTART_S, RETRY_S = (
    120.0,
    2.0,
)  # for a server that was there: how long it is waited for, how often it is tried
EXAMPLE = "postgresql://user@host/database"
PASSWORD_FILES = {
    "postgresql": "write it into ~/.pgpass",
    "mysql": "write it into a file of your own and name that: ?read_default_file=/home/me/.my.cnf",
}
SECRET = {"password", "passwd", "pwd", "sslpassword", "ssl_key_password", "token", "access_token", "secret"}
DRIVERS = {
    "psycopg": "`pip install 'polyp-orchestrator[postgresql]'` brings it",
    "pymysql": "`pip install 'polyp-orchestrator[mysql]'` brings it",
    "MySQLdb": "or write mysql+pymysql://, whose driver `pip install 'polyp-orchestrator[mysql]'` brings",
}


def kept_url(text: str) -> str:
    """The URL as a study stores it, SQLite files by absolute path. Raises `BadMachine` if it is unusable."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # the latter: a port that is no number
        # The text is not shown: it may hold a password.
        raise BadMachine(WHERE, f"expected a URL such as {EXAMPLE}, found something else") from None
    problems = [*_problems(url)]
    if problems:
        raise BadMachine(WHERE, problems)
    if url.get_backend_name() == "sqlite":
        url = url.set(database=str(Path(url.database or "").expanduser().absolute()))
    return url.render_as_string(hide_password=False)


def _problems(url: URL) -> Iterator[str]:
    from sqlalchemy.exc import NoSuchModuleError

    backend = url.get_backend_name()
    if backend not in BACKENDS:
        yield f"expected one of {', '.join(BACKENDS)}, found {backend}"
        return
    if url.password is not None or SECRET & {name.lower() for name in url.query}:
        how = PASSWORD_FILES["mysql" if backend in ("mysql", "mariadb") else "postgresql"]
        yield f"the URL is kept with the study, so it must not hold a password; {how}"
    if backend == "sqlite" and url.database in (None, "", ":memory:"):
        yield "sqlite needs a file: sqlite:////folder/file.db"
    try:
        url.get_dialect().import_dbapi()
    except NoSuchModuleError:
        yield f"no driver is named {url.drivername}"
    except ImportError as error:
        driver = error.name or "its driver"
        yield f"{backend} needs the package {driver}, which is not installed" + (
            f"; {DRIVERS[driver]}" if driver in DRIVERS else ""
        )


def reach(url: str) -> None:
    """Raises `BadMachine` if no connection to the database can be made."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import DBAPIError

    engine = create_engine(url, connect_args=_patience(url))
    try:
        engine.connect().close()
    except DBAPIError as error:
        raise _away(error) from error
    except (TypeError, ValueError) as error:
        raise BadMachine(WHERE, f"its driver rejects what the URL asks for: {error}") from error
    finally:
        engine.dispose()


@lru_cache
def open_database(url: str) -> BaseStorage:
    """Storage in a database: a pool of connections per process, and Optuna's cache of finished trials."""
    from sqlalchemy import event

    with explained_errors():
        storage = RDBStorage(url, engine_kwargs={"pool_pre_ping": True, "connect_args": _patience(url)})
        if not url.startswith("sqlite"):
            event.listen(storage.engine, "do_connect", connect_again)
        return get_storage(storage)


def connect_again(dialect: Dialect, record: object, words: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """Connection to a server; where it restarts, or is replaced, tried again for up to RESTART_S seconds."""
    began, is_said = time.monotonic(), False
    while True:
        try:
            return dialect.connect(*words, **options)
        except dialect.loaded_dbapi.OperationalError as error:
            if time.monotonic() - began > RESTART_S or requested_signal() is not None:
                raise
            if not is_said:
                logger.warning(
                    "the database does not answer; trying again for up to %.0f s: %s",
                    RESTART_S,
                    _first_line(error),
                )
            is_said = True
            time.sleep(RETRY_S)


def open_journal(path: Path) -> BaseStorage:
    """Storage in a journal file, since SQLite breaks on network file systems."""
    return JournalStorage(_WholeLines(str(path)))


class _WholeLines(JournalFileBackend):
    """Journal file without half-written lines: a failed append, as on a full disk, is undone. One writer."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        path = Path(self._file_path)
        size = path.stat().st_size
        try:
            with naming(path):
                super().append_logs(logs)
        except OSError:
            with suppress(OSError):
                os.truncate(path, size)
            raise


@contextmanager
def explained_errors() -> Iterator[None]:
    """Context that turns errors of database drivers, also those wrapped by Tune, into `BadMachine`."""
    try:
        yield
    except UserError:  # it was explained already
        raise
    except Exception as error:
        from sqlalchemy.exc import DBAPIError

        trouble = next(
            (one for one in chain(error) if isinstance(one, (DBAPIError, StorageInternalError))), None
        )
        if trouble is None:
            raise
        raise _away(trouble) from error


def _away(error: Exception) -> BadMachine:
    from sqlalchemy.exc import DBAPIError

    cause = error.orig if isinstance(error, DBAPIError) else error.__cause__
    return BadMachine(WHERE, f"the database does not answer, or denies access: {_first_line(cause or error)}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _patience(url: str) -> dict[str, int]:
    return {} if url.startswith("sqlite") else {"connect_timeout": PATIENCE_S}
