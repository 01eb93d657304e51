"""The face that IPython sees: ``%load_ext jshm``."""

from __future__ import annotations

import contextlib
from typing import Any

from .. import handouts
from . import cells, completion, following, offering, resting
from .managing import ManagingMagics
from .pushing import PushingMagics
from .sharing import SharingMagics

_MAGICS = (SharingMagics, ManagingMagics, PushingMagics)
_HOOKS = {"pre_run_cell": cells.before, "post_run_cell": cells.after}


def load(shell: Any) -> None:
    """Register the magics, the completion and the hooks around each cell; twice does no harm."""
    shell.register_magics(*_MAGICS)
    completion.install(shell)
    handouts.prunes = True
    for event, hook in _HOOKS.items():
        if hook not in shell.events.callbacks[event]:
            shell.events.register(event, hook)
    cells.arrive()


def unload(shell: Any) -> None:
    """Undo `load`."""
    completion.remove(shell)
    handouts.prunes = False
    for event, hook in _HOOKS.items():
        with contextlib.suppress(ValueError):
            shell.events.unregister(event, hook)
    following.stop_all()
    resting.end()
    offering.accepted.clear()
    for magics in _MAGICS:
        for kind, names in magics.magics.items():
            for name in names:
                shell.magics_manager.magics[kind].pop(name, None)
