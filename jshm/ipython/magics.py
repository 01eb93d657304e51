"""What all magics share: errors in one line, remedies as magics, text that is HTML in a notebook."""

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

_PUBLISHING = ("shm_publish", "shm_push", "shm_once")
# Errors that the user's own code raised: it must see them unchanged.
_shown_whole: WeakSet[JshmError] = WeakSet()


def one_line(magic: F) -> F:
    """Turn a user's error into one line that fails the cell without a traceback; shorten warnings, too."""
    name = magic.__name__

    @functools.wraps(magic)
    def call(*args: Any, **kwargs: Any) -> Any:
        line = chosen_group.set(chosen_group.get())  # --group ends with its line
        try:
            with short_warnings():
                return magic(*args, **kwargs)
        except JshmError as error:
            if error in _shown_whole:
                raise
            message = explain(error, name)
        except UsageError as error:  # it quotes the user's words
            error.args = (printable(str(error)),)
            raise
        finally:
            chosen_group.reset(line)
        # Not inside `except`: the chained traceback would keep arrays alive.
        raise UsageError(message)

    return cast("F", call)


@contextlib.contextmanager
def short_warnings() -> Iterator[None]:
    """Show jshm's own warnings without the line of IPython that called the magic."""
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


def explain(error: Exception, magic: str = "", group: str | None = None) -> str:
    """Return an error's message, with its remedies as magics.

    Parameters
    ----------
    error : Exception
    magic : str
        The magic that failed: ``shm_publish``; empty if none did.
    group : str, optional
        The group in whose store it happened; by default the one that this line chose.
    """
    if not isinstance(error, JshmError | JshmWarning):
        return str(error)
    chosen = (chosen_group.get() or "") if group is None else group
    return with_remedies(
        error.message, [r.sentence(_command_of(r, magic, chosen)) for r in error.remedies]
    )


def _command_of(remedy: Remedy, magic: str, group: str) -> str:
    """Return a remedy as a magic, ``%shm_release X --force``; as a Python call where there is no magic."""
    if remedy.action in ("check", "gc"):
        return f'with jshm.group("{group}"): {remedy.call()}' if group else remedy.call()
    if remedy.action == "publish" and remedy.options and magic in _PUBLISHING:
        # The line names the variables, which the error does not know.
        return " and ".join(
            f"leave --{option} out"
            if value is False
            else " ".join([f"add --{option}", *([value] if isinstance(value, str) else [])])
            for option, value in remedy.options.items()
        )
    return " ".join([f"%shm_{remedy.action}", *remedy.words()]) + group_option(group)


def group_option(group: str | None = None) -> str:
    """Return the ``--group`` option of a group, by default of the line's, for a magic to copy; '' if none."""
    chosen = chosen_group.get() if group is None else group
    return f" --group {chosen}" if chosen else ""


def with_traceback(error: JshmError) -> None:
    """Make `one_line` raise this error unchanged: the user's code raised it, not the magic."""
    _shown_whole.add(error)


def warn_of_short_life(published: SegmentInfo) -> None:
    """Print a note if what was published ends with this run or program."""
    life = default_store().identity.short_life(published.lifetime)
    if life:
        say(f"{life}; add --keep to keep it longer")


class ShmMagics(Magics):
    """Magics that work on the notebook's variables."""

    @property
    def _variables(self) -> dict[str, Any]:
        return variables.user_namespace()


def show(text: str, html: str) -> None:
    """Display text in a terminal, and HTML in a notebook."""
    display({"text/plain": encodable(text), "text/html": html}, raw=True)  # type: ignore[no-untyped-call]
