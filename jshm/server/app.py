"""The server extension: what it adds to a Jupyter server, and what it does when that ends."""

from __future__ import annotations

import atexit
import contextlib
import os
from pathlib import Path
from typing import Any

from jupyter_server.extension.application import ExtensionApp

from .._version import __version__
from ..errors import JshmError
from ..store import default_store
from ..store.directory import default_root
from .desk import Desk
from .handlers import HANDLERS
from .kernels import Kernels

_EVENTS = Path(__file__).with_name("events.yaml")


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
        # Kernels are ended after extensions are told to stop, and before this.
        atexit.register(_end_session)

    def initialize_handlers(self) -> None:
        """Add the REST interface."""
        self.handlers.extend(HANDLERS)

    async def stop_extension(self) -> None:
        """Let go of everything but the store, which may still be used by kernels that end."""
        self.desk.close()


def _end_session() -> None:
    """Free what this server's kernels published, but for what is kept or held by others."""
    if os.path.isdir(default_root()):
        with contextlib.suppress(JshmError, OSError):
            default_store().end_session()
