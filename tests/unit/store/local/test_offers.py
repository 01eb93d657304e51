"""Offers in the registry: for whom and for how long they are kept; the running kernels."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jshm
from jshm.ipython import offer_magics
from jshm.store import identity
from jshm.store.local.registry.rows import OfferRow
from jshm.system import processes as programs

from ....support.processes import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jshm.store.local.store import LocalStore

CONNECTION = '{"shell_port": 1, "iopub_port": 2, "key": ""}'


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that looks like a server's kernel; return it and its connection file."""
    path = tmp_path / "kernel-0123abcd-0000-0000-0000-000000000000.json"
    path.write_text(CONNECTION)
    env = {
        **os.environ,
        "JPY_SESSION_NAME": "/home/x/late.ipynb",
        "JPY_PARENT_PID": str(os.getpid()),
    }
    wait = [sys.executable, "-c", "import sys; sys.stdin.read()", "-f", str(path)]
    with subprocess.Popen(wait, env=env, stdin=subprocess.PIPE) as process:
        # For a moment after `exec` the kernel shows neither arguments nor environment.
        until(lambda: Path(f"/proc/{process.pid}/environ").read_bytes())
        yield process
        process.kill()


def recipient(process: subprocess.Popen[bytes]) -> identity.Identity:
    return identity.of_kernel(process.pid, process.args[-1], {})  # type: ignore[index]


def as_kernel(store: LocalStore, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Make this process the kernel of a connection file."""
    me = replace(store.process.identity, connection_file=path)
    monkeypatch.setattr(type(store.process), "identity", property(lambda _: me))


def count(store: LocalStore) -> int:
    return store.registry.read("SELECT count(*) FROM offers")[0][0]  # type: ignore[no-any-return]


def test_an_offer_is_for_one_kernel_and_ends_when_it_is_answered(
    store: LocalStore, kernel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    jshm.publish({"X": np.zeros(3), "y": np.ones(4)})
    to = recipient(kernel)
    with pytest.raises(jshm.SegmentNotFoundError, match="'z'"):
        store.offers.make(["X", "z"], to)
    assert count(store) == 0  # all or none
    assert [info.name for info in store.offers.make(["X", "y", "X"], to)] == ["X", "y"]
    store.offers.make(["X"], replace(to, connection_file="/somebody/else.json"))
    assert store.offers.received() == []
    assert jshm.check() == []
    as_kernel(store, monkeypatch, to.connection_file)
    assert sorted(offer.info.name for offer in store.offers.received()) == ["X", "y"]
    jshm.publish("X", np.zeros(5))
    jshm.release("y")
    (offer,) = store.offers.received()
    assert (offer.info.version, offer.sender.script) == (2, store.process.identity.script)
    store.offers.answer(["X"])
    assert store.offers.received() == []
    assert count(store) == 1


def test_offers_expire(store: LocalStore, kernel: Any) -> None:
    jshm.publish({"X": np.zeros(3), "y": np.ones(4)})
    to = recipient(kernel)
    store.offers.make(["X", "y"], to)
    store.gc()
    assert count(store) == 2
    with store.registry.transact() as tx:
        tx.execute("UPDATE offers SET created = created - 86401 WHERE name = 'y'")
    store.gc()
    assert count(store) == 1
    kernel.kill()
    kernel.wait()
    # The session of a process ends with it; that of a server's kernel does not.
    as_of_server = replace(to, session=identity.Session("server", os.getppid(), ""))
    store.offers.make(["X"], as_of_server)
    store.gc()
    assert count(store) == 1
    os.unlink(to.connection_file)
    store.gc()
    assert count(store) == 0
    store.offers.make(["X"], to)
    store.gc()
    assert count(store) == 0


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE offers SET sender = x'00'",
        "UPDATE offers SET sender = '{'",
        "UPDATE offers SET target = '[]'",
        "UPDATE offers SET target = 5",
        "UPDATE offers SET sender = '{\"pid\": -1}'",
        "UPDATE offers SET recipient = x'00'",
    ],
)
def test_damaged_offers_are_an_error_and_repaired(
    store: LocalStore, kernel: Any, damage: str
) -> None:
    jshm.publish("X", np.zeros(3))
    store.offers.make(["X"], recipient(kernel))
    con = sqlite3.connect(store.directory.registry)
    con.execute(damage)
    con.commit()
    con.close()
    with pytest.raises(jshm.CorruptRegistryError):
        store.gc()
    assert [problem.fixed for problem in jshm.check(fix=True)] == [True]
    assert jshm.check() == []
    assert store.names() == ["X"]


def test_rows_of_wrong_types_are_not_offers(store: LocalStore) -> None:
    jshm.publish("X", np.zeros(3))
    (entry,) = store.registry.everything()
    row = (*entry[:-1], *entry.segment)
    text = store.process.identity.to_json()
    assert OfferRow.parse((text, 1.0, *row)).entry.name == "X"
    for sender, created in ((b"", 1.0), (text, 1), (text, float("inf")), ("[]", 1.0), (None, 1.0)):
        with pytest.raises(jshm.CorruptRegistryError):
            OfferRow.parse((sender, created, *row))


def test_kernels_are_found_by_processes_not_files(store: LocalStore, kernel: Any) -> None:
    (found,) = (k for k in offer_magics.other_kernels(store) if k.identity.pid == kernel.pid)
    assert (found.label, found.loaded) == ("late.ipynb", False)
    assert found.identity.kernel_id == "0123abcd-0000-0000-0000-000000000000"
    assert found.identity.session.pid == os.getpid()
    for word in ("late.ipynb", "x/late.ipynb", "0123", found.identity.kernel_id, "LATE"):
        assert offer_magics.find_kernel(word, store).identity.pid == kernel.pid
    kernel.kill()
    kernel.wait()
    assert kernel.pid not in [k.identity.pid for k in offer_magics.other_kernels(store)]
    assert os.path.exists(kernel.args[-1])


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["python", "-m", "ipykernel_launcher", "-f", "/r/kernel-1.json"], "/r/kernel-1.json"),
        (["python", "-m", "ipykernel_launcher", "--f=/r/kernel-1.json"], "/r/kernel-1.json"),
        (["python", "--IPKernelApp.connection_file=k.json", ""], "k.json"),
        (["jupyter", "console", "--existing", "/r/kernel-1.json"], ""),
        (["tail", "-f"], ""),
        ([], ""),
    ],
)
def test_the_connection_file_is_found_in_the_command_line(words: list[str], found: str) -> None:
    assert programs.named_connection_file([word.encode() for word in words]) == found


def test_a_kernel_of_another_store_is_unreachable(
    store: LocalStore, kernel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(store), "unreachable", lambda *_: "has another JSHM_DIR")
    assert kernel.pid not in [k.identity.pid for k in offer_magics.other_kernels(store)]
