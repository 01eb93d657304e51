"""Signal handlers and finalizers at any instruction of jshm may use it and may raise."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jshm
from jshm.errors import RegistryError
from jshm.ipython.arguments import Parser
from jshm.store import watching
from jshm.store.local.registry import files as registry_files
from jshm.system import signals

from ...support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType

    from jshm.store.local.store import LocalStore

SMALL, LARGE = np.arange(10.0), np.full(300_000, 1.0)
POINTS = 40
"""Number of instructions of an operation, evenly spread, at which the action is called."""


class Thing:
    def __init__(self) -> None:
        self.values = np.arange(4.0)


class TimeIsUpError(TimeoutError):
    """An error that a user's handler raises: an OSError, which jshm also expects from files."""


class At:
    """A trace function that calls an action once, before the n-th instruction of Python code."""

    def __init__(self, number: int, action: Callable[[], object]) -> None:
        self.left = number
        self.action = action
        self.where = ""

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        # Neither the test itself, nor an import that happens once, nor the lookup of an environment variable:
        # an exception from here in its `except KeyError` leaks the frame.
        file = frame.f_code.co_filename
        if file == __file__ or "importlib" in file or file.startswith("<frozen"):
            return None
        frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event in ("opcode", "line"):  # Python 3.12 may report lines only
            self.left -= 1
            if not self.left:
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                sys.settrace(None)
                self.action()
        return self._step


def run(operation: Callable[[], object], at: At) -> None:
    before = sys.gettrace()
    sys.settrace(at)
    try:
        operation()
    finally:
        sys.settrace(before)


def everywhere(operation: Callable[[], object], action: Callable[[], object]) -> Iterator[At]:
    """Yield trace functions that call the action at instructions from the first to the last."""
    for _ in range(3):
        operation()
    last = At(1 << 60, lambda: None)
    run(operation, last)
    total = (1 << 60) - last.left
    assert total > POINTS
    for number in range(1, total, max(1, total // POINTS)):
        yield At(number, action)


def publish_object() -> None:
    jshm.publish("o", {"x": SMALL, "y": LARGE, "z": Thing()})


def attach_objects() -> None:
    jshm.attach(["a", "o"])


def attach_new() -> None:
    jshm.publish("n", SMALL)
    assert jshm.attach("n")[-1] == 9
    jshm.attach("n", "c")[0] = 3


def allocate() -> None:
    array = jshm.empty(1000)
    array[:] = 1
    jshm.publish("e", array)


def lock() -> None:
    with jshm.lock("l"):
        pass


def release() -> None:
    jshm.publish("r", SMALL)
    jshm.release("r")


def watch() -> None:
    jshm.watch("a", print).stop()


def look() -> None:
    jshm.segments()
    str(jshm.info("o"))
    jshm.wait("a", timeout=1)


def pickle() -> None:
    jshm.loads(jshm.dumps({"x": LARGE, "y": Thing()}))


PARSER = Parser("shm_info", "NAME")
OPERATIONS: dict[str, Callable[[], object]] = {
    "publish": lambda: jshm.publish("b", SMALL),
    "publish into a spare": lambda: jshm.publish("b", LARGE),
    "publish an object": publish_object,
    "attach": attach_objects,
    "attach what is new": attach_new,
    "allocate": allocate,
    "lock": lock,
    "release": release,
    "look": look,
    "collect": jshm.gc,
    "watch": watch,
    "pickle": pickle,
    "read the line of a magic": lambda: PARSER.parse("X Y"),
}


def use() -> None:
    """Use many operations of jshm."""
    jshm.publish("s", SMALL)
    jshm.publish("large", LARGE)
    jshm.publish("so", {"thing": Thing()})
    assert jshm.attach("s")[-1] == 9
    jshm.attach("o")
    jshm.segments()
    jshm.release("s")
    with jshm.lock("another"):
        jshm.empty(10)


@pytest.fixture
def published(store: LocalStore) -> Iterator[LocalStore]:
    jshm.publish({"a": np.arange(3.0), "o": {"x": SMALL}})
    yield store
    watching._stop_all()  # a watch that was interrupted at its start is left over


@pytest.fixture
def handle() -> Iterator[Callable[[Callable[[], object]], None]]:
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}

    def install(action: Callable[[], object], number: int = signal.SIGUSR1) -> None:
        signal.signal(number, lambda *_: action())

    yield install
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_handler_uses_jshm_anywhere(published: LocalStore, handle: Any, name: str) -> None:
    calls = []

    def act() -> None:
        calls.append(1)
        use()

    handle(act)
    handler = signal.getsignal(signal.SIGUSR1)
    for at in everywhere(OPERATIONS[name], lambda: signal.raise_signal(signal.SIGUSR1)):
        calls.clear()
        run(OPERATIONS[name], at)
        assert len(calls) == bool(at.where), at.where
        assert signal.getsignal(signal.SIGUSR1) is handler
    assert jshm.check() == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeIsUpError])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_exception_of_a_handler_anywhere_is_raised(
    published: LocalStore, handle: Any, name: str, error: type[BaseException]
) -> None:
    def act() -> None:
        raise error

    handle(act)
    handler = signal.getsignal(signal.SIGUSR1)
    for at in everywhere(OPERATIONS[name], lambda: signal.raise_signal(signal.SIGUSR1)):
        arrived = False
        try:
            run(OPERATIONS[name], at)
        except error:
            arrived = True
        assert arrived == bool(at.where), at.where
        assert signal.getsignal(signal.SIGUSR1) is handler
    assert jshm.check() == []
    OPERATIONS[name]()


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_finalizer_uses_jshm_anywhere_or_is_refused(published: LocalStore, name: str) -> None:
    """The garbage collector calls finalizers anywhere, and nothing can defer that."""
    refused = []

    def act() -> None:
        try:
            use()
        except RegistryError as error:
            refused.append(str(error))

    for at in everywhere(OPERATIONS[name], act):
        run(OPERATIONS[name], at)
    assert {text[:50] for text in refused} <= {signals.NESTED[:50]}
    assert jshm.check() == []


