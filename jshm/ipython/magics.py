"""What all magics share: one-line errors, the notebook's variables, text that is also HTML."""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from IPython.core.error import UsageError
from IPython.core.magic import Magics
from IPython.display import display

from .. import errors, variables
from ..errors import JshmError, JshmWarning, Remedy, with_remedies
from ..store import chosen_group, default_store
from ..system.weak import WeakSet
from ..text import encodable, printable, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..store.base import SegmentInfo

F = TypeVar("F", bound=Callable[..., Any])

# Errors of the user's own code, which must find them.
_shown_whole: WeakSet[JshmError] = WeakSet()


def one_line(magic: F) -> F:
    """Let a user's slip be one line that fails the cell, and not a traceback; warnings, too."""

    @functools.wraps(magic)
    def call(*args: Any, **kwargs: Any) -> Any:
        line = chosen_group.set(chosen_group.get())  # what a line says of --group ends with it
        try:
            with short_warnings():
                return magic(*args, **kwargs)
        except JshmError as error:
            if error in _shown_whole:
                raise
            message = explain(error)
        except UsageError as error:  # it quotes what was typed
            error.args = (printable(str(error)),)
            raise
        finally:
            chosen_group.reset(line)
        # Not inside `except`: the error's traceback would go along, and keep arrays alive.
        raise UsageError(message)

    return cast("F", call)


@contextlib.contextmanager
def short_warnings() -> Iterator[None]:
    """Show jshm's own warnings without the place in IPython that called the magic."""
    show = warnings.showwarning

    def show_short(
        message: Warning | str, category: type[Warning], *where: Any, **more: Any
    ) -> None:
        if category.__module__ == errors.__name__:
            text = explain(message) if isinstance(message, JshmWarning) else str(message)
            say(f"{category.__name__}: {text}", stream=sys.stderr)
        else:
            show(message, category, *where, **more)

    warnings.showwarning = show_short
    try:
        yield
    finally:
        warnings.showwarning = show


def explain(error: Exception) -> str:
    """Return an error's message, with its remedies as magics."""
    if not isinstance(error, JshmError | JshmWarning):
        return str(error)
    return with_remedies(error.message, [r.sentence(command_of(r)) for r in error.remedies])


def command_of(remedy: Remedy) -> str:
    """Return a remedy as a magic, ``%shm_release X --force``; as a Python call where there is no magic."""
    if remedy.action in ("check", "gc"):
        return remedy.call()
    return " ".join([f"%shm_{remedy.action}", *remedy.words()]) + group_option()


def group_option() -> str:
    """Return the option of a magic that chooses the group of this line; '' if it chose none."""
    chosen = chosen_group.get()
    return f" --group {chosen}" if chosen else ""


def with_traceback(error: JshmError) -> None:
    """Let `one_line` pass an error on as it is: code of the user raised it, not the magic."""
    _shown_whole.add(error)


def warn_of_short_life(published: SegmentInfo) -> None:
    """Say so where what was published here lives no longer than that."""
    life = default_store().identity.short_life(published.lifetime)
    if life:
        say(f"{life}; add --keep to keep it longer")


class ShmMagics(Magics):
    """Magics that work on the notebook's variables."""

    @property
    def _variables(self) -> dict[str, Any]:
        return variables.user_namespace()


class Text:
    """Something to display that is text in a terminal and HTML in a notebook."""

    def __init__(self, text: str, html: str) -> None:
        self._text = text
        self._html = html

    def __repr__(self) -> str:
        return encodable(self._text)

    def _repr_html_(self) -> str:
        return self._html


def show(text: str, html: str) -> None:
    """Display text, as HTML where that is shown."""
    display(Text(text, html))  # type: ignore[no-untyped-call]
