"""The face that IPython sees: ``%load_ext jshm``."""

from __future__ import annotations

import contextlib
from typing import Any

from .. import handouts
from ..errors import JshmError
from ..namespace import user_namespace
from ..store import open_stores
from . import completion, resting
from .managing import ManagingMagics
from .sharing import SharingMagics

_MAGICS = (SharingMagics, ManagingMagics)


def _flush(_result: object = None) -> None:
    """Tell others after each cell what it let go of."""
    handouts.prune()
    handouts.forget_unbound(user_namespace())
    for store in open_stores():
        with contextlib.suppress(JshmError, OSError):
            store.flush()
    resting.begin()


def load(shell: Any) -> None:
    """Register the magics, the completion and the hook after each cell; twice does no harm."""
    shell.register_magics(*_MAGICS)
    completion.install(shell)
    handouts.prunes = True
    if _flush not in shell.events.callbacks["post_run_cell"]:
        shell.events.register("post_run_cell", _flush)


def unload(shell: Any) -> None:
    """Undo `load`."""
    completion.remove(shell)
    handouts.prunes = False
    resting.end()
    with contextlib.suppress(ValueError):
        shell.events.unregister("post_run_cell", _flush)
    for magics in _MAGICS:
        for kind, names in magics.magics.items():
            for name in names:
                shell.magics_manager.magics[kind].pop(name, None)
