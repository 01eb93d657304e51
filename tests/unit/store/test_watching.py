"""``jshm.wait`` and ``watch``, also on event loops.

Waits and watches poll `Store.revision`. The tests count these polls and wait for them instead of for a time.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jshm
from jshm.store import default_store, watching

from ...support.processes import SHORT_LIFE_TOO, TIMEOUT, Child, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jshm.store.base import SegmentInfo
    from jshm.store.local.store import LocalStore

ARRAY = np.arange(3)


@pytest.fixture
def train(store: LocalStore, tmp_path: Path) -> Iterator[Child]:
    """Another process, which publishes."""
    with Child(tmp_path, "train.py") as child:
        child.run("import os, signal, sys, threading, time, jshm, numpy as np; X = np.zeros(3)")
        yield child


class Polls:
    """Counts the polls of a store.

    Attributes
    ----------
    count : int
    act : callable or None
        Called before each poll.
    """

    def __init__(self) -> None:
        self.count = 0
        self.act: Callable[[], object] | None = None

    def more(self, number: int = 3) -> None:
        """Return after `number` more polls that begin now or later."""
        target = self.count + number
        until(lambda: self.count > target)

    async def more_async(self, number: int = 3) -> None:
        """Return after `number` more polls on this event loop."""
        target = self.count + number
        while self.count <= target:  # noqa: ASYNC110 - they happen on this loop
            await asyncio.sleep(0.001)


@pytest.fixture
def polls(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> Polls:
    found, revision = Polls(), type(store).revision

    def counted(self: LocalStore) -> object:
        found.count += 1
        if found.act is not None:
            found.act()
        return revision(self)

    monkeypatch.setattr(type(store), "revision", counted)
    return found


@pytest.fixture(autouse=True)
def _no_watch_is_left() -> Iterator[None]:
    yield
    assert watching._watches == []
    until(lambda: "jshm-watch" not in threads())


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def versions(infos: list[SegmentInfo]) -> list[int]:
    return [info.version for info in infos]


# -- wait ------------------------------------------------------------------------------------------


def test_wait_returns_what_is_new_enough(store: LocalStore, train: Child) -> None:
    train.run("jshm.publish('X', X)")
    found = jshm.wait("X")
    assert (found.name, found.version, found.publisher) == ("X", 1, "train.py")
    with ThreadPoolExecutor(2) as pool:
        newer = pool.submit(jshm.wait, "X", newer_than=1)
        both = pool.submit(jshm.wait, ("X", "exp/y"))
        train.run("jshm.publish('X', X); jshm.publish('exp/y', X)")
        assert newer.result().version == 2
        assert [(info.name, info.version) for info in both.result()] == [("X", 2), ("exp/y", 1)]
    assert jshm.wait([]) == []


def test_a_timeout_names_what_is_missing(store: LocalStore) -> None:
    jshm.publish({"X": ARRAY, "y": ARRAY})
    with pytest.raises(jshm.WaitTimeoutError) as caught:
        jshm.wait(["X", "z", "y"], newer_than=1, timeout=0.01)
    said = str(caught.value)
    assert said.startswith("waited 0.01 s: X is still v1; nothing is shared under 'z'")
    assert said.endswith("y is still v1. See what is shared: jshm.segments()")
    with pytest.raises(jshm.WaitTimeoutError, match=r"'n4'; and 3 more\. See what is shared: "):
        jshm.wait([f"n{number}" for number in range(8)], timeout=0)
    jshm.release("X")
    with pytest.raises(jshm.WaitTimeoutError, match="any more: it was released"):
        jshm.wait("X", timeout=0)
    with pytest.raises(jshm.InvalidNameError):
        jshm.wait("no name", timeout=0)
    with pytest.raises(TypeError):
        jshm.wait("X", newer_than="1", timeout=0)  # type: ignore[call-overload]


def test_several_versions_are_those_of_one_moment(store: LocalStore, train: Child) -> None:
    """Both are published in one transaction and never seen apart."""
    train.send("""
for _ in range(60):
    jshm.publish({"a": X, "b": X})
