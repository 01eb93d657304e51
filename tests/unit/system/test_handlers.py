"""Handlers of signals, and finalizers, between any two instructions of jshm: they may use it, and raise."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jshm
from jshm.errors import RegistryError
from jshm.ipython.arguments import Parser
from jshm.store import watching
from jshm.store.local.registry import files as registry_files
from jshm.system import signals as interrupts
from jshm.system.signals import Guard, Order
from jshm.system.weak import WeakKeys, WeakSet, WeakValues

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from jshm.store.local.store import LocalStore

SMALL, LARGE = np.arange(10.0), np.full(300_000, 1.0)
POINTS = 40
"""Instructions of an operation that are tried, evenly spread."""


class Thing:
    def __init__(self) -> None:
        self.values = np.arange(4.0)


class TimeIsUpError(TimeoutError):
    """What handlers of users raise: an OSError, which jshm expects from files."""


class At:
    """Calls an action once, before the n-th instruction that Python code executes."""

    def __init__(self, number: int, action: Callable[[], object]) -> None:
        self.left = number
        self.action = action
        self.where = ""

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename == __file__ or "importlib" in frame.f_code.co_filename:
            return None  # not what the test itself does, nor an import that happens once
        frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event in ("opcode", "line"):  # of Python 3.12 there may be lines only
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
    """Yield what calls the action at instructions from the operation's first to its last."""
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
    """Use jshm in many ways."""
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
    watching._stop_all()  # a watch that was interrupted as it began has nobody to stop it


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
def test_what_a_handler_raises_anywhere_arrives(
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
def test_a_finalizer_uses_jshm_anywhere_or_is_told(published: LocalStore, name: str) -> None:
    """As the garbage collector calls it: nothing can defer that."""
    refused = []

    def act() -> None:
        try:
            use()
        except RegistryError as error:
            refused.append(str(error))

    for at in everywhere(OPERATIONS[name], act):
        run(OPERATIONS[name], at)
    assert {text[:50] for text in refused} <= {interrupts.NESTED[:50]}
    assert jshm.check() == []


def test_a_finalizer_commits_while_the_log_is_looked_at(
    published: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes further than what was read before: that is no older log that was put back."""
    number = registry_files._number

    def commit_first(*of: Any) -> int:
        monkeypatch.setattr(registry_files, "_number", number)
        jshm.publish("n", SMALL)
        jshm.publish("n", SMALL)  # which looks at what the first one did
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


# -- blocks ----------------------------------------------------------------------------------------


def test_each_noted_signal_is_handled_although_one_raises(handle: Any) -> None:
    calls = []

    def fail() -> None:
        calls.append("first")
        raise TimeIsUpError

    handle(fail)
    handle(lambda: calls.append("second"), signal.SIGUSR2)
    before = [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)]

    def block() -> None:
        with interrupts.deferred():
            signal.raise_signal(signal.SIGUSR2)
            signal.raise_signal(signal.SIGUSR1)
            assert not calls

    with pytest.raises(TimeIsUpError):
        block()
    assert calls == ["first", "second"]
    assert [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)] == before


def test_a_check_calls_handlers_as_if_there_were_no_block(handle: Any) -> None:
    seen = []
    handle(lambda: seen.append(signal.getsignal(signal.SIGUSR1)))
    handler = signal.getsignal(signal.SIGUSR1)
    with interrupts.deferred():
        signal.raise_signal(signal.SIGUSR1)
        interrupts.check()
        assert seen == [handler], "in the handler the program's handlers are installed"
        signal.raise_signal(signal.SIGUSR1)
        assert len(seen) == 1, "behind the check the block goes on"
    assert len(seen) == 2


def test_a_handler_that_raises_in_a_check_leaves_the_block_as_it_is(handle: Any) -> None:
    def fail() -> None:
        raise TimeIsUpError

    handle(fail)
    handler = signal.getsignal(signal.SIGUSR1)
    with interrupts.deferred():
        signal.raise_signal(signal.SIGUSR1)
        with pytest.raises(TimeIsUpError):
            interrupts.check()
        assert signal.getsignal(signal.SIGUSR1) is not handler
    assert signal.getsignal(signal.SIGUSR1) is handler


def test_in_a_transaction_a_check_lets_only_ctrl_c_through(
    store: LocalStore, handle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    handle(lambda: calls.append(1))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with store.registry.transact():
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                interrupts.check()
            assert not calls
        assert calls
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_checkpoints_while_a_writer_is_waited_for(store: LocalStore, handle: Any) -> None:
    """The registry is locked by another thread until the handler has run."""
    handled = threading.Event()
    locked = threading.Event()

    def write() -> None:
        with store.registry.transact():
            locked.set()
            handled.wait(20)

    handle(handled.set)
    thread = threading.Thread(target=write)
    thread.start()
    locked.wait(20)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    jshm.publish("X", SMALL)
    thread.join()
    timer.join()
    assert handled.is_set()


def test_a_forked_child_does_not_handle_what_its_parent_noted(handle: Any) -> None:
    calls = []
    handle(lambda: calls.append(1))
    with interrupts.deferred():
        signal.raise_signal(signal.SIGUSR1)
        pid = os.fork()
        if not pid:
            with interrupts.deferred():
                pass
            interrupts.check()
            os._exit(len(calls))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert calls == [1]


# -- guards ----------------------------------------------------------------------------------------


def test_handlers_are_called_while_a_guard_is_waited_for(handle: Any) -> None:
    guard, held, handled = Guard(Order.SPARES), threading.Event(), threading.Event()

    def hold() -> None:
        with guard:
            held.set()
            handled.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    handle(handled.set)
    with interrupts.deferred():
        signal.raise_signal(signal.SIGUSR1)
        with guard:
            assert handled.is_set()
    thread.join()


def test_a_guard_out_of_order_that_another_thread_has_is_refused() -> None:
    """Each thread would wait for the other."""
    early, late = Guard(Order.UNDO), Guard(Order.SPARES)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with early:
            held.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    with late, pytest.raises(RegistryError, match="inside another one"):
        early.__enter__()
    done.set()
    thread.join()
    with late, early:
        pass


# -- weak tables -----------------------------------------------------------------------------------


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise AssertionError


def test_weak_tables_forget_by_identity() -> None:
    one, other = Unhashable(), Unhashable()
    values: WeakValues[str, Unhashable] = WeakValues()
    keys: WeakKeys[Unhashable, str] = WeakKeys()
    members: WeakSet[Unhashable] = WeakSet()
    for thing, name in ((one, "one"), (other, "other")):
        values[name] = thing
        keys[thing] = name
        members.add(thing)
    del thing, one
    assert values.get("one") is None
    assert values.get("other") is other
    assert "one" not in values
    assert [found is other for found in values] == [True]
    assert keys.get(other) == "other"
    assert keys.pop(other, "") == "other"
    assert keys.get(other, "gone") == "gone"
    assert other in members
    assert len(list(members)) == 1
    members.discard(other)
    assert other not in members


def test_no_code_in_python_runs_when_an_entry_goes() -> None:
    called = []
    table: WeakValues[int, Any] = WeakValues()
    keys: WeakKeys[Any, int] = WeakKeys()
    thing: Any = Unhashable()
    table[1], keys[thing] = thing, 1
    sys.setprofile(
        lambda frame, event, _: called.append(frame.f_code.co_name) if event == "call" else None
    )
    try:
        thing = None
    finally:
        sys.setprofile(None)
    assert table.get(1) is None
    assert not called
