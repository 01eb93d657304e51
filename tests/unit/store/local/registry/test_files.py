"""The log stays short, and /proc/locks tells which processes lock a file."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from jshm.store.local.registry import files
from jshm.store.local.registry.database import Database
from jshm.system import file_locks

if TYPE_CHECKING:
    from collections.abc import Iterator

KILOBYTE = 1 << 10


class Table(Database):
    """A database with one table."""

    def prepare(self) -> None:
        with self.transact() as tx:
            tx.execute("CREATE TABLE IF NOT EXISTS t(x BLOB)")


@pytest.fixture
def database(store_dir: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setattr(files, "_LONG", 256 * KILOBYTE)
    monkeypatch.setattr(files, "_STEP", 256 * KILOBYTE)
    made = Table(os.path.join(store_dir, "registry.db"), 5.0)
    made.read("PRAGMA wal_autocheckpoint = 0")  # as if there always were a reader
    yield made
    made.close()


def log_size(database: Database) -> int:
    return os.stat(database.path + "-wal").st_size


def write(database: Database, times: int) -> None:
    for _ in range(times):
        with database.transact() as tx:
            tx.execute("INSERT INTO t VALUES (zeroblob(100))")


def test_a_long_log_is_truncated_where_sqlite_does_not_do_it(database: Database) -> None:
    longest = 0
    for _ in range(40):
        write(database, 20)
        longest = max(longest, log_size(database))
    # The size is read after every 64 commits, each of two pages.
    assert 256 * KILOBYTE < longest < 1024 * KILOBYTE
    assert database.read("SELECT count(*) FROM t") == [(800,)]


def test_a_log_that_cannot_be_truncated_is_tried_again_only_when_it_has_grown(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []
    truncate = files.Log._truncate
    monkeypatch.setattr(files.Log, "_truncate", lambda log, raw: tried.append(truncate(log, raw)))
    write(database, 1)
    reader = sqlite3.connect(database.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM t").fetchall()
    write(database, 1000)
    assert log_size(database) > 4096 * KILOBYTE
    assert 4 < len(tried) < 30
    reader.execute("COMMIT")
    write(database, 200)
    assert log_size(database) < 1024 * KILOBYTE
    reader.close()
    assert database.read("SELECT count(*) FROM t") == [(1201,)]


def test_processes_that_lock_a_file_are_found(tmp_path) -> None:
    path = tmp_path / "file"
    path.touch()
    code = (
        "import fcntl, os, sys; f = open(sys.argv[1], 'r+')\n"
        "fcntl.lockf(f, fcntl.LOCK_EX, 2, 10); fcntl.flock(f, fcntl.LOCK_SH)\n"
        "print(os.getpid(), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        pid = int(child.stdout.readline())
        for span, found in ((range(9, 10), []), (range(11, 13), [pid]), (range(12, 20), [])):
            assert file_locks.pids_locking(str(path), "POSIX", "WRITE", span) == found
        assert file_locks.pids_locking(str(path), "FLOCK", "READ") == [pid]
        assert file_locks.pids_locking(str(path), "FLOCK", "WRITE") == []
        child.communicate()
    assert file_locks.pids_locking(str(path), "FLOCK", "READ") == []
    assert file_locks.describe([]) == "another process"
