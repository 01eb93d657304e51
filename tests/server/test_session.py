"""The end of a real server, and of what its kernels shared."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from jupyter_client import BlockingKernelClient

from jshm.store import default_store

from ..processes import Child, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXTENSIONS = "{'jshm': True}"


class Server:
    """A Jupyter server in a process of its own."""

    def __init__(self, place: Path) -> None:
        self._runtime = place / "runtime"
        (place / "root").mkdir()
        private = {
            f"JUPYTER_{what}_DIR": str(place / what.lower())
            for what in ("CONFIG", "DATA", "RUNTIME")
        }
        self._log = (place / "log").open("wb")
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root",
                "--ServerApp.port=0", "--KernelManager.transport=ipc", f"--KernelManager.ip={place}/k",
                f"--ServerApp.root_dir={place / 'root'}", f"--ServerApp.jpserver_extensions={EXTENSIONS}",
            ],
            env={**os.environ, **private, "JUPYTER_NO_CONFIG": "1"}, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        file = self._runtime / f"jpserver-{self.process.pid}.json"

        def is_there() -> bool:
            assert self.process.poll() is None, (place / "log").read_text()
            return file.exists() and bool(file.read_text().endswith("}"))

        until(is_there)
        self._info = json.loads(file.read_text())
        until(self._listens)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._info["port"])) == 0

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._info['port']}{path}", method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {self._info['token']}"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def run(self, code: str) -> None:
        """Open a notebook, and run code in its kernel."""
        session = {
            "path": "a.ipynb",
            "name": "a",
            "type": "notebook",
            "kernel": {"name": "python3"},
        }
        kernel = self.ask("POST", "/api/sessions", session)["kernel"]["id"]
        client = BlockingKernelClient()
        client.load_connection_file(str(self._runtime / f"kernel-{kernel}.json"))
        client.start_channels()
        try:
            client.wait_for_ready(timeout=60)
            reply = client.execute_interactive(code, timeout=60, output_hook=lambda _: None)
            assert reply["content"]["status"] == "ok", reply["content"]
        finally:
            client.stop_channels()
            client.context.term()

    def end(self, number: int) -> None:
        """End it by a signal, and return when it is gone."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(60)
        self._log.close()


@pytest.fixture
def server(store_dir: str) -> Iterator[Server]:
    # Sockets of kernels have short paths.
    with tempfile.TemporaryDirectory(prefix="jt-") as place:
        started = Server(Path(place))
        try:
            yield started
        finally:
            started.end(signal.SIGKILL)


def test_what_lives_as_long_as_the_server(
    server: Server, store_dir: str, child_directory: Path, segments: Callable[[], dict[str, int]]
) -> None:
    server.run(
        "import jshm, numpy as np\n"
        "for name in ('gone', 'held', 'undone'): jshm.publish(name, np.zeros(1000))\n"
        "jshm.publish('kept', np.arange(1000.0), keep=True)\n"
        "jshm.publish('object', {'a': np.arange(5000.0)})\n"
        "spare = jshm.empty(500)"
    )
    with Child(child_directory, "outside.py") as outside:
        outside.run("import jshm; held = jshm.attach('held')")
        outside.run("import numpy as np; jshm.publish('mine', np.zeros(3))")
        rows = server.ask("GET", "/jshm/api/segments")["rows"]
        assert {row["name"]: row["lifetime"] for row in rows} == {
            "gone": "server", "held": "server", "undone": "server", "object": "server",
            "kept": "kept", "mine": "process",
        }  # fmt: skip
        done = server.ask("DELETE", "/jshm/api/segments/undone?undo=60")
        assert done["undoable"]
        assert len(segments()) == 7
        server.end(signal.SIGTERM)
        assert server.process.returncode == 0
        assert len(segments()) == 3  # nobody has touched the store
        assert outside.run("float(held.sum())") == 0
    store = default_store()
    store.gc()
    assert store.names() == ["kept"]
    assert len(segments()) == 1
    assert store.attach(["kept"])[0].value.sum() == np.arange(1000.0).sum()
    assert store.check() == []


def test_a_server_that_is_killed_leaves_nothing(
    server: Server, store_dir: str, child_directory: Path, segments: Callable[[], dict[str, int]]
) -> None:
    with Child(child_directory, "fit.py") as child:
        child.run(
            "import jshm, numpy as np\n"
            "for name in ('X', 'Y'): jshm.publish(name, np.zeros(1000), keep=True)"
        )
        assert server.ask("DELETE", "/jshm/api/segments/X?undo=60")["undoable"]
        child.run("jshm.gc()")
        assert len(segments()) == 2
        server.end(signal.SIGKILL)
        assert len(segments()) == 2
        child.run(
            "import time; time.sleep(1.1); jshm.segments(); None"
        )  # the next operation of anybody
        assert len(segments()) == 1
        assert child.run("[p.what for p in jshm.check()]") == []


def test_a_server_in_whose_time_nothing_was_shared(server: Server, store_dir: str) -> None:
    """It makes nothing just because it ends."""
    os.rmdir(store_dir)
    server.end(signal.SIGTERM)
    assert server.process.returncode == 0
    assert not os.path.lexists(store_dir)
    os.mkdir(store_dir, 0o700)
