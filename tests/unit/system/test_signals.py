"""Blocks and guards: when the handlers of signals run, and that each runs once."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jshm
from jshm.errors import RegistryError
from jshm.system import signals
from jshm.system.signals import Guard, Order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jshm.store.local.store import LocalStore


class TimeIsUpError(TimeoutError):
    """An error that a user's handler raises."""


@pytest.fixture
def handle() -> Iterator[Callable[[Callable[[], object]], None]]:
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}

    def install(action: Callable[[], object], number: int = signal.SIGUSR1) -> None:
        signal.signal(number, lambda *_: action())

    yield install
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def alarm(monkeypatch):
    """SIGALRM raises KeyboardInterrupt as SIGINT does, which xdist's workers use themselves."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


# -- blocks ----------------------------------------------------------------------------------------


def test_every_noted_signal_is_handled_even_if_one_handler_raises(handle: Any) -> None:
    calls = []

    def fail() -> None:
        calls.append("first")
        raise TimeIsUpError

    handle(fail)
    handle(lambda: calls.append("second"), signal.SIGUSR2)
    before = [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)]

    def block() -> None:
        with signals.deferred():
            signal.raise_signal(signal.SIGUSR2)
            signal.raise_signal(signal.SIGUSR1)
            assert not calls

    with pytest.raises(TimeIsUpError):
        block()
    assert calls == ["first", "second"]
    assert [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)] == before


def test_check_runs_handlers_as_if_there_were_no_block(handle: Any) -> None:
    seen = []
    handle(lambda: seen.append(signal.getsignal(signal.SIGUSR1)))
    handler = signal.getsignal(signal.SIGUSR1)
    with signals.deferred():
        signal.raise_signal(signal.SIGUSR1)
        signals.check()
        assert seen == [handler], "in the handler the program's handlers are installed"
        signal.raise_signal(signal.SIGUSR1)
        assert len(seen) == 1, "after the check the block goes on"
    assert len(seen) == 2


def test_a_handler_that_raises_in_check_does_not_end_the_block(handle: Any) -> None:
    def fail() -> None:
        raise TimeIsUpError

    handle(fail)
    handler = signal.getsignal(signal.SIGUSR1)
    with signals.deferred():
        signal.raise_signal(signal.SIGUSR1)
        with pytest.raises(TimeIsUpError):
            signals.check()
        assert signal.getsignal(signal.SIGUSR1) is not handler
    assert signal.getsignal(signal.SIGUSR1) is handler


def test_in_a_transaction_check_runs_only_the_handler_of_ctrl_c(
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
                signals.check()
            assert not calls
        assert calls
    finally:
        signal.signal(signal.SIGINT, before)


def test_handlers_run_while_a_transaction_waits(store: LocalStore, handle: Any) -> None:
    """Another thread has the registry locked until the handler has run."""
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
    jshm.publish("X", np.arange(10.0))
    thread.join()
    timer.join()
    assert handled.is_set()


def test_a_forked_child_does_not_handle_signals_of_its_parent(handle: Any) -> None:
    calls = []
    handle(lambda: calls.append(1))
    with signals.deferred():
        signal.raise_signal(signal.SIGUSR1)
        pid = os.fork()
        if not pid:
            with signals.deferred():
                pass
            signals.check()
            os._exit(len(calls))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert calls == [1]


def test_a_handler_runs_when_the_outermost_block_ends(alarm: None) -> None:
    reached = []

    def blocks() -> None:
        with signals.deferred():
            with signals.deferred():
                os.kill(os.getpid(), signal.SIGALRM)
            reached.append("inner")
        reached.append("not this")

    with pytest.raises(KeyboardInterrupt):
        blocks()
    assert reached == ["inner"]
    assert signal.getsignal(signal.SIGALRM) is signal.default_int_handler


def test_check_inside_a_block_is_interrupted_at_once(alarm: None) -> None:
    def wait() -> None:
        with signals.deferred():
            os.kill(os.getpid(), signal.SIGALRM)
            signals.check()
            pytest.fail("the signal was not delivered")

    with pytest.raises(KeyboardInterrupt):
        wait()


def test_a_removed_handler_is_not_put_back(alarm: None) -> None:
    with signals.deferred():
        pass
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with signals.deferred():
        pass
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_blocks_in_other_threads_defer_nothing() -> None:
    def body() -> None:
        with signals.deferred() as block:
            block.seal()
        block.unseal()

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before


# -- guards ----------------------------------------------------------------------------------------


def test_handlers_run_while_a_guard_is_waited_for(handle: Any) -> None:
    guard, held, handled = Guard(Order.SPARES), threading.Event(), threading.Event()

    def hold() -> None:
        with guard:
            held.set()
            handled.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    handle(handled.set)
    with signals.deferred():
        signal.raise_signal(signal.SIGUSR1)
        with guard:
            assert handled.is_set()
    thread.join()


def test_waiting_for_a_guard_out_of_order_is_refused() -> None:
    """Otherwise each thread would wait for the other."""
    early, late = Guard(Order.WATCHES), Guard(Order.SPARES)
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
