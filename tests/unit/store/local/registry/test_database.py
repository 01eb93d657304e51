"""One SQLite database, used by many processes, threads and forks."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from jshm.errors import RegistryError, RegistryTimeout
from jshm.store.local.registry.database import Database
from jshm.system import file_locks

from .....support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETUP = """
import os, threading, time
from jshm.store.local.registry.database import Database
class Table(Database):
    def prepare(self):
        with self.transact() as tx:
            tx.execute("CREATE TABLE IF NOT EXISTS t(x INTEGER)")
"""


class Table(Database):
    """A database with one table."""

    def prepare(self) -> None:
        with self.transact() as tx:
            tx.execute("CREATE TABLE IF NOT EXISTS t(x INTEGER)")


@pytest.fixture
def path(store_dir: str) -> str:
    return os.path.join(store_dir, "registry.db")


@pytest.fixture
def database(path: str) -> Iterator[Database]:
    made = Table(path, 5.0)
    yield made
    made.close()


def rows(path: str) -> list[int]:
    """Read in another process, without jshm: closing a descriptor here would drop locks."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
        "print(*(r[0] for r in c.execute('SELECT x FROM t ORDER BY x')))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )
    return [int(word) for word in found.stdout.split()]


def insert(database: Database, value: int) -> None:
    with database.transact() as tx:
        tx.execute("INSERT INTO t VALUES (?)", (value,))


def test_an_exception_rolls_back(database: Database, path: str) -> None:
    insert(database, 1)
    with contextlib.suppress(ZeroDivisionError), database.transact() as tx:
        tx.execute("INSERT INTO t VALUES (2)")
        raise ZeroDivisionError
    insert(database, 3)
    assert rows(path) == [1, 3]


def test_on_commit_runs_only_after_a_commit(database: Database) -> None:
    done: list[int] = []
    with database.transact() as tx:
        tx.on_commit(lambda: done.append(1))
        assert done == []
    assert done == [1]
    with contextlib.suppress(ZeroDivisionError), database.transact() as tx:
        tx.on_commit(lambda: done.append(2))
        raise ZeroDivisionError
    assert done == [1]


def test_a_transaction_inside_another_is_refused(database: Database, path: str) -> None:
    with database.transact() as tx:
        with pytest.raises(RegistryError, match="inside another"), database.transact():
            pass
        tx.execute("INSERT INTO t VALUES (1)")
    assert rows(path) == [1]


def test_readers_see_the_last_commit_and_do_not_wait(database: Database, path: str) -> None:
    insert(database, 1)
    other = Database(path, 0.01)
    seen: list[object] = []
    reader = threading.Thread(target=lambda: seen.extend(other.read("SELECT x FROM t")))
    with database.transact() as tx:
        tx.execute("INSERT INTO t VALUES (2)")
        reader.start()
        reader.join()
        assert seen == [(1,)]
    other.close()


def test_files_are_private(database: Database, path: str) -> None:
    insert(database, 1)
    for ending in ("", "-wal", "-shm"):
        assert os.stat(path + ending).st_mode & 0o777 == 0o600


def test_threads_and_processes_lose_no_update(
    database: Database, path: str, tmp_path: Path
) -> None:
    insert(database, 0)
    work = """
def work(n):
    for _ in range(n):
        with db.transact() as tx:
            value = tx.execute("SELECT max(x) FROM t")[0][0]
            tx.execute("UPDATE t SET x = ?", (value + 1,))
"""
    with Child(tmp_path, "a.py") as a, Child(tmp_path, "b.py") as b:
        for child in (a, b):
            child.run(SETUP + f"db = Table({path!r}, 20.0)\n" + work)
        for child in (a, b):
            child.send(
                "threads = [threading.Thread(target=work, args=(150,)) for _ in range(3)]\n"
                "for t in threads: t.start()\n"
                "for t in threads: t.join()"
            )
        names = {"db": database}
        exec(work, names)
        names["work"](150)  # type: ignore[operator]
        for child in (a, b):
            child.receive()
    assert rows(path) == [7 * 150]


def test_fork_waits_for_a_transaction_and_both_processes_continue(
    path: str, tmp_path: Path
) -> None:
    with Child(tmp_path) as child:
        child.run(SETUP + f"db = Table({path!r}, 5.0)")
        value = child.run("""
inside, order = threading.Event(), []
def slow():
    with db.transact() as tx:
        tx.execute("INSERT INTO t VALUES (1)")
        inside.set()
        time.sleep(0.2)
        tx.execute("INSERT INTO t VALUES (2)")
        order.append("committed")
thread = threading.Thread(target=slow)
thread.start()
inside.wait()
import warnings
warnings.simplefilter("ignore")
pid = os.fork()
if not pid:
    try:
        for i in range(50):
            with db.transact() as tx:
                tx.execute("INSERT INTO t VALUES (?)", (100 + i,))
        db.read("SELECT * FROM t")
        os._exit(0)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
order.append("forked")
for i in range(50):
    with db.transact() as tx:
        tx.execute("INSERT INTO t VALUES (?)", (200 + i,))
thread.join()
[os.waitpid(pid, 0)[1], order]
""")
    assert value == [0, ["committed", "forked"]]
    assert rows(path) == [1, 2, *range(100, 150), *range(200, 250)]


