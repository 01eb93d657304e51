"""What the server knows of its kernels: which notebook each belongs to now, and whether it is here."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from jupyter_core.utils import ensure_async

from ..store import default_store

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

# Seconds for which the list of sessions is taken to be true.
_FRESH = 1.0


class Kernels:
    """The `Places` of a Jupyter server.

    Parameters
    ----------
    server : ServerApp
    """

    def __init__(self, server: ServerApp) -> None:
        self._server = server
        self._paths: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._read = -_FRESH
        self._notices: list[dict[str, str]] = []

    async def refresh(self) -> None:
        """Ask the session manager where notebooks are: they may have been renamed."""
        now = time.monotonic()
        if now < self._read + _FRESH:
            return
        self._read = now
        sessions = await ensure_async(self._server.session_manager.list_sessions())
        self._paths = {s["kernel"]["id"]: s["path"] for s in sessions if s["type"] == "notebook"}
        self._names = {id_: path.rpartition("/")[2] for id_, path in self._paths.items()}
        self._notices = list(self._look_for_distant(sessions))

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
        """Kernel id → what its notebook is called now, of all that run."""
        return self._names

    def notices(self) -> list[dict[str, str]]:
        """Return what people should know of kernels whose memory cannot be shown."""
        return self._notices

    def _look_for_distant(self, sessions: list[dict[str, Any]]) -> list[dict[str, str]]:
        if getattr(self._server, "gateway_config", None) is not None and (
            self._server.gateway_config.gateway_enabled
        ):
            return [_notice("The kernels run on another host, behind a gateway")]
        found = []
        for session in sessions:
            where = self._where(session["kernel"]["id"])
            if where:
                found.append(_notice(f"The kernel of {session['name'] or session['path']} {where}"))
        return found

    def _where(self, kernel_id: str) -> str:
        """Return where a kernel is, if that is not here; else ''."""
        try:
            provisioner = self._server.kernel_manager.get_kernel(kernel_id).provisioner
        except (KeyError, AttributeError):
            return ""
        pid = getattr(provisioner, "pid", None)
        if pid is None:
            return "does not run on this host" if provisioner is not None else ""
        return default_store().unreachable(pid)


def _notice(what: str) -> dict[str, str]:
    return {
        "level": "warning",
        "text": f"{what}: what it shares is not shown here. `jshm list` shows it there.",
    }
