"""jshm: one copy of your data for every notebook on the machine.

>>> import jshm
>>> jshm.publish("X", X)  # in one notebook
>>> X = jshm.attach("X")  # in another: the same memory, nothing copied

In IPython: ``%load_ext jshm``, then ``%shm_publish X`` and ``%shm_attach X``.
"""

from __future__ import annotations

import importlib
from _thread import RLock
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .system.forks import wait_for
from .system.signals import deferred  # first: a handler may use jshm during the other imports

if TYPE_CHECKING:
    from .api import (
        attach,
        check,
        copy_and_detach,
        detach,
        empty,
        empty_like,
        full,
        gc,
        info,
        lock,
        publish,
        release,
        segments,
        wait,
        wait_async,
        watch,
        watch_async,
        zeros,
    )
    from .errors import (
        AmbiguousNameError,
        CorruptRegistryError,
        CorruptSegmentError,
        DefinitionWarning,
        DetachedError,
        DirectoryLostWarning,
        FormatVersionError,
        InvalidModeError,
        InvalidNameError,
        InvalidSettingError,
        JshmError,
        JshmWarning,
        LockHeldError,
        LockTimeoutError,
        LowMemoryWarning,
        MissingModuleError,
        NoSpaceError,
        NotOwnerError,
        NotShareableError,
        OverflowWarning,
        ReadOnlyError,
        RegistryError,
        RegistryTimeout,
        Remedy,
        SegmentExistsError,
        SegmentNotFoundError,
        SharedStateWarning,
        ShortLifeWarning,
        TooManyFilesError,
        UnknownGroupError,
        UnsafeDirectoryError,
        UnsupportedError,
        UntrustedError,
        WaitTimeoutError,
    )
    from .pickling import Pickler, dumps, loads, pickle_by_reference, pickle_by_value
    from .segment.views import is_shared
    from .store import group
    from .store.base import ObjectDetails, SegmentInfo
    from .store.handle import SharedNumpyArray
    from .store.watching import Watch
    from .widget import SegmentBrowser

# The module of each public name; it is imported when the name is first used.
_PUBLIC = {
    **dict.fromkeys(
        ("attach", "check", "copy_and_detach", "detach", "empty", "empty_like", "full", "gc", "info",
         "lock", "publish", "release", "segments", "wait", "wait_async", "watch", "watch_async", "zeros"),
        "api",
    ),
    **dict.fromkeys(
        ("AmbiguousNameError", "CorruptRegistryError", "CorruptSegmentError", "DefinitionWarning",
         "DetachedError", "DirectoryLostWarning",
         "FormatVersionError", "InvalidModeError", "InvalidNameError", "InvalidSettingError", "JshmError",
         "JshmWarning", "LockHeldError", "LockTimeoutError", "LowMemoryWarning",
         "MissingModuleError", "NoSpaceError", "NotOwnerError", "NotShareableError",
         "OverflowWarning", "ReadOnlyError", "RegistryError", "RegistryTimeout",
         "SegmentExistsError", "SegmentNotFoundError", "SharedStateWarning", "ShortLifeWarning",
         "TooManyFilesError",
         "Remedy", "UnknownGroupError", "UnsafeDirectoryError", "UnsupportedError", "UntrustedError",
         "WaitTimeoutError"),
        "errors",
    ),
    **dict.fromkeys(
        ("Pickler", "dumps", "loads", "pickle_by_reference", "pickle_by_value"), "pickling"
    ),
    "group": "store",
    "is_shared": "segment.views",
    "ObjectDetails": "store.base",
    "SegmentInfo": "store.base",
    "SharedNumpyArray": "store.handle",
    "SegmentBrowser": "widget",
    "Watch": "store.watching",
}  # fmt: skip

__all__ = [
    "AmbiguousNameError", "CorruptRegistryError", "CorruptSegmentError", "DefinitionWarning", "DetachedError",
    "DirectoryLostWarning", "FormatVersionError", "InvalidModeError", "InvalidNameError",
    "InvalidSettingError", "JshmError", "JshmWarning", "LockHeldError", "LockTimeoutError",
    "LowMemoryWarning", "MissingModuleError", "NoSpaceError", "NotOwnerError", "NotShareableError",
    "ObjectDetails", "OverflowWarning", "Pickler", "ReadOnlyError", "RegistryError", "RegistryTimeout",
    "Remedy", "SegmentBrowser", "SegmentExistsError", "SegmentInfo", "SegmentNotFoundError",
    "SharedNumpyArray", "SharedStateWarning", "ShortLifeWarning", "TooManyFilesError", "UnknownGroupError",
    "UnsafeDirectoryError", "UnsupportedError", "UntrustedError", "WaitTimeoutError", "Watch", "__version__",
    "attach", "check", "copy_and_detach", "detach", "dumps", "empty", "empty_like", "full", "gc", "group",
    "info", "is_shared", "loads", "lock", "pickle_by_reference", "pickle_by_value", "publish", "release",
    "segments", "wait", "wait_async", "watch", "watch_async", "zeros",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'jshm' has no attribute {name!r}")
    # Python releases import locks in a function in Python, in which Ctrl-C would be lost.
    with _importing, deferred():
        value = getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)
    globals()[name] = value
    return value


# A fork waits for imports by other threads: in the child the module would stay locked for ever.
_importing = RLock()
wait_for(_importing)


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(ipython: Any) -> None:
    """Load the magics: ``%load_ext jshm``."""
    from .ipython import load

    load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """Remove the magics: ``%unload_ext jshm``."""
    from .ipython import unload

    unload(ipython)


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    """Return where JupyterLab finds the panel."""
    return [{"src": "labextension", "dest": "jshm"}]


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Return the extension that a Jupyter server loads. Kernels never call this: they import no server."""
    from .server import JshmExtension

    return [{"module": "jshm.server", "app": JshmExtension}]