def test_one_thread_imports_and_uses_it_while_another_forks(store_dir: str, tmp_path: Path) -> None:
    """Hooks that are registered during a fork are called after it, and not before it."""
    with Child(tmp_path) as child:
        status, names = child.run("""
import os, signal, threading
inside, go = threading.Event(), threading.Event()
def use():
    import jshm, numpy as np
    from jshm.store.local.registry.database import Database
    opens = Database._open
    def slowly(self):
        if threading.current_thread() is thread:
            inside.set(); go.wait(20)
        return opens(self)
    Database._open = slowly
    jshm.publish("T", np.ones(3))
thread = threading.Thread(target=use)
def before():
    if not thread.ident:
        thread.start(); inside.wait(20)
os.register_at_fork(before=before)
pid = os.fork()
if not pid:
    signal.alarm(20)
    import jshm, numpy as np
    jshm.publish("C", np.ones(3), keep=True)
    os._exit(0)
go.set(); thread.join()
status = os.waitpid(pid, 0)[1]
import jshm
[status, [info.name for info in jshm.segments()]]
""")
    assert status == 0
    assert names == ["C", "T"]


def test_threads_fork_at_the_same_time(path: str, tmp_path: Path) -> None:
    with Child(tmp_path) as child:
        child.run(SETUP + f"db = Table({path!r}, 5.0)")
        value = child.run("""
import sys, warnings
warnings.simplefilter("ignore")
failed = []
sys.unraisablehook = lambda what: failed.append(repr(what.exc_value))
statuses, stop = [], threading.Event()
def fork():
    for _ in range(40):
        pid = os.fork()
        if not pid:
            try:
                with db.transact() as tx:
                    tx.execute("INSERT INTO t VALUES (1)")
                os._exit(bool(failed))
            except BaseException:
                os._exit(1)
        statuses.append(os.waitpid(pid, 0)[1])
def write():
    try:
        while not stop.is_set():
            with db.transact() as tx:
                tx.execute("INSERT INTO t VALUES (2)")
    except BaseException as error:
        failed.append(repr(error))
writer = threading.Thread(target=write)
threads = [threading.Thread(target=fork) for _ in range(3)]
for t in (writer, *threads): t.start()
for t in threads: t.join()
stop.set()
writer.join()
[failed, set(statuses) == {0}, len(statuses)]
""")
    assert value == [[], True, 120]
    assert rows(path).count(1) == 120


def test_a_fork_inside_a_transaction_is_an_error_and_harms_no_other_process(
    path: str, tmp_path: Path
) -> None:
    with Child(tmp_path) as child:
        child.run(SETUP + f"db = Table({path!r}, 5.0)")
        error = child.fails("""
import warnings
warnings.simplefilter("ignore")
with db.transact() as tx:
    tx.execute("INSERT INTO t VALUES (1)")
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    tx.execute("INSERT INTO t VALUES (2)")
""")
        assert "RegistryError" in error.kinds
        child.run('with db.transact() as tx: tx.execute("INSERT INTO t VALUES (3)")')
    assert rows(path) == [3]


def test_the_data_version_changes_with_each_commit_and_only_then(
    database: Database, path: str, tmp_path: Path
) -> None:
    insert(database, 1)
    seen = [database.data_version()]

    def expect_a_change() -> None:
        assert database.data_version() not in seen
        seen.append(database.data_version())
        database.read("SELECT x FROM t")
        assert database.data_version() == seen[-1]

    insert(database, 2)
    expect_a_change()
    with Child(tmp_path) as child:
        child.run(SETUP + f"db = Table({path!r}, 5.0)")
        seen.append(database.data_version())  # of its setup
        child.run('with db.transact() as tx: tx.execute("INSERT INTO t VALUES (3)")')
        expect_a_change()
        child.run('tx = db.transact(); tx.__enter__(); tx.execute("INSERT INTO t VALUES (4)")')
        assert database.data_version() == seen[-1]
        child.run("tx.__exit__(None, None, None)")
        expect_a_change()
    thread = threading.Thread(target=insert, args=(database, 5))
    thread.start()
    thread.join()
    expect_a_change()
    # No process has it open, so SQLite removes the log; the next log may begin with the same bytes.
    database.close()
    rows(path)
    expect_a_change()