def test_a_finalizer_commits_while_the_log_is_checked(
    published: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is longer than at the last look, which must not count as an older log put back."""
    number = registry_files._number

    def commit_first(*of: Any) -> int:
        monkeypatch.setattr(registry_files, "_number", number)
        jshm.publish("n", SMALL)
        jshm.publish("n", SMALL)  # which reads the changes of the first one
        return number(*of)

    files = published.registry._connection().files
    monkeypatch.setattr(registry_files, "_number", commit_first)
    assert not files._has_older_log()
    assert not files._has_older_log()


FIRST_USE = """
import signal, sys
import numpy as np, jshm
signal.signal(signal.SIGUSR1, lambda *_: jshm.publish("checkpoint", np.zeros(3)))
def signal_in_first_import(frame, event, argument):
    if frame.f_code.co_name == "<module>":
        sys.settrace(None)
        signal.raise_signal(signal.SIGUSR1)
sys.settrace(signal_in_first_import)
jshm.publish("X", np.zeros(3))
print(jshm.attach("checkpoint"), jshm.attach("X"))
"""


def test_a_handler_uses_jshm_in_the_imports_of_the_first_use(store_dir: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FIRST_USE], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[0. 0. 0.] [0. 0. 0.]\n", "")


# -- Ctrl-C at random times ------------------------------------------------------------------------


@pytest.fixture
def alarm(monkeypatch):
    """SIGALRM raises KeyboardInterrupt as SIGINT does, which xdist's workers use themselves."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


# An interrupt between `open` and its `with` leaves an open file to the garbage collector, which warns.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("size", [100, 300_000])
def test_ctrl_c_anywhere_in_a_publish_loses_nothing(
    store: LocalStore, tmp_path: Path, alarm: None, size: int
) -> None:
    array = np.arange(float(size))
    jshm.publish("X", array)
    chance = random.Random(7)
    descriptors = len(os.listdir("/proc/self/fd"))
    took = []
    for _ in range(5):
        began = time.monotonic()
        jshm.publish("X", array)
        took.append(time.monotonic() - began)
    usual = min(took)
    interrupted = 0
    for _ in range(150):
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 1.5 * usual))
            jshm.publish("X", array)
            signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            interrupted += 1
        np.testing.assert_array_equal(jshm.attach("X")[-3:], array[-3:])
    assert interrupted > 20
    assert len(os.listdir("/proc/self/fd")) < descriptors + 5
    with_lock = store.registry._connection().raw
    assert with_lock is not None
    assert not with_lock.in_transaction
    with Child(tmp_path) as other:
        other.run("import jshm, numpy as np")
        other.run("jshm.publish('Y', np.zeros(3))")
    jshm.gc()
