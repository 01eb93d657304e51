"""The IPython extension: magics, completion and hooks around each cell (``%load_ext jshm``)."""

from __future__ import annotations

import contextlib
from typing import Any

from .. import variables
from . import cell_hooks, completion, following, offering
from .manage_magics import ManageMagics
from .offer_magics import OfferMagics
from .share_magics import ShareMagics

_MAGICS = (ShareMagics, ManageMagics, OfferMagics)
_HOOKS = {"pre_run_cell": cell_hooks.before, "post_run_cell": cell_hooks.after}


def load(shell: Any) -> None:
    """Register the magics, the completion and the hooks around each cell. It can be repeated."""
    shell.register_magics(*_MAGICS)
    completion.install(shell)
    variables.keep_containers(True)
    for event, hook in _HOOKS.items():
        if hook not in shell.events.callbacks[event]:
            shell.events.register(event, hook)
    cell_hooks.arrive()


def unload(shell: Any) -> None:
    """Undo `load`."""
    completion.remove(shell)
    variables.keep_containers(False)
    for event, hook in _HOOKS.items():
        with contextlib.suppress(ValueError):
            shell.events.unregister(event, hook)
    following.stop_all()
    cell_hooks.stop_resting()
    offering.accepted.clear()
    for magics in _MAGICS:
        for kind, names in magics.magics.items():
            for name in names:
                shell.magics_manager.magics[kind].pop(name, None)
