"""The server extension: what it adds to a Jupyter server, and what it does when that ends."""

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
from ..system import processes as programs
from .desk import Desk
from .handlers import HANDLERS
from .kernels import Kernels

_EVENTS = Path(__file__).with_name("events.yaml")
# Seconds that a kernel has for its own handler of SIGTERM.
_PATIENCE = 2.0


class JshmExtension(ExtensionApp):
    """Shows what is shared to the panel, and frees it."""

    name = "jshm"
    version = __version__
    description = "What notebooks share on this machine."

    def initialize_settings(self) -> None:
        """Make what the handlers use."""
        server: Any = self.serverapp
        server.event_logger.register_event_schema(_EVENTS)
        self.desk = Desk(Kernels(server), server.event_logger)
        self.settings["jshm_desk"] = self.desk
        # Kernels are ended after extensions are told to stop, and before this. The second is called first: a
        # signal that interrupts that has no way to interrupt the other, too.
        atexit.register(_end_session)
        atexit.register(_ignore_signals)
        # A server whose terminal is closed would end without exit handlers.
        if _has_signals(server) and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            signal.signal(signal.SIGHUP, signal.default_int_handler)

    def initialize_handlers(self) -> None:
        """Add the REST interface."""
        self.handlers.extend(HANDLERS)

    async def stop_extension(self) -> None:
        """Let go of everything but the store, which may still be used by kernels that end."""
        self.desk.close()


def _has_signals(server: Any) -> bool:
    """Tell whether this process is the server's, and not another program that runs one."""
    return getattr(signal.getsignal(signal.SIGTERM), "__self__", None) is server


def _ignore_signals() -> None:
    """Let nothing interrupt the end of this process, whose rest takes a moment."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _end_session() -> None:
    """Free what this server's kernels published, unless it is kept or somebody else holds it.

    jupyter_server ends its kernels on SIGTERM, and on Ctrl-C in a terminal. On SIGINT without a terminal
    (JupyterHub's stop, its idle culler) it leaves that to ipykernel, which ends them within a second of
    the server's end. What they publish in that second, or are writing when they end, would stay. So the
    kernels end here, and then their names.
    """
    with contextlib.suppress(JshmError, OSError):
        programs.end_children(programs.kernels_of(os.getpid()), _PATIENCE)
    end_session()
