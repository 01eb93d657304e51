"""Every exception that jshm raises, with its remedies as data.

Each exception derives from `JshmError` and from the builtin that a user would catch. The message says
what was wrong and what was found. A `Remedy` names the jshm operation that helps; each face shows it in
its own words: a magic, a shell command, a Python call or a button.
"""

from __future__ import annotations

import pickle
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from .text import shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

Action = Literal["publish", "attach", "detach", "release", "list", "info", "check", "gc"]
# The Python call of each action; `segments` lists.
_CALLS = {"list": "segments"}


@dataclass(frozen=True, slots=True)
class Remedy:
    """A jshm operation that solves a problem, or a part of it.

    Attributes
    ----------
    action : {'publish', 'attach', 'detach', 'release', 'list', 'info', 'check', 'gc'}
    names : tuple of str
        What it applies to; empty for all, or where only the user knows.
    options : mapping of str to str or bool
        By the names that they have in the Python call: ``{"force": True}``, ``{"mode": "c"}``; ``as``
        is the variable that an attach binds, or the name that a publish takes.
    purpose : str
        What it achieves, at the start of a sentence: ``Retire for everyone``. May be empty.
    """

    action: Action
    names: tuple[str, ...] = ()
    options: Mapping[str, str | bool] = field(default_factory=dict)
    purpose: str = ""

    def call(self) -> str:
        """Return the remedy as a Python call: ``jshm.release("X", force=True)``."""
        is_publish = self.action == "publish"
        bound = str(self.options.get("as", ""))
        names = [f'"{name}"' for name in ([bound] if is_publish and bound else self.names)]
        words = [f"[{', '.join(names)}]"] if len(names) > 1 else names
        if is_publish and names:
            words.append("…")
        for key, value in self.options.items():
            if key != "as":
                words.append(f'{key}="{value}"' if isinstance(value, str) else f"{key}={value}")
        target = f"{bound} = " if bound and not is_publish else ""
        return f"{target}jshm.{_CALLS.get(self.action, self.action)}({', '.join(words)})"

    def words(self) -> list[str]:
        """Return the names and options as words of a command line: ``["X", "--force"]``."""
        words = list(self.names)
        if self.action == "publish" and words:
            # A magic publishes a variable. Under another name than the variable's: with --as.
            variable = words[0].rpartition("/")[2]
            variable = variable if variable.isidentifier() else "X"
            words = [variable] if [variable] == words else [variable, "--as", *words]
        for key, value in self.options.items():
            if value is not False:
                words += [f"--{key}"] if value is True else [f"--{key}", str(value)]
        return words

    def sentence(self, command: str) -> str:
        """Return the purpose, followed by the command that a face shows for this remedy."""
        return f"{self.purpose}: {command}" if self.purpose else command


class _Remedied(Exception):  # noqa: N818 - a base of errors and of warnings
    """A message and its remedies.

    Parameters
    ----------
    *args
        As the builtin exception takes them: a message, or an errno and a message.
    remedy : Remedy or tuple of Remedy
        The most useful one first.
    """

    remedies: tuple[Remedy, ...] = ()

    def __init__(self, *args: Any, remedy: Remedy | tuple[Remedy, ...] = (), **named: Any) -> None:
        super().__init__(*args, **named)
        if remedy:
            self.remedies = (remedy,) if isinstance(remedy, Remedy) else remedy

    @property
    def message(self) -> str:
        """What is wrong, without the remedies: for a face that shows those in its own words."""
        return shown(super().__str__())

    def __str__(self) -> str:
        return with_remedies(self.message, [r.sentence(r.call()) for r in self.remedies])


def with_remedies(message: str, sentences: list[str]) -> str:
    """Return a message, followed by what to do about it."""
    return ". ".join([message.removesuffix("."), *map(shown, sentences)]) if sentences else message


class JshmError(_Remedied):
    """Base of all jshm errors.

    Attributes
    ----------
    message : str
        What is wrong, without the remedies.
    remedies : tuple of Remedy
        What to do about it; ``str(error)`` shows them as Python calls.
    """