""")
    newest = 0
    while newest < 60:
        a, b = jshm.wait(["a", "b"], newer_than=newest, timeout=30)
        assert a.version == b.version > newest
        newest = a.version
    train.receive()


def test_the_first_poll_after_a_publish_ends_a_wait(
    store: LocalStore, train: Child, polls: Polls
) -> None:
    """A wait polls every ten milliseconds, so it wakes within 20 ms of the publish."""
    assert watching.INTERVAL <= 0.01
    with ThreadPoolExecutor(1) as pool:
        for version in range(1, 22):
            waiting = pool.submit(jshm.wait, "X", newer_than=version - 1)
            polls.more(1)
            train.run("jshm.publish('X', X)")
            published = polls.count
            assert waiting.result().version == version
            assert polls.count <= published + 1


def test_ctrl_c_ends_a_wait(store: LocalStore, polls: Polls) -> None:
    def interrupt() -> None:
        if polls.count == 3:
            os.kill(os.getpid(), signal.SIGINT)

    polls.act = interrupt
    with pytest.raises(KeyboardInterrupt):
        jshm.wait("X")
    assert polls.count == 3


# -- watch -----------------------------------------------------------------------------------------


def test_watch_calls_for_new_versions(store: LocalStore, train: Child) -> None:
    train.run("jshm.publish('X', X)")
    seen: list[SegmentInfo] = []
    older: list[SegmentInfo] = []
    with (
        jshm.watch("X", seen.append) as watch,
        jshm.watch("X", older.append, newer_than=0),
        jshm.watch("X", older.append, newer_than=1),
    ):
        assert repr(watch) == "<watch of X>"
        assert threads().count("jshm-watch") == 1
        until(lambda: older)
        assert seen == []
        train.run("jshm.publish('X', X)")
        until(lambda: len(seen) == 1 and len(older) == 3)
    assert versions(seen) == [2]
    assert versions(older) == [1, 2, 2]
    assert isinstance(seen[0], jshm.SegmentInfo)
    assert repr(watch) == "<watch of X, stopped>"
    watch.stop()
    until(lambda: "jshm-watch" not in threads())
    train.run("jshm.publish('X', X)")
    assert len(seen) == 1


def test_a_watch_continues_after_a_release(store: LocalStore, polls: Polls) -> None:
    seen: list[SegmentInfo] = []
    with jshm.watch("X", seen.append):
        for _ in range(2):
            jshm.publish("X", ARRAY)  # by this process
            until(lambda: seen)
            jshm.release("X")
            polls.more()
            assert len(seen) == 1
            seen.clear()
        jshm.publish("other", ARRAY)
        jshm.publish("X", ARRAY)
        until(lambda: seen)
    assert versions(seen) == [3]


def test_a_slow_callback_gets_the_newest(store: LocalStore) -> None:
    seen = []
    go = threading.Event()

    def slow(info: SegmentInfo) -> None:
        seen.append(info.version)
        assert go.wait(TIMEOUT)

    with jshm.watch("X", slow):
        jshm.publish("X", ARRAY)
        until(lambda: seen)
        for _ in range(50):
            jshm.publish("X", ARRAY)
        go.set()
        until(lambda: seen[-1] == 51)
    assert seen == [1, 51]


def test_the_first_poll_after_a_publish_calls_a_watch(
    store: LocalStore, train: Child, polls: Polls
) -> None:
    called: list[int] = []
    with jshm.watch("X", lambda _: called.append(polls.count)):
        for count in range(1, 22):
            train.run("jshm.publish('X', X)")
            published = polls.count
            until(lambda count=count: len(called) == count)  # type: ignore[misc]
            assert called[-1] <= published + 1


def test_a_callback_that_raises_is_shown_once_and_called_again(
    store: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    good: list[SegmentInfo] = []
    calls = []

    def bad(info: SegmentInfo) -> None:
        calls.append(info.version)
        if info.version == 3:
            raise SystemExit
        raise ValueError(f"no version {info.version}")

    with jshm.watch("X", bad), jshm.watch("X", good.append):
        for number in range(1, 5):
            jshm.publish("X", ARRAY)
            until(lambda number=number: len(calls) == len(good) == number)  # type: ignore[misc]
    said = capsys.readouterr().err
    assert said.count("Traceback") == 2
    assert "ValueError: no version 1" in said
    assert "in bad" in said
    assert said.count("jshm.watch('X')") == 2
    assert "no version 2" not in said
    assert "SystemExit" in said


def test_a_callback_may_stop_its_own_watch_and_start_others(
    store: LocalStore, polls: Polls
) -> None:
    seen = []

    def once(info: SegmentInfo) -> None:
        seen.append(info.version)
        watch.stop()
        more.append(jshm.watch("X", lambda info: seen.append(-info.version)))

    more: list[Any] = []
    watch = jshm.watch("X", once)
    for _ in range(2):
        jshm.publish("X", ARRAY)
        until(lambda: more)
        polls.more()
    until(lambda: len(seen) == 2)
    more[0].stop()
    assert seen == [1, -2]


def test_callbacks_that_are_refused(store: LocalStore) -> None:
    async def coroutine(_: SegmentInfo) -> None: ...

    for wrong, said in (("print", "must be a function"), (coroutine, "no event loop runs here")):
        with pytest.raises(TypeError, match=said):
            jshm.watch("X", wrong)  # type: ignore[arg-type]
    with pytest.raises(jshm.InvalidNameError):
        jshm.watch("X*", print)


def test_a_forked_child_has_no_watches(store: LocalStore, train: Child) -> None:
    train.run("import warnings; warnings.simplefilter('ignore')")  # a fork with threads
    train.run("""
