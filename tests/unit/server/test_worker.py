"""The server polls the store for events, and answers while the store is locked."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jshm.errors import JshmError
from jshm.server import worker as worker_module
from jshm.server.worker import RequestWorker
from jshm.store.local.store import LocalStore

from ...support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .conftest import Api

PRELUDE = "import sqlite3, numpy as np, jshm; from jshm.store import default_store; store = default_store()"


async def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Run the loop until a condition is true."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - another process makes it true
            await asyncio.sleep(0.005)


class Polls:
    """The events that were emitted, and the number of polls and requests so far."""

    def __init__(self) -> None:
        self.events: list[object] = []
        self.count = 0

    async def are_quiet(self) -> bool:
        """Return whether the next polls emit nothing."""
        self.events.clear()
        enough = self.count + 4
        await until(lambda: self.count >= enough)
        return not self.events

    async def settle(self) -> None:
        """Wait until the polls emit nothing."""
        async with asyncio.timeout(30):
            while not await self.are_quiet():
                pass


@pytest.fixture
def child(child_directory: Path, store_dir: str) -> Iterator[Child]:
    with Child(child_directory, "eda.py") as started:
        started.run(PRELUDE)
        yield started


@pytest.fixture
def polls(api: Api, jp_serverapp: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Polls]:
    monkeypatch.setattr(worker_module, "_INTERVAL", 0.02)
    found = Polls()
    run = RequestWorker._run

    async def counted(self: RequestWorker, pool: Any, call: Any) -> Any:
        found.count += 1
        return await run(self, pool, call)

    monkeypatch.setattr(RequestWorker, "_run", counted)

    async def listen(logger: object, schema_id: str, data: dict[str, Any]) -> None:
        found.events.append(data)

    logger = jp_serverapp.event_logger
    logger.add_listener(schema_id=worker_module.SCHEMA, listener=listen)
    yield found
    logger.remove_listener(listener=listen)


@pytest.fixture
def worker(jp_serverapp: Any) -> RequestWorker:
    found: RequestWorker = jp_serverapp.web_app.settings["jshm_worker"]
    return found


# -- events ----------------------------------------------------------------------------------------


async def test_changes_by_other_processes_are_emitted(
    api: Api, served: LocalStore, polls: Polls, child: Child
) -> None:
    assert await api.list() == []
    await polls.settle()
    for code, names in (
        ("store.publish({'X': np.zeros(3)}); None", ["X"]),
        ("x = store.attach(['X'])[0].value; None", ["X"]),
        ("store.publish({'X': np.zeros(4)}); None", ["X"]),
        ("store.release(['X']); None", ["X"]),
        ("del x; store.flush()", []),
        (
            "store.publish({'Y': np.zeros(3)}, keep=True); y = store.attach(['Y'])[0].value; None",
            ["Y"],
        ),
    ):
        polls.events.clear()
        child.run(code)
        await until(lambda: polls.events)
        assert polls.events[0] == {}
        assert await api.list() == names
    await polls.settle()
    child.kill()
    await until(lambda: polls.events)
    (row,) = (await api.get("/segments"))["rows"]
    assert (row["holders"], row["onlyCopy"]) == ([], True)
    await polls.settle()


async def test_the_first_poll_emits_nothing(api: Api, store_dir: str, polls: Polls) -> None:
    assert await api.list() == []
    assert await polls.are_quiet()


async def test_there_are_no_polls_without_requests(
    api: Api, served: LocalStore, polls: Polls, child: Child, worker: RequestWorker
) -> None:
    assert worker._polling is None
    child.run("store.publish({'X': np.zeros(3)}); None")
    assert await api.list() == ["X"]
    polling = worker._polling
    assert polling is not None
    worker._interest = 0.0  # as if the last request was long ago
    await until(polling.done)
    polls.events.clear()
    child.run("store.publish({'Y': np.zeros(3)}); None")
    assert await api.list() == ["X", "Y"]
    child.run("store.publish({'Z': np.zeros(3)}); None")
    await until(lambda: polls.events)
    assert worker._polling is not polling


async def test_an_error_is_emitted_once(
    api: Api, store_dir: str, polls: Polls, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await api.list() == []

    def fail(_store: LocalStore) -> object:
        raise JshmError("as if the directory is no longer safe")

    monkeypatch.setattr(LocalStore, "state", fail)
    await until(lambda: polls.events)
    assert await polls.are_quiet()


# -- while the store is locked ---------------------------------------------------------------------


async def test_the_loop_runs_while_the_store_is_locked(
    api: Api, served: LocalStore, child: Child, jp_fetch: Any
) -> None:
    served.publish({"X": np.zeros(3), "Y": np.zeros(3)})
    assert await api.list() == ["X", "Y"]
    served.housekeeping._next_collection = float("inf")  # it would wait for the lock
    child.run(
        "con = sqlite3.connect(store.directory.registry, isolation_level=None)\n"
        "con.execute('BEGIN IMMEDIATE'); None"
    )
    waiting = [
        asyncio.ensure_future(api("DELETE", "/segments/X")),
        asyncio.ensure_future(api("POST", "/release", {"names": ["Y"]})),
    ]
    for _ in range(3):
        assert (await jp_fetch("api", "status")).code == 200
        assert (await jp_fetch("api", "contents")).code == 200
    assert not any(one.done() for one in waiting)
    assert await api.list() == ["X", "Y"]  # reading takes no lock
    child.run("con.execute('ROLLBACK'); con.close()")
    assert [answer.code for answer in await asyncio.gather(*waiting)] == [200, 200]
    assert served.names() == []


# -- signals ---------------------------------------------------------------------------------------


async def test_a_program_that_runs_a_server_keeps_its_signal_handlers(api: Api) -> None:
    """Only in a process that is a Jupyter server, SIGHUP ends it like Ctrl-C."""
    assert (await api("GET", "/summary")).code == 200
    assert signal.getsignal(signal.SIGHUP) in (signal.SIG_DFL, signal.SIG_IGN)
