"""The command line: a parser whose errors may quote any character, and remedies as commands."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import TYPE_CHECKING, NoReturn

from ..errors import with_remedies
from ..store import chosen_group
from ..text import encodable, printable

if TYPE_CHECKING:
    from ..errors import JshmError, Remedy


class CommandParser(argparse.ArgumentParser):
    """An argument parser whose errors are safe to print."""

    def error(self, message: str) -> NoReturn:
        super().error(encodable(printable(message), sys.stderr))


def command(*words: str) -> str:
    """Return a command for the store that this one works in: ``jshm --group lab check``."""
    return shlex.join(["jshm", *_group_option(), *words])


def explain(error: JshmError) -> str:
    """Return an error's message, with its remedies as commands of a shell."""
    # A shell has nothing mapped that it could detach.
    remedies = [remedy for remedy in error.remedies if remedy.action != "detach"]
    return with_remedies(error.message, [r.sentence(_command_of(r)) for r in remedies])


def _command_of(remedy: Remedy) -> str:
    if remedy.action in ("publish", "attach"):
        words = [f"%shm_{remedy.action}", *remedy.words(), *_group_option()]
        return f"in a notebook: {' '.join(words)}"
    return command(remedy.action, *remedy.words())


def _group_option() -> list[str]:
    group = chosen_group.get()
    return ["--group", group] if group else []