class InvalidNameError(JshmError, ValueError):
    """A name does not follow the grammar, or its last part is not a valid variable name."""


class InvalidModeError(JshmError, ValueError):
    """A mode other than ``'r'``, ``'r+'`` or ``'c'``."""


class SegmentNotFoundError(JshmError, LookupError):
    """The name, version or segment does not exist, or does not exist any more."""


class AmbiguousNameError(SegmentNotFoundError):
    """Several members of a group share data under the same name."""


class WaitTimeoutError(SegmentNotFoundError, TimeoutError):
    """A name was not published before the timeout."""


class LockTimeoutError(JshmError, TimeoutError):
    """Others held a lock until the timeout."""


class LockHeldError(JshmError, RuntimeError):
    """A thread asks for a lock that it holds already; it would wait for itself for ever."""


class SegmentExistsError(JshmError, FileExistsError):
    """The name belongs to another notebook, or the variable has another value."""


class NotOwnerError(JshmError, PermissionError):
    """The name belongs to another notebook."""


class ReadOnlyError(JshmError, PermissionError, ValueError):
    """A snapshot was attached with mode ``'r+'``, or written to."""


class NotShareableError(JshmError, TypeError, pickle.PicklingError):
    """The object cannot be shared exactly, so it is not shared at all."""


class MissingModuleError(JshmError, ModuleNotFoundError):
    """An object needs a package that this Python cannot import. None of the object's code was run."""


class NoSpaceError(JshmError, MemoryError):
    """Neither the shared-memory directory nor the overflow directory has room."""


class InvalidSettingError(JshmError, ValueError):
    """An environment variable has an invalid value."""


class CorruptSegmentError(JshmError, ValueError):
    """A segment file is truncated or overwritten, or jshm did not write it."""


class RegistryError(JshmError, RuntimeError):
    """The registry cannot be used."""


class CorruptRegistryError(RegistryError):
    """The registry's file is damaged."""


class FormatVersionError(RegistryError):
    """The store or a segment has a format that this jshm does not know; usually a newer jshm wrote it."""


class RegistryTimeout(RegistryError, TimeoutError):  # noqa: N818 - the name is public
    """Another process held the registry, or a segment, locked until the timeout."""


class UnsafeDirectoryError(JshmError, PermissionError):
    """The directory is not private, belongs to another user, or is not on this machine."""


class UnknownGroupError(JshmError, LookupError):
    """The Unix group does not exist, or this process is not in it."""


class UntrustedError(JshmError, PermissionError):
    """To attach an object of another member would run that user's code, and the caller did not allow it."""


class TooManyFilesError(JshmError, OSError):
    """The process ran out of file descriptors or of memory mappings."""


class UnsupportedError(JshmError, NotImplementedError):
    """The store does not have the ability that was asked for; see `Store.can`."""


class DetachedError(JshmError, ValueError):
    """A handle was used after `detach` or `release`."""


class JshmWarning(_Remedied, UserWarning):
    """Base of all jshm warnings."""


class OverflowWarning(JshmWarning):
    """A segment was written to disk because the shared-memory directory is too small."""


class SharedStateWarning(JshmWarning):
    """Values that were published together share state; after an attach only if attached together."""


class LowMemoryWarning(JshmWarning):
    """A publish leaves little of the machine's or the container's memory free."""


class ShortLifeWarning(JshmWarning):
    """A published name ends with this program, not with a Jupyter server."""


class DirectoryLostWarning(JshmWarning):
    """Something deleted the shared-memory directory while it was in use."""


class DefinitionWarning(JshmWarning):
    """A class or module is defined differently here than where an object was published."""


def outside() -> int:
    """Return the stack level of the code that called jshm, for `warnings.warn` in the caller."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001
    level = 1
    while frame is not None and frame.f_globals.get("__name__", "").startswith("jshm."):
        frame, level = frame.f_back, level + 1
    return level
