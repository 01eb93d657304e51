"""What a class or a function is defined as, to tell whether two of one name are the same.

A definition is a fingerprint of each *part*: a class's methods, fields, members, bases and constants,
and the functions, classes and constants of its own module that its code names. It holds what travels
with a class: code, defaults, annotations. It does not hold line numbers, comments, or state: what is
mutable, and what code assigns to.

There are two fingerprints of each part, because neither is always known. One is of the bytecode or of
the value; another version of Python compiles other bytecode, and a constant may have been assigned to.
The other is of the source: it is known for cells and files, and not for what `exec` made.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

CODE, VALUE, SOURCE = "c", "v", "s"
# With a name: the part that is the value of a global constant, which code of the class names.
CONSTANT = "constant"
DOCSTRING = "its docstring"
"""The name of a part that tells apart only classes that the reader did not define."""


class Part(NamedTuple):
    """The fingerprints of one part of a definition; '' where one is not known.

    Attributes
    ----------
    kind : {'c', 'v', 's'}
        Code, a value, or what only its source tells.
    here : str
        Of the bytecode, or of the value.
    source : str
        Of the source: of a function's statement, or of the expression that gave the value.
    """

    kind: str
    here: str
    source: str = ""

    def differs(self, other: Part, *, same_python: bool) -> bool:
        """Tell whether two parts of one name are known to differ."""
        if self.kind != other.kind:
            return True
        if self.kind == CODE and not same_python:
            # Without both sources nobody can tell.
            return not self.source or self.source != other.source
        if self.kind != CODE and self.source and other.source:
            return self.source != other.source
        return bool(self.here and other.here) and self.here != other.here


class Definition(NamedTuple):
    """What a class or a function is defined as.

    Attributes
    ----------
    module, qualname : str
        What it is called; ``__main__`` also where that is the main module of a worker.
    tag : int
        Which bytecode its code is.
    reaches : bool
        Whether it holds what its code names of its module, too.
    parts : dict of str to Part
    """

    module: str
    qualname: str
    tag: int
    reaches: bool
    parts: Mapping[str, Part]

    @property
    def key(self) -> tuple[str, str]:
        return self.module, self.qualname

    def differences(self, other: Definition, *, apart_from: Collection[str] = ()) -> list[str]:
        """Return the names of the parts that differ; empty if both are the same definition."""
        same_python = self.tag == other.tag
        return [
            name
            for name in sorted({*self.parts, *other.parts}.difference(apart_from))
            if name not in self.parts
            or name not in other.parts
            or self.parts[name].differs(other.parts[name], same_python=same_python)
        ]

    def to_json(self) -> str:
        """Return it as text: one object in a pickle, and the same bytes in every process."""
        return json.dumps(self, separators=(",", ":"), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Definition:
        module, qualname, tag, reaches, parts = json.loads(text)
        return Definition(module, qualname, tag, reaches, {n: Part(*p) for n, p in parts.items()})


def module_of(obj: Any) -> str:
    """Return the name of a class's or a function's module.

    `multiprocessing` calls the main module of a worker ``__mp_main__``: it is the script's.
    """
    name = getattr(obj, "__module__", None)
    if name == "__mp_main__":
        return "__main__"
    return name if isinstance(name, str) else ""
