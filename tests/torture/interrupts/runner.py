"""Ctrl-C at every place in jshm where Python can deliver it, for one operation in another process."""

from __future__ import annotations

import dis
import gc
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

import jshm
from jshm.store import default_store
from jshm.system import file_locks
from jshm.system import signals as interrupts

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

JSHM = os.path.dirname(jshm.__file__) + os.sep
ROOT = Path(__file__).parents[3]
ALL = 1 << 30


def _array(version: int) -> np.ndarray[Any, Any]:
    return np.full(1000, float(version))


def _object() -> dict[str, Any]:
    return {"refers": jshm.attach("R"), "own": _array(7)}


def _without_new() -> None:
    if "new" in default_store().names():
        jshm.release("new")


# The first brings about what the second needs; an interrupt comes in the second only.
OPERATIONS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "publish": (_without_new, lambda _: jshm.publish("new", _array(1))),
    "replace": (lambda: None, lambda _: jshm.publish("X", _array(1))),
    "several": (lambda: None, lambda _: jshm.publish({"X": _array(1), "Y": _array(1)})),
    "object": (_object, lambda made: jshm.publish("O", made)),
    "attach": (lambda: None, lambda _: jshm.attach("X")),
    "attach object": (lambda: jshm.publish("O", _object()), lambda _: jshm.attach("O")),
    "attach to write": (lambda: None, lambda _: jshm.attach("L", mode="r+")),
    "alias": (lambda: jshm.attach("X"), lambda mapped: jshm.publish("alias", mapped)),
    "allocate": (lambda: None, lambda _: jshm.empty(1000)),
    "seal": (lambda: jshm.zeros(1000), lambda made: jshm.publish("X", made)),
    "detach": (lambda: jshm.attach("X"), jshm.detach),
    "release": (lambda: jshm.publish("new", _array(1)), lambda _: jshm.release("new")),
    "list": (lambda: None, lambda _: jshm.segments()),
    "clean": (lambda: jshm.publish("new", jshm.zeros(10)), lambda _: jshm.gc()),
}


# After these Python looks whether a signal came.
_CHECKS = {
    code
    for name, code in dis.opmap.items()
    if name in {"CALL", "CALL_KW", "CALL_FUNCTION_EX", "RESUME", "JUMP_BACKWARD"}
}


class _Places:
    """Where in a function an exception from a signal may come."""

    def __init__(self, code: CodeType) -> None:
        instructions = list(dis.get_instructions(code))
        # It belongs to the instruction before; what cannot be told apart from that is tried.
        self.offsets = {
            after.offset
            for before, after in pairwise(instructions)
            if before.opcode in _CHECKS
            and _handler(code, before.offset) == _handler(code, after.offset)
        }


def _handler(code: CodeType, offset: int) -> tuple[int, int] | None:
    """Return where an exception at an instruction is caught, and at which depth of the stack."""
    for entry in dis._parse_exception_table(code):  # type: ignore[attr-defined]
        if entry.start <= offset < entry.end:
            return entry.target, entry.depth
    return None


class _Tracer:
    """Counts the places in jshm where a signal may come, and sends SIGINT at one of them."""

    _known: ClassVar[dict[CodeType, _Places]] = {}

    def __init__(self, at: int) -> None:
        self.at = at
        self.seen = 0
        self.where = ""

    def __call__(self, frame: FrameType, event: str, _: object) -> _Tracer | None:
        code = frame.f_code
        if event == "call":
            if not code.co_filename.startswith(JSHM):
                return None
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            if code not in self._known:
                self._known[code] = _Places(code)
        elif event == "opcode" and frame.f_lasti in self._known[code].offsets:
            self.seen += 1
            if self.seen == self.at:
                self.where = f"{code.co_filename.removeprefix(JSHM)}:{frame.f_lineno}"
                os.kill(os.getpid(), signal.SIGINT)
        return self


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _names() -> dict[str, int]:
    return {
        entry.name: entry.version
        for entry in default_store().registry.everything()
        if entry.is_current
    }


def _wrong(operation: str, before: dict[str, int], descriptors: int) -> list[str]:
    """Return what is not as it must be after an operation, interrupted or not."""
    store = default_store()
    found = []
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler or interrupts._block.depth:
        found.append("signals are still deferred")
    con = store.registry._connection()
    if con.lock._is_owned() or (con.raw is not None and con.raw.in_transaction):
        found.append("a transaction is still open")
    own = {store.process._lease._fd} if store.process._lease else set()
    if file_locks._locked - own:
        found.append(f"locked descriptors: {file_locks._locked - own}")
    now = _names()
    for name in {"X", "Y", "R", "L"} - set(now):
        found.append(f"{name} is gone")
    new = {name for name, version in now.items() if version != before.get(name)}
    if {"X", "Y"} & new and operation == "several" and not new >= {"X", "Y"}:
        found.append(f"one of two: {new}")
    for name in now:
        value = jshm.attach(name)
        values = list(value.values()) if isinstance(value, dict) else [value]
        if not all((one == one[0]).all() and one.size in (10, 1000) for one in values):
            found.append(f"{name} v{now[name]} is torn")
    value = values = None
    store.gc()
    found += [f"check: {problem.what}" for problem in store.check()]
    more = _descriptors() - descriptors
    if more > 0:
        found.append(f"{more} descriptors more")
    return found


def _once(operation: str, at: int) -> tuple[_Tracer, bool, list[str]]:
    prepare, act = OPERATIONS[operation]
    made = prepare()
    before, descriptors = _names(), _descriptors()
    tracer, interrupted = _Tracer(at), False
    try:
        sys.settrace(tracer)
        act(made)
        sys.settrace(None)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        sys.settrace(None)
    made = None
    return tracer, interrupted, _wrong(operation, before, descriptors)


def interrupt(operation: str, first: int, step: int) -> dict[str, Any]:
    jshm.publish({"X": _array(1), "Y": _array(1), "R": _array(3)}, keep=True)
    jshm.publish("L", _array(4), keep=True, writable=True)
    jshm.publish("new", _array(1))
    gc.disable()  # what is not let go of without it is a leak here
    for _ in range(3):
        places = _once(operation, ALL)[0].seen
    tried = interrupted = 0
    failures = []
    for at in range(first, places + 1, step):
        tracer, was, wrong = _once(operation, at)
        tried += 1
        interrupted += was
        failures += [f"{operation}, place {at} ({tracer.where}): {one}" for one in wrong]
    return {"places": places, "tried": tried, "interrupted": interrupted, "failures": failures}


@dataclass(frozen=True, slots=True)
class Result:
    """The interrupts of one operation."""

    places: int
    tried: int
    interrupted: int
    failures: list[str]


def run(operation: str, first: int = 1, step: int = 1, timeout: float = 600.0) -> Result:
    """Interrupt an operation in another process, at every `step`-th place."""
    done = subprocess.run(
        [sys.executable, "-m", __package__, operation, str(first), str(step)],
        capture_output=True, text=True, timeout=timeout, cwd=ROOT, check=False,
    )  # fmt: skip
    if done.returncode:
        return Result(0, 0, 0, [f"{operation}: exit code {done.returncode}: {done.stderr[-500:]}"])
    result = Result(**json.loads(done.stdout))
    if done.stderr:
        result.failures.append(f"{operation}: {done.stderr[-500:]}")
    return result
