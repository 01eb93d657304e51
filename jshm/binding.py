"""Binding a variable to what was attached, and saying so in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .handouts import bind, was_handed_out
from .store.base import type_name
from .text import age_text

if TYPE_CHECKING:
    from .segment import Mode
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
    replaced = _describe_replaced(namespace.get(variable))
    bind(namespace, variable, attached.value, attached.segments)
    shown = variable if variable == attached.name else f"{variable} ← {attached.name}"
    arrow = "" if shown != variable else " ←"
    age = age_text(attached.created)
    how = (_MODES if attached.kind == "array" else _OBJECT_MODES)[mode]
    how = f" · {how}" if attached.shares else ""
    apart = ", ".join(attached.apart)
    how += f" · shares state with {apart}, not attached with it" if apart else ""
    return f"{shown}{arrow} v{attached.version} from {attached.publisher}, {age}{how}{replaced}"


def _describe_replaced(value: Any) -> str:
    if value is None or was_handed_out(value):
        return ""
    if isinstance(value, np.ndarray):
        return f" · replaced your {type_name(value.dtype)} {value.shape}"
    return f" · replaced your {type(value).__name__}"