seen = []
watch = jshm.watch("X", lambda info: seen.append(info.version))
child = os.fork()
if not child:
    status = 1
    try:
        names = [thread.name for thread in threading.enumerate()]
        watch.stop()
        jshm.publish("X", X)
        fresh = []
        with jshm.watch("X", lambda info: fresh.append(info.version), newer_than=0):
            while not fresh: time.sleep(0.01)
        status = 0 if names == ["MainThread"] and not seen else 2
    finally:
        os._exit(status)
status = os.waitpid(child, 0)[1]
""")
    assert train.run("status") == 0
    until(lambda: train.run("seen") == [1])
    assert train.run("repr(watch)") == "<watch of X>"
    train.exit()


def test_the_directory_is_deleted_and_made_again(
    store: LocalStore, train: Child, tmp_path: Path, polls: Polls
) -> None:
    seen: list[tuple[str, int]] = []
    train.run("for _ in range(3): jshm.publish('X', X)")
    with jshm.watch("X", lambda info: seen.append((info.publisher, info.version))):
        train.run("jshm.publish('X', X)")
        until(lambda: seen == [("train.py", 4)])
        train.kill()
        shutil.rmtree(
            store.directory.root, ignore_errors=True
        )  # a poll may create it again meanwhile
        polls.more()
        with Child(tmp_path, "other.py") as other:  # it knows nothing of the old directory
            for count in (2, 3):
                other.run("import jshm; jshm.publish('X', [1, 2])")
                until(lambda count=count: len(seen) == count)  # type: ignore[misc]
    assert seen == [("train.py", 4), ("other.py", 1), ("other.py", 2)]


def test_versions_that_come_back_after_a_deletion_are_not_new(
    store: LocalStore, train: Child, polls: Polls
) -> None:
    train.run("jshm.publish('X', X)")
    seen: list[SegmentInfo] = []
    held = jshm.attach("X")
    with jshm.watch("X", seen.append):
        shutil.rmtree(store.directory.root)
        polls.more()
        with pytest.warns(jshm.DirectoryLostWarning):
            jshm.segments()
        assert jshm.info("X").version == 1
        polls.more()
        assert seen == []
        jshm.publish("X", ARRAY, replace=True)
        until(lambda: seen)
    assert versions(seen) == [2]
    assert held.sum() == 0


def test_a_store_that_cannot_be_read_is_reported_once_and_polled_again(
    store: LocalStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[SegmentInfo] = []
    looks = 0

    def broken(_: object) -> object:
        nonlocal looks
        looks += 1
        raise jshm.RegistryError("the disk is on fire")

    with jshm.watch("X", seen.append):
        with monkeypatch.context() as patch:
            patch.setattr(type(store.registry), "data_version", broken)
            until(lambda: looks > 3)
        jshm.publish("X", ARRAY)
        until(lambda: seen)
    assert capsys.readouterr().err.count("RegistryError: the disk is on fire") == 1


def test_watches_of_several_stores(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A watch, and what its callback does, belong to the store that was the default at its start."""
    seen: list[tuple[str, str]] = []

    def note(info: SegmentInfo) -> None:
        seen.append((info.name, default_store().directory.root))

    with jshm.watch("X", note):
        jshm.publish("X", ARRAY)
        until(lambda: seen)
        chosen: Any = jshm.store.chosen_group
        token = chosen.set("")
        try:
            jshm.watch("Y", lambda _: seen.append(("Y", chosen.get()))).name  # noqa: B018
        finally:
            chosen.reset(token)
        jshm.publish("Y", ARRAY)
        until(lambda: len(seen) == 2)
        watching._watches[-1].stop()
    assert seen == [("X", store.directory.root), ("Y", "")]


@pytest.mark.parametrize(
    "end",
    ["", "sys.exit()", "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)"],
    ids=["end", "exit", "SIGTERM"],
)
def test_a_program_with_watches_ends_quietly(store_dir: str, tmp_path: Path, end: str) -> None:
    import subprocess
    import sys

    script = tmp_path / "watcher.py"
    script.write_text(f"""
import asyncio, os, signal, sys, time, jshm, numpy as np
jshm.watch("X", lambda info: time.sleep(0.2))
jshm.watch("Y", print)
jshm.publish("X", np.zeros(3))
async def main():
    done = asyncio.Event()
    async def called(info):
        print("called", info.version)
        done.set()
    jshm.watch("Z", called)
    jshm.publish("Z", np.zeros(3))
    await done.wait()
asyncio.run(main())
{end}
""")
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-W", SHORT_LIFE_TOO, str(script)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout == "called 1\n" if "SIGTERM" not in end else "called" not in done.stderr
    assert done.returncode == (-signal.SIGTERM if "SIGTERM" in end else 0)


