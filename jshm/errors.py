"""Every exception that jshm raises.

Each derives from `JshmError` and from the builtin that a user would catch who has never heard of
jshm. Messages say what was wrong, what was found, and what to do.
"""

from __future__ import annotations

import pickle
import sys
from typing import TYPE_CHECKING

from .text import shown

if TYPE_CHECKING:
    from types import FrameType


class JshmError(Exception):
    """Base of all jshm errors."""

    def __str__(self) -> str:
        return shown(super().__str__())


class InvalidNameError(JshmError, ValueError):
    """A name does not follow the grammar, or gives no variable to bind."""


class InvalidModeError(JshmError, ValueError):
    """A mode other than ``'r'``, ``'r+'`` or ``'c'``."""


class SegmentNotFoundError(JshmError, LookupError):
    """No such name, version or segment (any more)."""


class AmbiguousNameError(SegmentNotFoundError):
    """Several members of a group share something under that name."""


class WaitTimeoutError(SegmentNotFoundError, TimeoutError):
    """A name did not come within the time that the caller was ready to wait."""


class LockTimeoutError(JshmError, TimeoutError):
    """Others kept a lock for longer than the caller was ready to wait."""


class LockHeldError(JshmError, RuntimeError):
    """A thread asked for a lock that it has already: it would wait for itself for ever."""


class SegmentExistsError(JshmError, FileExistsError):
    """The name, or the variable, is taken by somebody else."""


class NotOwnerError(JshmError, PermissionError):
    """The name belongs to another notebook."""


class ReadOnlyError(JshmError, PermissionError, ValueError):
    """Mode ``'r+'`` was asked of a version that was published as a snapshot, or that is written to."""


class NotShareableError(JshmError, TypeError, pickle.PicklingError):
    """The object cannot be shared exactly, so it is not shared at all."""


class MissingModuleError(JshmError, ModuleNotFoundError):
    """An object needs a package that this Python cannot import. Nothing of it was run."""


class NoSpaceError(JshmError, MemoryError):
    """Neither the shared-memory directory nor its overflow has room."""


class InvalidSettingError(JshmError, ValueError):
    """An environment variable does not say what it should."""


class CorruptSegmentError(JshmError, ValueError):
    """A segment file is truncated, overwritten, or not ours."""


class RegistryError(JshmError, RuntimeError):
    """The registry cannot be used."""


class CorruptRegistryError(RegistryError):
    """The registry's file is damaged."""


class FormatVersionError(RegistryError):
    """The store was written by a newer jshm whose format this one does not know."""


class RegistryTimeout(RegistryError, TimeoutError):  # noqa: N818 - the name is public (DESIGN.md §7)
    """Another process kept the registry locked for too long."""


class UnsafeDirectoryError(JshmError, PermissionError):
    """The directory is not private, not ours, or not on this machine."""


class UnknownGroupError(JshmError, LookupError):
    """No such Unix group, or this process is not in it."""


class UntrustedError(JshmError, PermissionError):
    """Attaching an object of a group would run others' code, and the caller did not ask for that."""


class TooManyFilesError(JshmError, OSError):
    """The process ran out of file descriptors or of memory mappings."""


class DetachedError(JshmError, ValueError):
    """A handle was used after `detach` or `release`."""


class JshmWarning(UserWarning):
    """Base of all jshm warnings."""

    def __str__(self) -> str:
        return shown(super().__str__())


class OverflowWarning(JshmWarning):
    """A segment went to disk because the shared-memory directory is too small."""


class SharedStateWarning(JshmWarning):
    """Values that were published in one step share state, and keep that if they are attached in one."""


class LowMemoryWarning(JshmWarning):
    """What is about to be written leaves little of the machine's or the container's memory."""


class ShortLifeWarning(JshmWarning):
    """What was published ends with this program, and not with a Jupyter server."""


class DirectoryLostWarning(JshmWarning):
    """Something deleted the shared-memory directory while it was in use."""


class DefinitionWarning(JshmWarning):
    """A class, or a module, is defined differently here than where an object was published."""


def outside() -> int:
    """Return the stack level of whoever called jshm, for a warning that the caller gives."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001
    level = 1
    while frame is not None and frame.f_globals.get("__name__", "").startswith("jshm."):
        frame, level = frame.f_back, level + 1
    return level
