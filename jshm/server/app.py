"""The server extension: it adds the REST interface, and ends the session when the server ends."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

from jupyter_server.extension.application import ExtensionApp

from .._version import __version__
from ..errors import JshmError
from ..store import end_session
from ..system import processes
from .handlers import HANDLERS
from .notebooks import ServerNotebooks
from .worker import RequestWorker

_EVENTS = Path(__file__).with_name("events.yaml")
# Seconds that a kernel gets for its own handler of SIGTERM.
_PATIENCE = 2.0


class JshmExtension(ExtensionApp):
    """Serves the panel of JupyterLab."""

    name = "jshm"
    version = __version__
    description = "Lists and releases what notebooks share on this machine."

    def initialize_settings(self) -> None:
        """Make the worker that the handlers use, and register the end of the session."""
        server: Any = self.serverapp
        server.event_logger.register_event_schema(_EVENTS)
        self.worker = RequestWorker(ServerNotebooks(server), server.event_logger)
        self.settings["jshm_worker"] = self.worker
        # The server ends its kernels after `stop_extension`, and before these exit handlers. The last one
        # registered runs first, so signals are ignored before the session ends.
        atexit.register(_end_session)
        atexit.register(_ignore_signals)
        # Without this, a server whose terminal is closed would end without exit handlers.
        if _has_signals(server) and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            signal.signal(signal.SIGHUP, signal.default_int_handler)

    def initialize_handlers(self) -> None:
        """Add the REST interface."""
        self.handlers.extend(HANDLERS)

    async def stop_extension(self) -> None:
        """Stop the worker. The store stays open for the end of the session."""
        self.worker.close()


def _has_signals(server: Any) -> bool:
    """Return whether this process is a Jupyter server, and not another program that runs one."""
    return getattr(signal.getsignal(signal.SIGTERM), "__self__", None) is server


def _ignore_signals() -> None:
    """Ignore further signals, so that they do not interrupt the end of the session."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _end_session() -> None:
    """End the kernels, and release what they published unless it is kept.

    jupyter_server ends its kernels on SIGTERM, and on Ctrl-C in a terminal. On SIGINT without a terminal
    (JupyterHub's stop, its idle culler) it leaves that to ipykernel, which ends a kernel within a second
    after the server. Names that are published in that second would stay in memory. So the kernels are
    ended here first.
    """
    with contextlib.suppress(JshmError, OSError):
        processes.end_children(processes.kernels_of(os.getpid()), _PATIENCE)
    end_session()
