"""Damage: of bytes without regard to what they mean, and of structures, so that it gets behind the checks.

All randomness comes from the `random.Random` that is passed in: a seed makes a mutation again.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import struct
    from collections.abc import Callable
    from random import Random

# Where integers of some width, and Python's conversions to them, begin and end.
BOUNDARIES = sorted(
    {
        sign * ((1 << bits) + step)
        for bits in (0, 7, 8, 15, 16, 31, 32, 47, 53, 62, 63, 64)
        for step in (-1, 0, 1)
        for sign in (1, -1)
    }
)
_WIDTHS = (1, 2, 4, 8)
_LARGEST_EXTENSION = 1 << 16


def deep(levels: int, *, of: type[Any] = list) -> Any:
    """Nest lists or dicts."""
    found: Any = 1
    for _ in range(levels):
        found = [found] if of is list else {"a": found}
    return found


ODD: list[Callable[[], Any]] = [
    *(lambda value=value: value for value in (
        None, True, False, 0, 1, -1, 0.5, 1e300, float("nan"), float("inf"), -float("inf"), "", "a",
        "x" * 5000, "\0", "2", "../../etc/passwd", "/", "-", "<b>", "é" * 300, "0" * 16, "[" * 5000,
        "\ud800", [], {}, [[]], ["a", 1], {"a": [1]}, {"": None}, 10**400, -(10**400),
    )),
    lambda: deep(200), lambda: deep(50, of=dict), lambda: [0] * 1000, lambda: ["0" * 16] * 100,
]  # fmt: skip


def odd(random: Random) -> Any:
    """Return a value that is hardly what was expected."""
    return random.choice(BOUNDARIES) if random.random() < 0.4 else random.choice(ODD)()


# -- bytes -----------------------------------------------------------------------------------------


def flip_bits(random: Random, data: bytearray) -> None:
    for _ in range(random.choice((1, 1, 2, 8))):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def set_bytes(random: Random, data: bytearray) -> None:
    start = random.randrange(len(data))
    end = min(len(data), start + random.choice((1, 2, 4, 16, 64, 1000)))
    values: list[Callable[[int], bytes]] = [bytes, lambda n: b"\xff" * n, random.randbytes]
    data[start:end] = random.choice(values)(end - start)


def truncate(random: Random, data: bytearray) -> None:
    del data[random.randrange(len(data)) :]


def extend(random: Random, data: bytearray) -> None:
    data += random.randbytes(random.choice((1, 7, 64, 4096, _LARGEST_EXTENSION)))


def copy_block(random: Random, data: bytearray) -> None:
    length = random.choice((1, 4, 8, 64, 256))
    source, target = (random.randrange(len(data)) for _ in range(2))
    block = data[source : source + length]
    data[target : target + len(block)] = block


def swap_blocks(random: Random, data: bytearray) -> None:
    length = random.choice((1, 4, 8, 64))
    if len(data) < 2 * length:
        return
    first = random.randrange(len(data) - 2 * length + 1)
    second = random.randrange(first + length, len(data) - length + 1)
    a, b = data[first : first + length], data[second : second + length]
    data[first : first + length], data[second : second + length] = b, a


def remove_block(random: Random, data: bytearray) -> None:
    start = random.randrange(len(data))
    del data[start : start + random.choice((1, 2, 8, 64))]


def put_integer(random: Random, data: bytearray) -> None:
    """Write an integer of a boundary, at a place where one may be."""
    width = random.choice(_WIDTHS)
    if len(data) < width:
        return
    at = random.randrange(len(data) // width) * width
    order = random.choice(("little", "big"))
    value = random.choice(BOUNDARIES) % (1 << 8 * width)
    data[at : at + width] = value.to_bytes(width, order)  # type: ignore[arg-type]


_BYTES = (
    flip_bits, set_bytes, truncate, extend, copy_block, swap_blocks, remove_block, put_integer, put_integer,
)  # fmt: skip


def damage(random: Random, data: bytes, start: int = 0, stop: int | None = None) -> bytes:
    """Return `data` with the part from `start` to `stop` damaged once or a few times."""
    part = bytearray(data[start:stop])
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        if part:
            random.choice(_BYTES)(random, part)
    return data[:start] + bytes(part) + (b"" if stop is None else data[stop:])


# -- structures ------------------------------------------------------------------------------------


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, (list, tuple)) else items
    for key, inner in items:
        found += _places(inner, (*path, key))
    return found


def _changed(value: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(value)
    if isinstance(value, dict):
        return {k: _changed(v, path[1:], change) if k == path[0] else v for k, v in value.items()}
    parts = [_changed(v, path[1:], change) if i == path[0] else v for i, v in enumerate(value)]
    return type(value)(parts)


def _other(random: Random, value: Any) -> Any:
    """Return something else in a value's place, mostly something of its kind."""
    if random.random() < 0.3:
        return odd(random)
    if isinstance(value, dict) and value:
        key = random.choice(list(value))
        if random.random() < 0.5:
            return {k: v for k, v in value.items() if k != key}
        return {**value, random.choice((key, "more")): odd(random)}
    if isinstance(value, (list, tuple)):
        kind, parts = type(value), list(value)
        if parts and random.random() < 0.5:
            parts.pop(random.randrange(len(parts)))
        else:
            again = random.choice(parts) if parts and random.random() < 0.5 else odd(random)
            parts.insert(random.randint(0, len(parts)), again)
        return kind(parts * random.choice((1, 1, 1, 40)))
    if type(value) is bool:
        return not value
    if isinstance(value, int):
        return random.choice((value + 1, value - 1, -value, value * 2, random.choice(BOUNDARIES)))
    if isinstance(value, str) and value:
        at = random.randrange(len(value))
        letter = random.choice(("", "\0", "0", "f", "/", "\n", "ü", "\U0001f600", "\udfff"))
        return value[:at] + letter + value[at + 1 :]
    return odd(random)


def change_structure(random: Random, value: Any) -> Any:
    """Return JSON (or a Python literal) in which one or a few values are others, gone, or doubled."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        path = random.choice(_places(value))
        value = _changed(value, path, lambda inner: _other(random, inner))
    return value


def as_json(random: Random, value: Any) -> bytes:
    """Return JSON, now and then damaged as text, or nested deeper than any reader goes."""
    text = json.dumps(value).encode()
    chance = random.random()
    if chance < 0.05:
        at = random.randrange(len(text) + 1)
        depth = random.choice((500, 1000, 100_000))
        return text[:at] + b"[" * depth + b"]" * depth + text[at:]
    return damage(random, text) if chance < 0.2 else text


def checked(head: struct.Struct, magic: bytes, *fields: int, body: bytes) -> bytes:
    """Return a head whose length and CRC-32 are right, and its body."""
    return head.pack(magic, *fields, len(body), zlib.crc32(body)) + body
