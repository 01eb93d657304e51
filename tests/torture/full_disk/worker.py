"""A process that publishes, attaches and releases at random, and checks its names after each step."""

from __future__ import annotations

import gc
import random
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

import jshm

from ...support.full_disk import MB

if TYPE_CHECKING:
    from collections.abc import Callable

_LARGEST = 3 * MB
_NAMES = 6

Token = tuple[int, int]
"""From which an array can be made again: a seed, and its bytes."""


def make(token: Token) -> np.ndarray[Any, Any]:
    return np.random.default_rng(token[0]).integers(0, 256, token[1], np.uint8)


class Worker:
    """The operations of one process. Its names begin with its own.

    Attributes
    ----------
    known : dict of str to Token
        What must be under each of its names.
    """

    def __init__(self, name: str, seed: int) -> None:
        warnings.simplefilter("ignore", jshm.OverflowWarning)
        self.known: dict[str, Token] = {}
        self.refused = 0
        self._name = name
        self._random = random.Random(seed)
        self._held: dict[str, tuple[Token, Any]] = {}

    def work(self, count: int) -> list[str]:
        """Do something that many times; return what went wrong."""
        wrong = []
        for _ in range(count):
            operation = self._random.choice(_OPERATIONS)
            try:
                operation(self)
            except jshm.NoSpaceError as error:
                self.refused += 1
                if not any(way in str(error) for way in ("elease", "ree space")):
                    wrong.append(f"{operation.__name__}: no way out: {error}")
            except Exception as error:
                wrong.append(f"{operation.__name__}: {type(error).__name__}: {error}")
            wrong += [f"{operation.__name__}: then {what}" for what in self._wrong()]
        return wrong

    def _wrong(self) -> list[str]:
        """Return what is not as it was left."""
        found = []
        for name, token in self.known.items():
            try:
                value = jshm.attach(name)
            except jshm.JshmError as error:
                found.append(f"{name}: {type(error).__name__}: {error}")
                continue
            array = value["a"] if isinstance(value, dict) else value
            if not np.array_equal(array, make(token)):
                found.append(f"{name} shows other data")
        for name, (token, array) in self._held.items():
            if not np.array_equal(array, make(token)):
                found.append(f"what {name} was shows other data")
        return found

    def _any(self) -> str:
        return f"{self._name}-{self._random.randrange(_NAMES)}"

    def _token(self) -> Token:
        return self._random.randrange(1 << 30), int(_LARGEST ** self._random.random())

    def publish(self) -> None:
        name, token = self._any(), self._token()
        jshm.publish(name, make(token), keep=self._random.random() < 0.5)
        self.known[name] = token

    def publish_several(self) -> None:
        tokens = {self._any(): self._token() for _ in range(3)}
        jshm.publish({name: make(token) for name, token in tokens.items()})
        self.known.update(tokens)

    def publish_object(self) -> None:
        name, token = self._any(), self._token()
        jshm.publish(name, {"a": make(token), "b": ["text"] * self._random.randrange(1000)})
        self.known[name] = token

    def publish_strided(self) -> None:
        name, token = self._any(), self._token()
        jshm.publish(name, np.repeat(make(token), 2)[::2])
        self.known[name] = token

    def seal(self) -> None:
        name, token = self._any(), self._token()
        array = jshm.empty(token[1], np.uint8)
        array[...] = make(token)  # a SIGBUS, if a page of it were not there
        jshm.publish(name, array)
        self.known[name] = token

    def allocate(self) -> None:
        token = self._token()
        array = jshm.SharedNumpyArray.create_new(token[1], np.uint8).array
        array[...] = make(token)
        self._held["an array without a name"] = token, array

    def hold(self) -> None:
        arrays = [name for name in self.known if isinstance(jshm.attach(name), np.ndarray)]
        if arrays:
            name = self._random.choice(arrays)
            self._held[name] = self.known[name], jshm.attach(name)

    def let_go(self) -> None:
        self._held.clear()
        gc.collect()
        jshm.gc()

    def release(self) -> None:
        """A release works even if everything is full."""
        names = self._random.sample(sorted(self.known), min(len(self.known), 3))
        if not names:
            return
        try:
            jshm.release(names)
        except jshm.NoSpaceError as error:
            raise RuntimeError(f"a release was refused: {error}") from None
        for name in names:
            del self.known[name]

    def look(self) -> None:
        there = {info.name for info in jshm.segments() if info.state == "current"}
        if missing := self.known.keys() - there:
            raise RuntimeError(f"not listed: {missing}")


# Operations that take space are frequent, so that it runs out.
_OPERATIONS: list[Callable[[Worker], None]] = [
    Worker.publish, Worker.publish, Worker.publish, Worker.publish_several, Worker.publish_object,
    Worker.publish_strided, Worker.seal, Worker.allocate, Worker.hold, Worker.let_go,
    Worker.release, Worker.look,
]  # fmt: skip
