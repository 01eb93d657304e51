"""Ctrl-C, and other signals whose handlers raise, at any moment: nothing is lost, nothing stays locked."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
import threading
import time
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest

import jshm
from jshm.system import signals as interrupts

from ...support.processes import Child

if TYPE_CHECKING:
    from pathlib import Path

    from jshm.store.local.store import LocalStore


def interrupt_after(seconds: float) -> None:
    signal.setitimer(signal.ITIMER_REAL, seconds)


@pytest.fixture
def alarm(monkeypatch):
    """SIGALRM raises KeyboardInterrupt, as SIGINT does; xdist's workers keep SIGINT for themselves."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


# An interrupt between `open` and its `with` leaves a file to the garbage collector, which complains.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("size", [100, 300_000])
def test_an_interrupt_anywhere_in_a_publish_loses_nothing(
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
            interrupt_after(chance.uniform(1e-6, 1.5 * usual))
            jshm.publish("X", array)
            interrupt_after(0)
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


def test_a_signal_is_delivered_when_the_outermost_block_ends(alarm: None) -> None:
    reached = []

    def blocks() -> None:
        with interrupts.deferred():
            with interrupts.deferred():
                os.kill(os.getpid(), signal.SIGALRM)
            reached.append("inner")
        reached.append("not this")

    with pytest.raises(KeyboardInterrupt):
        blocks()
    assert reached == ["inner"]
    assert signal.getsignal(signal.SIGALRM) is signal.default_int_handler


def test_waiting_inside_a_block_is_interrupted_at_once(alarm: None) -> None:
    def wait() -> None:
        with interrupts.deferred():
            os.kill(os.getpid(), signal.SIGALRM)
            interrupts.check()
            pytest.fail("the signal was not delivered")

    with pytest.raises(KeyboardInterrupt):
        wait()


def test_a_handler_that_was_taken_away_stays_away(alarm: None) -> None:
    with interrupts.deferred():
        pass
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with interrupts.deferred():
        pass
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_other_threads_defer_nothing() -> None:
    def body() -> None:
        with interrupts.deferred() as block:
            block.seal()
        block.unseal()

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before


def test_only_the_array_that_was_allocated_is_sealed(store: LocalStore, tmp_path: Path) -> None:
    big = jshm.zeros((10, 10))
    jshm.publish("view", big.reshape(10, 10))
    big[0, 0] = 7
    assert jshm.attach("view")[0, 0] == 0, "a snapshot must not change"
    jshm.publish("whole", big)
    assert not big.flags.writeable
    assert jshm.is_shared(big)
    # What another process holds as well is copied: it could go on writing.
    handle = jshm.SharedNumpyArray.create_new((10,))
    with Child(tmp_path) as other:
        other.run("import pickle, jshm")
        other.run(f"handle = pickle.loads({pickle.dumps(handle)!r})")
        jshm.publish("both", handle.array)
        other.run("handle.array[0] = 42")
        assert handle.array[0] == 42
        assert jshm.attach("both")[0] == 0


def test_a_worker_forked_while_a_thread_publishes_keeps_nothing(store: LocalStore) -> None:
    stop = threading.Event()

    def publish() -> None:
        while not stop.is_set():
            jshm.publish("X", np.zeros(200_000))

    thread = threading.Thread(target=publish)
    thread.start()
    context = multiprocessing.get_context("fork")
    workers = []
    done = context.Event()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads: on purpose
            for _ in range(20):
                workers.append(context.Process(target=done.wait, args=(60,)))
                workers[-1].start()
        stop.set()
        thread.join()
        (released,) = jshm.release("X")
        assert released.freed == released.nbytes
        jshm.gc()
        assert store.directory.files() == {}
    finally:
        stop.set()
        done.set()
        for worker in workers:
            worker.join()
