"""The notebooks of a Jupyter server: their paths, and whether their kernels use this store."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from jupyter_core.utils import ensure_async

from ..browse.labels import Notebooks
from ..store import default_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_server.serverapp import ServerApp

# Seconds for which the list of sessions is not read again.
_FRESH = 1.0


class ServerNotebooks(Notebooks):
    """The notebooks that a Jupyter server can open.

    Attributes
    ----------
    notices : list of dict
        Warnings about kernels whose names cannot be shown here (`Notice` in ``openapi.yaml``).
    """

    def __init__(self, server: ServerApp) -> None:
        self._server = server
        self._paths: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._read = -_FRESH
        self.notices: list[dict[str, str]] = []

    async def refresh(self) -> None:
        """Ask the session manager where notebooks are: they may have been renamed."""
        now = time.monotonic()
        if now < self._read + _FRESH:
            return
        self._read = now
        sessions = await ensure_async(self._server.session_manager.list_sessions())
        self._paths = {s["kernel"]["id"]: s["path"] for s in sessions if s["type"] == "notebook"}
        self._names = {id_: path.rpartition("/")[2] for id_, path in self._paths.items()}
        self.notices = [
            {
                "level": "warning",
                "text": f"{what}: this list does not show what it shares. `jshm list` shows it there.",
            }
            for what in self._unreachable(sessions)
        ]

    def path(self, kernel_id: str, notebook: str) -> str:
        """Return the path of a notebook below the server's root; '' if it is not there."""
        if kernel_id in self._paths:
            return self._paths[kernel_id]
        root = getattr(self._server.contents_manager, "root_dir", "")
        if not (root and notebook.endswith(".ipynb")):
            return ""
        inside = os.path.relpath(notebook, os.path.expanduser(root))
        if inside.startswith(os.pardir) or not os.path.isfile(notebook):
            return ""
        return inside.replace(os.sep, "/")

    @property
    def names(self) -> dict[str, str]:
        return self._names

    def _unreachable(self, sessions: list[dict[str, Any]]) -> Iterator[str]:
        """Yield a sentence for each kernel that does not use this server's store."""
        gateway = getattr(self._server, "gateway_config", None)
        if gateway is not None and gateway.gateway_enabled:
            yield "The kernels run on another host, behind a gateway"
            return
        for session in sessions:
            if where := self._reason(session["kernel"]["id"]):
                yield f"The kernel of {session['name'] or session['path']} {where}"

    def _reason(self, kernel_id: str) -> str:
        """Return why a kernel does not use this server's store, as the end of a sentence; else ''."""
        try:
            provisioner = self._server.kernel_manager.get_kernel(kernel_id).provisioner
        except (KeyError, AttributeError):
            return ""
        pid = getattr(provisioner, "pid", None)
        if pid is None:
            return "does not run on this host" if provisioner is not None else ""
        return default_store().unreachable(pid)