# -- event loops -----------------------------------------------------------------------------------


def test_waits_on_a_loop_run_side_by_side(store: LocalStore, train: Child, polls: Polls) -> None:
    async def main() -> None:
        before = threads()
        waits = [asyncio.create_task(jshm.wait_async(name, timeout=30)) for name in "XY"]
        both = asyncio.create_task(jshm.wait_async(["X", "Y"], newer_than=1, timeout=30))
        await polls.more_async(6)
        assert not any(task.done() for task in waits)
        assert threads() == before
        train.run("jshm.publish({'X': X, 'Y': X})")
        assert versions(await asyncio.gather(*waits)) == [1, 1]
        train.run("jshm.publish({'X': X, 'Y': X})")
        assert versions(await both) == [2, 2]
        with pytest.raises(jshm.WaitTimeoutError, match="X is still v2"):
            await jshm.wait_async("X", newer_than=2, timeout=0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await jshm.wait_async("X", newer_than=2)

    asyncio.run(main())


def test_watch_async_yields_each_new_version(store: LocalStore, train: Child) -> None:
    async def main() -> None:
        train.run("jshm.publish('X', X)")
        news = jshm.watch_async("X")
        train.run("jshm.publish('X', X)")  # since the call, not since the first `async for`
        seen = []
        async for info in news:
            seen.append(info.version)
            if info.version == 4:
                break
            train.run("jshm.publish('X', X)")
        assert seen == [2, 3, 4]
        assert (await anext(jshm.watch_async("X", newer_than=0))).version == 4

        async def for_ever() -> None:
            async for _ in jshm.watch_async("X"):
                pass

        task = asyncio.create_task(for_ever())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_a_fast_publisher_does_not_keep_the_loop_from_other_tasks(store: LocalStore) -> None:
    async def main() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        jshm.publish("X", ARRAY)
        news, count = jshm.watch_async("X", newer_than=0), 0
        async for _ in news:
            jshm.publish("X", ARRAY)  # there is always one more
            count += 1
            if count == 5:
                break
        assert ticks > 5
        ticking.cancel()

    asyncio.run(main())


def test_a_coroutine_function_is_called_on_the_loop(
    store: LocalStore, train: Child, polls: Polls, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        seen = []

        async def called(info: SegmentInfo) -> None:
            assert threading.current_thread() is threading.main_thread()
            seen.append(info.version)
            await asyncio.sleep(0)
            if info.version == 1:
                raise ValueError("not this one")

        class Callable:
            async def __call__(self, info: SegmentInfo) -> None:
                seen.append(-info.version)

        with jshm.watch("X", called), jshm.watch("X", Callable()):
            assert "jshm-watch" not in threads()
            for _ in range(2):
                before = len(seen)
                train.run("jshm.publish('X', X)")
                while len(seen) < before + 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
                await polls.more_async(6)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait(tasks, timeout=10)
        assert all(task.cancelled() for task in tasks)
        assert sorted(seen) == [-2, -1, 1, 2]

    asyncio.run(main())
    assert capsys.readouterr().err.count("ValueError: not this one") == 1


def test_a_watch_on_a_loop_ends_with_it(store: LocalStore) -> None:
    async def called(_: SegmentInfo) -> None: ...

    async def main() -> jshm.Watch:
        return jshm.watch("X", called)

    watch = asyncio.run(main())
    assert repr(watch) == "<watch of X, stopped>"
    watch.stop()


def test_one_poll_serves_all_watches(
    store: LocalStore, polls: Polls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred watches of a quiet store cost as much as one."""
    rounds, reads = [0], [0]

    def sleep(seconds: float) -> None:
        rounds[0] += 1
        time.sleep(seconds)

    def current(*_: object) -> dict[str, SegmentInfo]:
        reads[0] += 1
        return {}

    watches = [jshm.watch(f"n{number}", print) for number in range(100)]
    polls.more()
    monkeypatch.setattr(watching, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    monkeypatch.setattr(type(store), "current", current)
    until(lambda: rounds[0] > 1)
    before = polls.count - rounds[0]
    until(lambda: rounds[0] > 20)
    assert abs(polls.count - rounds[0] - before) <= 1
    assert reads[0] == 0
    for watch in watches:
        watch.stop()
