"""A Jupyter server in a separate process, with kernels that it starts."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

from jupyter_client import BlockingKernelClient

from ...support.processes import until

if TYPE_CHECKING:
    from pathlib import Path


class Server:
    """A Jupyter server.

    Parameters
    ----------
    place : path
        A directory with a short path for everything that the server writes, except notebooks.
    root : path, optional
        The directory of its notebooks.
    jshm : bool
        Whether jshm's extension runs in it.
    program : str
        The module to run: ``jupyter_server``, ``jupyterlab``.
    terminal : bool
        Whether it has a terminal, at which it asks for a confirmation of Ctrl-C.
    """

    def __init__(
        self,
        place: Path,
        root: Path | None = None,
        *,
        jshm: bool = True,
        program: str = "jupyter_server",
        terminal: bool = True,
    ) -> None:
        place.mkdir(exist_ok=True)
        root = root or place / "root"
        root.mkdir(exist_ok=True)
        self._runtime = place / "runtime"
        private = {
            f"JUPYTER_{what}_DIR": str(place / what.lower())
            for what in ("CONFIG", "DATA", "RUNTIME")
        }
        self._log_path = place / "log"
        self._keyboard, stdin = (
            pty.openpty() if terminal else (-1, os.open(os.devnull, os.O_RDONLY))
        )
        with self._log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", program, "--no-browser", "--allow-root",
                    "--ServerApp.port=0", f"--ServerApp.root_dir={root}",
                    "--KernelManager.transport=ipc", f"--KernelManager.ip={place}/k",
                    f"--ServerApp.jpserver_extensions={{'jshm': {jshm}}}",
                ],
                env={**os.environ, **private, "JUPYTER_NO_CONFIG": "1"},
                stdin=stdin, stdout=log, stderr=log,
            )  # fmt: skip
        os.close(stdin)

    def _address(self) -> dict[str, Any]:
        """Return its port and token, once it listens."""
        path = self._runtime / f"jpserver-{self.process.pid}.json"

        def is_there() -> bool:
            assert self.process.poll() is None, self._log_path.read_text()
            return path.exists() and path.read_text().endswith("}")

        until(is_there)
        found: dict[str, Any] = json.loads(path.read_text())

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", found["port"])) == 0

        until(listens)
        return found

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        address = self._address()
        request = urllib.request.Request(
            f"http://127.0.0.1:{address['port']}{path}", method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {address['token']}"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or "null")

    def _client(self, path: str) -> BlockingKernelClient:
        """Return a client of a notebook's kernel, opened if necessary."""
        session = {"path": path, "name": path, "type": "notebook", "kernel": {"name": "python3"}}
        kernel = self.ask("POST", "/api/sessions", session)["kernel"]["id"]
        client = BlockingKernelClient()
        client.load_connection_file(str(self._runtime / f"kernel-{kernel}.json"))
        client.start_channels(hb=False)  # a busy machine misses beats
        client.wait_for_ready(timeout=60)
        return client

    def start(self, code: str, path: str = "a.ipynb") -> None:
        """Send code to a notebook's kernel, without waiting for the end."""
        client = self._client(path)
        client.execute(code)
        client.stop_channels()
        client.context.term()

    def run(self, code: str, path: str = "a.ipynb") -> str:
        """Run code in a notebook's kernel; return what it printed."""
        client = self._client(path)
        printed: list[str] = []
        try:
            reply = client.execute_interactive(
                code, timeout=60,
                output_hook=lambda message: printed.append(message["content"].get("text", "")),
            )  # fmt: skip
            assert reply["content"]["status"] == "ok", reply["content"]
        finally:
            client.stop_channels()
            client.context.term()
        return "".join(printed)

    def end(self, *numbers: int) -> None:
        """Stop it by signals, and return when it is gone."""
        if self.process.poll() is None:
            for number in numbers:
                self.process.send_signal(number)
                if self._keyboard >= 0 and number == signal.SIGINT:  # it asks for a confirmation
                    until(lambda: "Shut down this Jupyter server" in self._log_path.read_text())
            if self._keyboard >= 0 and numbers == (signal.SIGINT,):
                os.write(self._keyboard, b"y\n")
            self.process.wait(60)
        if self._keyboard >= 0:
            os.close(self._keyboard)
            self._keyboard = -1
