"""File locks time out with an error, and forked children do not keep them."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import threading
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest

import jshm
from jshm.errors import RegistryTimeout
from jshm.system import file_locks

if TYPE_CHECKING:
    from pathlib import Path

    from jshm.store.local.store import LocalStore


def test_a_lock_that_is_not_dropped_is_a_timeout(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    fd = os.open(path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    mine = os.open(path, os.O_RDONLY)
    with pytest.raises(RegistryTimeout) as caught:
        file_locks.lock(mine, fcntl.LOCK_SH, 0.05)
    assert isinstance(caught.value, TimeoutError)
    threading.Timer(0.05, os.close, [fd]).start()
    file_locks.lock(mine, fcntl.LOCK_SH, 10)
    os.close(mine)


def test_a_worker_forked_during_a_publish_keeps_no_lock(store: LocalStore) -> None:
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
