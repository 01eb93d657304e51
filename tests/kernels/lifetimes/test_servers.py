"""The end of a real Jupyter server, and of its kernels' names."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jshm.store import default_store

from ...support.processes import Child, until
from .server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .outside import Outside

PUBLISH = """
import os, jshm, numpy as np
jshm.publish('X', np.zeros(3))
jshm.publish('held', np.ones(3))
jshm.publish('kept', np.arange(3.0), keep=True)
print(os.getpid())
"""


@pytest.fixture
def start(store_dir: str, place: Path) -> Iterator[Callable[..., Server]]:
    """Start servers with the same notebook directory; they end with the test."""
    with ExitStack() as stack:

        def begin(name: str = "s", **options: Any) -> Server:
            server = Server(place / name, place / "root", **options)
            stack.callback(server.end, signal.SIGKILL)
            return server

        yield begin


@pytest.fixture
def server(start: Callable[..., Server]) -> Server:
    return start()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_names_live_until_the_server_is_stopped(
    outside: Outside, server: Server, tmp_path: Path, number: signal.Signals
) -> None:
    server.run(
        "import jshm, numpy as np\n"
        "for name in ('gone', 'held', 'released'): jshm.publish(name, np.zeros(1000))\n"
        "jshm.publish('kept', np.arange(1000.0), keep=True)\n"
        "jshm.publish('object', {'a': np.arange(5000.0)})\n"
        "spare = jshm.empty(500)"
    )
    with Child(tmp_path, "eda.py") as eda:
        eda.run("import jshm; held = jshm.attach('held')")
        eda.run("import numpy as np; jshm.publish('mine', np.zeros(3))")
        rows = server.ask("GET", "/jshm/api/segments")["rows"]
        assert {row["name"]: row["lifetime"] for row in rows} == {
            "gone": "server", "held": "server", "released": "server", "object": "server",
            "kept": "kept", "mine": "process",
        }  # fmt: skip
        assert server.ask("DELETE", "/jshm/api/segments/released")["freed"] == 8000
        assert len(outside.segments()) == 6
        server.end(number)
        assert server.process.returncode == 0
        assert len(outside.segments()) == 3  # although no process has used the store since
        assert eda.run("float(held.sum())") == 0
    store = default_store()
    store.gc()
    assert store.names() == ["kept"]
    assert len(outside.segments()) == 1
    assert store.attach(["kept"])[0].value.sum() == np.arange(1000.0).sum()
    assert store.check() == []


def test_names_of_a_killed_server_go_with_the_next_use(
    outside: Outside,
    server: Server,
    tmp_path: Path,
) -> None:
    kernel = int(server.run(PUBLISH))
    with Child(tmp_path, "eda.py") as eda:
        eda.run("import jshm; held = jshm.attach('held')")
        server.end(signal.SIGKILL)
        until(lambda: not os.path.exists(f"/proc/{kernel}"))  # ipykernel watches its parent
        assert len(outside.segments()) == 3
        outside.use()
        assert outside.names() == {"held": [1, 1, 1], "kept": [0, 1, 2]}
        assert len(outside.segments()) == 2
        eda.run("del held; jshm.gc()")
        assert eda.run("[problem.what for problem in jshm.check()]") == []
    assert outside.names() == {"kept": [0, 1, 2]}


def test_names_of_a_server_without_the_extension_go_with_the_next_use(
    outside: Outside,
    start: Callable[..., Server],
) -> None:
    server = start(jshm=False)
    server.run(PUBLISH)
    outside.use()
    assert set(outside.names()) == {"X", "held", "kept"}
    server.end(signal.SIGTERM)
    assert len(outside.segments()) == 3
    outside.use()
    assert outside.names() == {"kept": [0, 1, 2]}
    assert len(outside.segments()) == 1


def test_several_servers_of_one_user(
    outside: Outside,
    start: Callable[..., Server],
) -> None:
    """Each has its own names. A notebook that is open under two of them is one owner."""
    first, second = start("1", terminal=False), start("2", terminal=False)
    first.run("import jshm, numpy as np; jshm.publish({'X': np.zeros(1), 'first': np.zeros(1)})")
    second.run("import jshm, numpy as np; jshm.publish({'X': np.ones(1), 'second': np.ones(1)})")
    assert outside.versions() == {"X": (2, [1]), "first": (1, [0]), "second": (1, [1])}
    first.end(signal.SIGINT)  # jupyter_server leaves its kernels running, so jshm ends them
    assert outside.versions() == {"X": (2, [1]), "second": (1, [1])}
    outside.use()
    assert outside.versions() == {"X": (2, [1]), "second": (1, [1])}
    second.run("jshm.publish('second', np.zeros(1))")
    assert outside.versions() == {"X": (2, [1]), "second": (2, [0])}
    second.end(signal.SIGTERM)
    assert outside.versions() == {}
    assert outside.segments() == []


def test_a_server_without_shared_data_creates_nothing(server: Server, store_dir: str) -> None:
    """Its end does not create a store."""
    os.rmdir(store_dir)
    server.ask("GET", "/api")
    server.end(signal.SIGTERM)
    assert server.process.returncode == 0
    assert not os.path.lexists(store_dir)
    os.mkdir(store_dir, 0o700)
