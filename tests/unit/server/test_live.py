"""Events, requests while the store is locked, and releases that are taken back: what takes time."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jshm.server import desk as desks
from jshm.store import default_store
from jshm.store.local.store import LocalStore

from ...conftest import make_older
from ...support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .conftest import Api

PRELUDE = "import sqlite3, numpy as np, jshm; from jshm.store import default_store; store = default_store()"


async def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Let the loop run until something is so."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - of another process, which sets no event
            await asyncio.sleep(0.005)


async def quiet(events: list[object]) -> None:
    """Check that nothing is told for several looks."""
    events.clear()
    await asyncio.sleep(0.4)
    assert events == []


async def calm(events: list[object]) -> None:
    """Wait until nothing is told any more."""
    async with asyncio.timeout(30):
        told = True
        while told:
            events.clear()
            await asyncio.sleep(0.4)
            told = bool(events)


@pytest.fixture
def child(child_directory: Path, store_dir: str) -> Iterator[Child]:
    with Child(child_directory, "eda.py") as started:
        started.run(PRELUDE)
        yield started


@pytest.fixture
def events(api: Api, jp_serverapp: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """What was told to all who listen."""
    monkeypatch.setattr(desks, "_INTERVAL", 0.05)
    told: list[object] = []

    async def listen(logger: object, schema_id: str, data: dict[str, Any]) -> None:
        told.append(data)

    logger = jp_serverapp.event_logger
    logger.add_listener(schema_id=desks.SCHEMA, listener=listen)
    yield told
    logger.remove_listener(listener=listen)


@pytest.fixture
def desk(jp_serverapp: Any) -> desks.Desk:
    found: desks.Desk = jp_serverapp.web_app.settings["jshm_desk"]
    return found


# -- events ----------------------------------------------------------------------------------------


async def test_what_others_do_is_told(
    api: Api, served: LocalStore, events: list[object], child: Child
) -> None:
    assert await api.list() == []
    await calm(events)
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
        events.clear()
        child.run(code)
        await until(lambda: events)
        assert events[0] == {}
        assert await api.list() == names
    await calm(events)
    child.kill()
    await until(lambda: events)
    (row,) = (await api.get("/segments"))["rows"]
    assert (row["holders"], row["onlyCopy"]) == ([], True)
    await calm(events)
    await quiet(events)


async def test_the_first_look_tells_nothing(api: Api, store_dir: str, events: list[object]) -> None:
    assert await api.list() == []
    await quiet(events)


async def test_nobody_looks_while_nobody_asks(
    api: Api, served: LocalStore, events: list[object], child: Child, desk: desks.Desk
) -> None:
    assert desk._watching is None
    child.run("store.publish({'X': np.zeros(3)}); None")
    await quiet(events)
    assert await api.list() == ["X"]
    watching = desk._watching
    assert watching is not None
    desk._interest = 0.0  # as when the last request was long ago
    await until(watching.done)
    child.run("store.publish({'Y': np.zeros(3)}); None")
    await quiet(events)
    assert await api.list() == ["X", "Y"]
    child.run("store.publish({'Z': np.zeros(3)}); None")
    await until(lambda: events)
    assert desk._watching is not watching


async def test_what_is_broken_is_told_once(
    api: Api,
    store_dir: str,
    events: list[object],
    monkeypatch: pytest.MonkeyPatch,
    desk: desks.Desk,
) -> None:
    assert await api.list() == []

    def fail(_store: LocalStore) -> object:
        raise desks.JshmError("as when the directory is not safe any more")

    monkeypatch.setattr(LocalStore, "state", fail)
    await until(lambda: events)
    await quiet(events)


# -- while the store is locked ---------------------------------------------------------------------


async def test_the_loop_runs_while_the_store_is_locked(
    api: Api, served: LocalStore, child: Child, jp_fetch: Any
) -> None:
    served.publish({"X": np.zeros(3), "Y": np.zeros(3)})
    assert await api.list() == ["X", "Y"]
    served.housekeeping._next_collection = float("inf")  # reaping would wait, and the list with it
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


# -- undo ------------------------------------------------------------------------------------------


async def test_released_and_restored(
    api: Api, served: LocalStore, segments: Callable[[], dict[str, int]], child: Child
) -> None:
    served.publish({"exp1/X": np.arange(100.0), "Y": np.zeros(3)}, note="n")
    before = {r["name"]: r for r in (await api.get("/segments"))["rows"]}
    (done,) = (await api("POST", "/release", {"names": ["exp1/X"], "undo": 60})).json
    assert (done["undoable"], done["freed"], done["nbytes"]) == (True, 0, 800)
    assert await api.list() == child.run("store.names()") == ["Y"]
    assert (await api("GET", "/segments/exp1/X")).code == 404
    assert (await api("GET", "/previews/exp1/X")).code == 404
    assert len(segments()) == 2
    used = (await api.get("/summary"))["used"]
    assert (await api("POST", "/restore", {"names": ["exp1/X"]})).json == ["exp1/X"]
    after = {r["name"]: r for r in (await api.get("/segments"))["rows"]}
    assert after == before
    assert (await api.get("/summary"))["used"] == used
    assert (await api("POST", "/restore", {"names": ["exp1/X"]})).code == 404
    # All or none.
    await api("POST", "/release", {"names": ["exp1/X", "Y"], "undo": 60})
    child.run("store.publish({'Y': np.ones(3)}); None")
    refused = await api("POST", "/restore", {"names": ["exp1/X", "Y"]})
    assert (refused.code, refused.json["reason"]) == (409, "refused")
    assert "Y was published again" in refused.json["message"]
    assert await api.list() == ["Y"]
    assert (await api("POST", "/restore", {"names": ["exp1/X"]})).code == 200
    assert await api.list() == ["exp1/X", "Y"]
    # The unused can be taken back too.
    make_older(served)
    done = (await api("POST", "/release", {"unused": True, "undo": 60})).json
    assert [one["undoable"] for one in done] == [True, True]
    assert (await api("POST", "/restore", {"names": ["Y", "exp1/X"]})).json == ["Y", "exp1/X"]


async def test_the_memory_goes_when_the_time_is_over(
    api: Api, served: LocalStore, segments: Callable[[], dict[str, int]]
) -> None:
    served.publish({"X": np.zeros(1000), "Y": np.zeros(3), "Z": np.zeros(3)})
    assert (await api("DELETE", "/segments/X?undo=0.05")).json["undoable"]
    (done,) = (await api("POST", "/release", {"names": ["Y"], "undo": 0.05})).json
    assert done["undoable"]
    assert len(segments()) == 3
    await until(lambda: len(segments()) == 1)  # nobody asked for anything
    assert (await api("POST", "/restore", {"names": ["X"]})).code == 404
    assert (await api("DELETE", "/segments/Z")).json["freed"] == 24
    assert segments() == {}


async def test_what_can_be_taken_back_is_told_when_it_goes(
    api: Api, served: LocalStore, events: list[object]
) -> None:
    served.publish({"X": np.zeros(1000)})
    await api.list()
    await api("DELETE", "/segments/X?undo=0.7")
    await until(lambda: events)
    assert (await api.get("/summary"))["used"] == 8000
    events.clear()
    await until(lambda: events)
    await until(lambda: default_store().space().unnamed == 0)
    assert (await api.get("/summary"))["used"] == 0


async def test_released_by_another_after_it_was_published_again(
    api: Api, served: LocalStore, child: Child
) -> None:
    served.publish({"X": np.arange(1000.0)})
    await api("DELETE", "/segments/X?undo=60")
    child.run("store.publish({'X': np.ones(10)}); store.release(['X']); None")
    answer = await api("POST", "/restore", {"names": ["X"]})
    names = await api.list()
    assert names == (answer.json if answer.code == 200 else [])
    for name in names:
        assert (await api("GET", f"/previews/{name}")).code == 200


async def test_the_signals_of_a_program_that_runs_a_server_are_its_own(api: Api) -> None:
    """A server that is a whole process handles SIGTERM itself, and SIGHUP then ends it as Ctrl-C would."""
    assert (await api("GET", "/summary")).code == 200
    assert signal.getsignal(signal.SIGHUP) in (signal.SIG_DFL, signal.SIG_IGN)
