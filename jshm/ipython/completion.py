"""Tab completion of names, with dtype and shape: IPython's matcher API, version 2.

It also works inside ``jshm.attach("…")``. Completion must never raise and never be slow: a store that
cannot be read gives no completions.
"""

from __future__ import annotations

import contextlib
import grp
import os
import re
from types import ModuleType
from typing import TYPE_CHECKING, Any

from IPython.core.completer import SimpleCompletion, context_matcher

from .. import variables
from ..errors import JshmError
from ..pickling.describe import summary
from ..store import default_store, group
from ..text import printable
from ..variables import is_from_jshm
from .offer_magics import other_kernels

if TYPE_CHECKING:
    from collections.abc import Callable

    from IPython.core.completer import CompletionContext, SimpleMatcherResult

    from ..store.base import Store

_OPTIONS = {
    "publish": ("--as", "--group", "--keep", "--move", "--note", "--replace", "--writable"),
    "attach": ("--as", "--follow", "--group", "--mode", "--trust", "--version", "--wait"),
    "once": ("--as", "--group", "--keep", "--mode", "--replace", "--rerun"),
    "list": ("--group",),
    "info": ("--group", "--version"),
    "detach": ("--group",),
    "push": ("--as", "--group", "--replace", "--to"),
    "accept": ("--as", "--auto", "--decline", "--follow", "--group", "--mode", "--trust"),
    "release": ("--all", "--force", "--group", "--unused", "--yes"),
}
_MAGIC = re.compile(r"^\s*(?:[\w., ]+=\s*)?%{1,2}shm_(?P<magic>\w+)\s+(?P<words>.*)$")
_CALL = re.compile(
    r"\bjshm\.(?:attach|detach|info|release)\(\s*(?P<quote>['\"])(?P<token>[^'\"]*)$"
)
_GROUP = re.compile(r"(?:^|\s)--group[= ](?P<name>\S+)")
_LIMIT = 500


@context_matcher(identifier="jshm.names", priority=100)  # type: ignore[untyped-decorator]
def match_names(context: CompletionContext) -> SimpleMatcherResult:
    """Complete the word at the cursor, after a jshm magic or inside a call of jshm."""
    line = context.line_with_cursor[: context.cursor_position]
    found = _candidates(line)
    if found is None:
        return {"completions": []}
    token, candidates = found
    # JupyterLab would break the line at a blank, and its rows are one line high.
    completions = [
        SimpleCompletion(text, type=printable(kind).replace(" ", "\N{NO-BREAK SPACE}"))
        for text, kind in candidates
        if text.startswith(token) and text.isprintable()  # it could not be typed otherwise
    ]
    return {
        "completions": completions[:_LIMIT],
        "matched_fragment": token,
        "suppress": True,  # even without a match: other completers do not know names
        "ordered": True,
    }


def _candidates(line: str) -> tuple[str, list[tuple[str, str]]] | None:
    """Return the word at the cursor, and its completions with their types; None if jshm has none."""
    if call := _CALL.search(line):
        return call["token"], _names(call["token"])
    magic = _MAGIC.match(line)
    if magic is None or magic["magic"] not in _OPTIONS:
        return None
    before, _, token = magic["words"].rpartition(" ")
    if token.startswith("-"):
        return token, [(option, "option") for option in _OPTIONS[magic["magic"]]]
    if before.endswith("--mode"):
        return token, [("r", "read-only"), ("r+", "shared, writable"), ("c", "copy-on-write")]
    if before.endswith("--group"):
        return token, _groups()
    if before.endswith("--to"):
        return token, _kernels(before)
    if before.endswith("--auto"):
        return token, [("off", "show only"), *_kernels(before)]
    if before.endswith(("--as", "--note", "--wait", "--version")):
        return token, []
    if token[:1] in "'\"" and token:
        token = token[1:]
    if magic["magic"] in ("publish", "once"):
        return token, _variables()
    if magic["magic"] == "push":
        return token, [*_variables(), *_names(token, before)]
    if magic["magic"] == "accept":
        return token, _offers(before)
    if magic["magic"] == "detach":
        return token, [*_variables(shared=True), *_names(token, before)]
    if magic["magic"] == "release":
        return token, _own_names(token, before)
    return token, _names(token, before)


def _groups() -> list[tuple[str, str]]:
    """Return the groups that this process is in."""
    found = []
    for gid in os.getgroups():
        with contextlib.suppress(KeyError):
            found.append((grp.getgrgid(gid).gr_name, "group"))
    return found


def _names(token: str, before: str = "") -> list[tuple[str, str]]:
    """Return the names with this prefix, in the store of the group that the line names, if any."""
    return _asked(before, lambda store: store.complete(token, _LIMIT))


def _own_names(token: str, before: str) -> list[tuple[str, str]]:
    """Return the names with this prefix that this user may release."""

    def ask(store: Store) -> list[tuple[str, str]]:
        own = {*store.own_names(), *map(store.exact, store.own_names())}
        return [found for found in store.complete(token, _LIMIT) if found[0] in own]

    return _asked(before, ask)


def _offers(before: str) -> list[tuple[str, str]]:
    """Return the names that are offered to this notebook, with the sender."""
    return _asked(
        before,
        lambda store: [(o.info.name, f"from {o.sender.label}") for o in store.offers.received()],
    )


def _kernels(before: str) -> list[tuple[str, str]]:
    """Return the other running kernels: by notebook, if no other kernel has its name, and by id."""
    beside = _asked(
        before,
        lambda store: [(k.label, k.identity.kernel_id) for k in other_kernels(store)],
    )
    labels = [label for label, _ in beside]
    named = [(label, "notebook") for label in labels if labels.count(label) == 1]
    return [*named, *((kernel_id, label) for label, kernel_id in beside if kernel_id)]


def _asked(
    before: str, question: Callable[[Store], list[tuple[str, str]]]
) -> list[tuple[str, str]]:
    """Return the answer of the store that the line means; nothing from a store that cannot be read."""
    chosen = _GROUP.search(before)
    try:
        with group(chosen["name"]) if chosen else contextlib.nullcontext():
            return question(default_store())
    except (JshmError, OSError, ValueError):  # ValueError: half a character
        return []


def _variables(*, shared: bool = False) -> list[tuple[str, str]]:
    return [
        (name, summary(value))
        for name, value in variables.user_variables(variables.user_namespace())
        if (is_from_jshm(name, value) if shared else not issubclass(type(value), ModuleType))
    ]


def install(shell: Any) -> None:
    """Register the matcher. It can be repeated."""
    if match_names not in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.append(match_names)


def remove(shell: Any) -> None:
    """Unregister the matcher."""
    if match_names in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.remove(match_names)
