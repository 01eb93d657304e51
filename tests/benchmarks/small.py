"""How long a small array takes, also at worst: percentiles, against what any registry must do."""

from __future__ import annotations

import dataclasses
import itertools
import os
import sqlite3
from typing import TYPE_CHECKING, Self

import numpy as np

import jshm
from jshm.store import default_store

from .attach import map_file
from .measure import JSHM, LIMIT, Result, Target, each, latencies

if TYPE_CHECKING:
    from collections.abc import Callable

_NBYTES = 1000
_TIMES = 200
# The machine on which 60 and 25 µs were asked for opens and maps a file in 5 µs.
_MOST = {"publish": 60 / 5, "attach": 25 / 5}


def measure(place: str, rounds: int) -> list[Result]:
    """Measure `jshm.publish` and `jshm.attach` of 1 kB."""
    array = np.arange(_NBYTES // 8, dtype=float)

    def publish() -> None:
        jshm.publish("small", array)

    kept = os.path.join(place, "kept")
    np.save(kept, array)
    publish()
    attaching = latencies(
        "attach 1 kB (limit: `open` and `mmap`)",
        {
            JSHM: each(lambda: jshm.attach("small"), times=_TIMES),
            LIMIT: each(lambda: map_file(f"{kept}.npy"), times=_TIMES),
        },
        2 * rounds,
    )
    with Floor(os.path.join(place, "floor")) as floor:
        floor.statements = _statements(publish)
        publishing = latencies(
            "publish 1 kB (limit: such a file and transaction)",
            {JSHM: each(publish, times=_TIMES), LIMIT: each(floor.publish, times=_TIMES)},
            2 * rounds,
        )
    jshm.release("small")
    opening = attaching[0].seconds[LIMIT]
    return [
        *_with_target("publish", publishing, opening),
        *_with_target("attach", attaching, opening),
    ]


def _with_target(verb: str, results: list[Result], opening: float) -> list[Result]:
    most = _MOST[verb]
    target = Target(
        f"≤ {most:g} × `open` and `mmap` ({5 * most:g} µs where those take 5)",
        results[0].seconds[JSHM] / opening,
        most,
    )
    keyed = [dataclasses.replace(result, key=f"small {verb}") for result in results]
    return [dataclasses.replace(keyed[0], targets=(target,)), *keyed[1:]]


def _statements(publish: Callable[[], object]) -> list[str]:
    """Return the first word of each statement of the transactions of one publish."""
    found: list[str] = []
    connection = default_store().registry._connection().raw
    connection.set_trace_callback(found.append)
    try:
        publish()
    finally:
        connection.set_trace_callback(None)
    return [statement.split()[0] for statement in found]


class Floor:
    """The minimum: a file of the same size, and a transaction with as many statements.

    Attributes
    ----------
    statements : list of str
        The first word of each; what they say is the simplest that there is.
    """

    _SQL = {  # noqa: RUF012 - never changed
        "SELECT": "SELECT value FROM rows WHERE key = ?",
        "INSERT": "INSERT INTO rows VALUES (?, '') ON CONFLICT(key) DO UPDATE SET value = ''",
        "UPDATE": "UPDATE rows SET value = '' WHERE key = ?",
        "DELETE": "DELETE FROM rows WHERE key = ?",
    }

    def __init__(self, place: str) -> None:
        os.mkdir(place)
        self.statements = ["SELECT", "INSERT", "INSERT", "DELETE"]
        self._place = place
        self._old = ""
        self._numbers = itertools.count()
        self._data = bytes(_NBYTES)
        self._database = sqlite3.connect(os.path.join(place, "rows.db"), isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("CREATE TABLE rows(key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._database.close()

    def publish(self) -> None:
        """Create, write, rename; the transaction; unlink the last one."""
        path = os.path.join(self._place, str(next(self._numbers)))
        fd = os.open(f"{path}.new", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.pwrite(fd, self._data, 0)
        os.close(fd)
        os.rename(f"{path}.new", path)
        self.transact()
        if self._old:
            os.unlink(self._old)
        self._old = path

    def transact(self) -> None:
        """Run one transaction; its keys are new, as versions are."""
        execute, key = self._database.execute, str(next(self._numbers))
        execute("BEGIN IMMEDIATE")
        for word in self.statements:
            if word in self._SQL:
                execute(self._SQL[word], (key,)).fetchall()
        execute("COMMIT")
