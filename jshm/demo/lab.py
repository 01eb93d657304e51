"""``jshm demo``: a separate JupyterLab that leaves nothing behind."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, NoReturn

from ..errors import JshmError
from ..store import default_store
from ..text import printable, say
from . import workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

_START = 60  # seconds until Lab must run
_END = 15  # seconds until it must have ended its kernels
_LOG = "lab.log"


def require() -> None:
    """Raise JshmError, which says what to do, if JupyterLab is not installed."""
    if importlib.util.find_spec("jupyterlab") is None:
        raise JshmError(
            "JupyterLab is not installed here: pip install jupyterlab "
            "(or run the demo in the terminal: jshm demo --headless)"
        )


def run(size: int, *, port: int, browser: bool) -> int:
    """Run the demo until it is interrupted or Lab is shut down; return the exit code."""
    with (
        contextlib.suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory(prefix="jshm-demo-") as directory,
        _exit_on_signals(),
    ):
        say("starting JupyterLab with two notebooks …")
        sys.stdout.flush()
        workspace.make(directory, size)
        with _lab(directory, port, browser) as server:
            url = _address(directory, server)
            say(f"JupyterLab opens with the demo. If it does not: {url}" if browser else url)
            say("Ctrl-C ends it, with its notebooks, their kernels and the shared data.")
            sys.stdout.flush()
            server.wait()
    return 0


@contextlib.contextmanager
def _lab(directory: str, port: int, browser: bool) -> Iterator[subprocess.Popen[bytes]]:
    """Start Lab; at the end, stop it and its kernels, and free their data."""
    with open(os.path.join(directory, _LOG), "wb") as log:
        server = subprocess.Popen(  # noqa: S603 - fixed arguments, no shell
            command(directory, port=port, browser=browser),
            env=environment(directory),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the demo: Lab would ask for confirmation
        )
    try:
        yield server
    finally:
        server.terminate()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(_END)
        finally:  # also after a second Ctrl-C
            server.kill()
            server.wait()
            default_store().gc()  # the session has ended, so its names have expired


def command(directory: str, *, port: int, browser: bool) -> list[str]:
    """Return the command that starts Lab in a directory that `workspace.make` has filled."""
    options = {
        "ServerApp.root_dir": os.path.join(directory, "notebooks"),
        "ServerApp.port": port,
        "ServerApp.open_browser": browser,
        "LabApp.default_url": f"/lab/workspaces/{workspace.NAME}",
        "LabApp.workspaces_dir": os.path.join(directory, "workspaces"),
        "LabApp.user_settings_dir": os.path.join(directory, "settings"),
    }
    words = [sys.executable, "-m", "jshm.demo.child", str(os.getpid())]
    words += [f"--{name}={value}" for name, value in options.items()]
    return [*words, *(["--allow-root"] if os.geteuid() == 0 else [])]


def environment(directory: str) -> dict[str, str]:
    """Return the environment of Lab: the user's, without the configuration of their Jupyter."""
    paths = [os.path.join(directory, "data"), os.environ.get("JUPYTER_PATH", "")]
    return {
        **os.environ,
        "JUPYTER_CONFIG_DIR": os.path.join(directory, "config"),
        "JUPYTER_RUNTIME_DIR": os.path.join(directory, "runtime"),
        "JUPYTER_PATH": os.pathsep.join(filter(None, paths)),
    }


def _address(directory: str, server: subprocess.Popen[bytes]) -> str:
    """Return the address of the demo, as soon as Lab serves it."""
    path = os.path.join(directory, "runtime", f"jpserver-{server.pid}.json")
    late = time.monotonic() + _START
    while time.monotonic() < late and server.poll() is None:
        with contextlib.suppress(OSError, json.JSONDecodeError), open(path) as file:
            found = json.load(file)  # it may be half written
            # Jupyter Server writes the file a moment before it listens.
            socket.create_connection((found["hostname"], found["port"]), _START).close()
            return f"{found['url']}lab/workspaces/{workspace.NAME}?token={found['token']}"
        time.sleep(0.1)
    with open(os.path.join(directory, _LOG), encoding="utf-8", errors="replace") as log:
        words = log.read()[-2000:].strip().split("\n")
    error = JshmError("JupyterLab did not start:")
    error.add_note("\n".join(map(printable, words)))
    raise error


@contextlib.contextmanager
def _exit_on_signals() -> Iterator[None]:
    """Turn SIGTERM, and SIGHUP of a closed terminal, into an orderly exit."""

    def end(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
