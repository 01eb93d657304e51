"""Sizes that users set in environment variables."""

from __future__ import annotations

import os
import re
from functools import lru_cache

from ..errors import InvalidSettingError
from .memory import total_memory

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:%|(?:([kmgt])(i?))?b?)", re.IGNORECASE)


def size_setting(variable: str, default: str = "") -> int | None:
    """Return the bytes that an environment variable says; None if it and `default` say nothing.

    Raises
    ------
    InvalidSettingError
    """
    text = os.environ.get(variable, "").strip() or default
    return _parse(variable, text) if text else None


@lru_cache(maxsize=16)
def _parse(variable: str, text: str) -> int:
    found = _SIZE.fullmatch(text)
    number = float(found[1]) if found else -1.0
    if found is None or (text.endswith("%") and number > 100):  # noqa: PLR2004
        raise InvalidSettingError(
            f"{variable} is {text!r}: say bytes, like 8G, 500M, 2Gi or 1000000, or a share of the "
            "memory that there is, like 50%"
        )
    if text.endswith("%"):
        return int(total_memory() * number / 100)
    power = " kmgt".index((found[2] or " ").lower())
    return int(number * (1024 if found[3] else 1000) ** power)
