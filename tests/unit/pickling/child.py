"""The program of an `Interpreter`: it runs one operation for each line of JSON, and answers with a line.

Whatever it needs itself is in this namespace and in `names`: ``__main__`` belongs to the cells.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import linecache
import os
import pickle
import sys
import traceback
from typing import Any

import numpy as np

from jshm import pickling
from jshm.pickling import classes, modules

replies = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
# From Python 3.13, that of ``python -c`` is the source of all that is executed from a string.
linecache.cache.pop("<string>", None)
main = sys.modules["__main__"]
blank = dict(vars(main))
names: dict[str, Any] = {}


def cell(source: str) -> None:
    """Run a cell as IPython does, so that its lines are known."""
    digest = hashlib.blake2s(source.encode(), digest_size=5).hexdigest()
    filename = f"/tmp/ipykernel_{os.getpid()}/{digest}.py"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec", dont_inherit=True), vars(main))


def without_source(source: str) -> None:
    """Run text whose lines are not known."""
    exec(compile(source, "<unknown>", "exec", dont_inherit=True), vars(main))


def reset() -> None:
    """Forget everything that was defined and loaded."""
    vars(main).clear()
    vars(main).update(blank)
    classes._made.clear()
    classes._definitions._entries.clear()
    classes._told.clear()
    modules._told.clear()
    names.clear()
    names.update(__name__="checks", main=main, np=np, pickle=pickle, pickling=pickling, sys=sys)


def run(code: str) -> Any:
    """Run statements that know `obj`; the value of the last, if it is an expression, is the answer."""
    filename = "<check>"
    linecache.cache[filename] = (len(code), None, code.splitlines(keepends=True), filename)
    tree = ast.parse(code)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, filename, "exec", dont_inherit=True), names)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), filename, "eval", dont_inherit=True), names)


def dump(expression: str, protocol: int | None) -> tuple[str, list[str]]:
    """Pickle the value of an expression of the cells; `obj` becomes that value."""
    names["obj"] = eval(expression, vars(main))
    buffers: list[pickle.PickleBuffer] = []
    callback = buffers.append if protocol in (None, 5) else None
    data = pickling.dumps(names["obj"], protocol, callback)
    encoded = [base64.b64encode(buffer.raw()).decode() for buffer in buffers]
    return base64.b64encode(data).decode(), encoded


def load(data: str, buffers: list[str]) -> None:
    """Unpickle; `obj` becomes the result."""
    decoded = [bytearray(base64.b64decode(buffer)) for buffer in buffers]
    names["obj"] = pickling.loads(base64.b64decode(data), buffers=decoded)


OPERATIONS = {f.__name__: f for f in (cell, without_source, reset, run, dump, load)}
reset()
for line in sys.stdin:
    answer: dict[str, Any] = {}
    try:
        operation, *arguments = json.loads(line)
        answer["value"] = OPERATIONS[operation](*arguments)
    except BaseException as error:  # every error goes to the caller
        answer["kinds"] = [kind.__name__ for kind in type(error).__mro__]
        answer["message"] = str(error)
        answer["traceback"] = traceback.format_exc()
        del error
    replies.write(json.dumps(answer, default=repr) + "\n")
    replies.flush()
