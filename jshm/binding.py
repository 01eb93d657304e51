"""Binding a variable to what was attached, and saying so in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .handouts import bind, is_from_jshm
from .pickling import static as looking
from .store.base import type_name
from .text import age_text

if TYPE_CHECKING:
    from .segment.file import Mode
    from .store.base import Attached

_MODES: dict[Mode, str] = {
    "r": "read-only, nothing copied",
    "r+": "LIVE: shared and writable, nothing copied",
    "c": "copy-on-write: your changes stay yours, nothing copied",
}
_OBJECT_MODES: dict[Mode, str] = {
    "r": "its arrays are read-only, nothing copied",
    "c": "its arrays are copy-on-write: your changes stay yours, nothing copied",
}


def bind_attached(namespace: dict[str, Any], variable: str, attached: Attached, mode: Mode) -> str:
    """Let a variable be what was attached; return what to tell the user."""
    before = namespace.get(variable)
    replaced = "" if is_from_jshm(variable, before) else _describe_replaced(before)
    bind(namespace, variable, attached.value, attached.segments)
    return attached_line(variable, attached, mode) + replaced


def attached_line(variable: str, attached: Attached, mode: Mode) -> str:
    """Return what to tell the user of what was attached, and is called `variable` now, if anything."""
    shown = f"{variable} ← {attached.name}" if variable else attached.name
    arrow = ""
    if variable == attached.name:
        shown, arrow = variable, " ←"
    age = age_text(attached.created)
    how = (_MODES if attached.kind == "array" else _OBJECT_MODES)[mode]
    how = f" · {how}" if attached.shares else ""
    apart = ", ".join(attached.apart)
    how += f" · shares state with {apart}, not attached with it" if apart else ""
    return f"{shown}{arrow} v{attached.version} from {attached.publisher}, {age}{how}"


def _describe_replaced(value: Any) -> str:
    if value is None:
        return ""
    if issubclass(type(value), np.ndarray):
        dtype, shape = np.ndarray.dtype.__get__(value), np.ndarray.shape.__get__(value)
        return f" · replaced your {type_name(dtype)} {shape}"
    return f" · replaced your {looking.name(type(value))}"