@pytest.mark.parametrize("known_for", [0.0, 0.1])
@pytest.mark.parametrize("what", ["", "-wal", "-shm"])
def test_the_next_write_detects_a_replaced_file(
    database: Database, path: str, what: str, known_for: float
) -> None:
    """Also within the clock tick that a directory's modification time cannot resolve."""
    insert(database, 1)
    time.sleep(known_for)
    insert(database, 2)
    serial = database.serial
    os.unlink(path + what)
    with open(path + what, "wb"):
        pass
    insert(database, 3)
    assert database.serial > serial
    assert database.read("SELECT x FROM t") == [(3,)]


def test_a_reader_reopens_a_closed_connection_without_holding_its_lock(database: Database) -> None:
    insert(database, 1)
    old = database._connection()
    connect = database._connect
    waited: list[bool] = []

    def free() -> None:
        if taken := old.lock.acquire(timeout=1):
            old.lock.release()
        waited.append(not taken)

    def connecting() -> object:
        thread = threading.Thread(target=free)
        thread.start()
        thread.join()
        return connect()

    found, connection = iter([old]), database._connection
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_connect", connecting)
        patch.setattr(database, "_connection", lambda **how: next(found, None) or connection(**how))
        old.close()
        assert database.read("SELECT x FROM t") == [(1,)]
    assert waited == [False]


def test_a_timeout_names_the_blocking_process(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_locks, "_label", lambda pid: f"train.ipynb/{pid}")
    database = Table(path, 0.1)
    insert(database, 1)
    with Child(tmp_path) as child:
        child.run(SETUP + f"db = Table({path!r}, 5.0)")
        child.run("tx = db.transact(); tx.__enter__(); tx.execute('INSERT INTO t VALUES (2)')")
        child.stop()
        with pytest.raises(RegistryTimeout) as caught, database.transact():
            pass
        assert f"train.ipynb/{child.pid} (pid {child.pid})" in str(caught.value)
        assert isinstance(caught.value, TimeoutError)
        assert database.read("SELECT x FROM t") == [(1,)]  # readers never wait
        child.signal(18)
        child.run("tx.__exit__(None, None, None)")
        insert(database, 3)
    assert rows(path) == [1, 2, 3]
    database.close()


def test_a_killed_writer_leaves_nothing(database: Database, path: str, tmp_path: Path) -> None:
    insert(database, 1)
    with Child(tmp_path) as child:
        child.run(SETUP + f"db = Table({path!r}, 5.0)")
        child.run("tx = db.transact(); tx.__enter__(); tx.execute('INSERT INTO t VALUES (2)')")
        child.kill()
    insert(database, 3)
    assert rows(path) == [1, 3]


@pytest.mark.parametrize("removed", ["file", "files", "directory"])
def test_a_removed_database_is_created_again(database: Database, path: str, removed: str) -> None:
    insert(database, 1)
    if removed == "directory":
        for name in os.listdir(os.path.dirname(path)):
            os.unlink(os.path.join(os.path.dirname(path), name))
        os.rmdir(os.path.dirname(path))
        os.mkdir(os.path.dirname(path), 0o700)
    else:
        for ending in ("", "-wal", "-shm")[: 1 if removed == "file" else 3]:
            os.unlink(path + ending)
    insert(database, 2)
    insert(database, 3)
    assert database.read("SELECT x FROM t ORDER BY x") == [(2,), (3,)]
    database.close()
    assert rows(path) == [2, 3]


def test_another_process_created_it_again(database: Database, path: str, tmp_path: Path) -> None:
    """A process that has the removed file open must not damage the new one when it detects it."""
    insert(database, 1)
    with Child(tmp_path) as child:
        child.run(SETUP + f"db = Table({path!r}, 5.0)")
        child.run("db.read('SELECT * FROM t')")
        os.unlink(path)
        child.run("with db.transact() as tx: tx.execute('INSERT INTO t VALUES (5)')")
        insert(database, 6)
        database.close()
        child.run("with db.transact() as tx: tx.execute('INSERT INTO t VALUES (7)')")
        assert child.run("db.read('SELECT x FROM t ORDER BY x')") == [[5], [6], [7]]
        assert child.run("db.read('PRAGMA integrity_check')") == [["ok"]]
    assert rows(path) == [5, 6, 7]


def test_the_log_does_not_grow(database: Database, path: str) -> None:
    for value in range(3000):
        insert(database, value)
    assert os.stat(path + "-wal").st_size < 8 << 20


def test_connections_of_ended_threads_are_closed(database: Database) -> None:
    insert(database, 0)
    before = len(os.listdir("/proc/self/fd"))
    for value in range(20):
        thread = threading.Thread(target=insert, args=(database, value))
        thread.start()
        thread.join()
    assert len(os.listdir("/proc/self/fd")) <= before + 3


def test_plain_sqlite_can_read_beside_it(database: Database, path: str) -> None:
    """A reader with the sqlite3 command sees the data and does not block writers."""
    insert(database, 1)
    assert rows(path) == [1]
    insert(database, 2)
    assert rows(path) == [1, 2]
    assert sqlite3.sqlite_version_info >= (3, 35)  # RETURNING
