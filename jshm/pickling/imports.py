"""Modules beside the notebook that a function imports when it is called.

They do not travel: an ``import`` statement looks for them by name. The reader is told where they were
found, and looks there when it finds nothing else of that name: what it can import itself is never
hidden by that.
"""

from __future__ import annotations

import dis
import importlib.util
import os
import sys
import warnings
from importlib.machinery import ModuleSpec, PathFinder
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from . import extensions, frozen, modules
from .bycode import cached_by_code

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Beside:
    """Tells the reader where a module was found; it is written with the functions that import it."""

    def __init__(self, name: str, root: str, file: str) -> None:
        self.arguments = (name, root, file)

    def __reduce__(self) -> Any:
        return frozen.remember_place, self.arguments


def beside(function: FunctionType) -> list[Beside]:
    """Return the modules beside the notebook that a function imports when it is called."""
    imported = _imports(function.__code__)
    if not imported:
        return []
    package = str(function.__globals__.get("__package__") or "")
    names = {(package if level else name).partition(".")[0] for name, level in imported}
    found = [_place(name) for name in sorted(names - {""})]
    return [Beside(*place) for place in found if place is not None]


@cached_by_code
def _imports(code: CodeType) -> tuple[tuple[str, int], ...]:
    """Return the names that code imports, each with its level: 0 for an absolute one."""
    return tuple(dict.fromkeys(_scan(code)))


def _scan(code: CodeType) -> Iterator[tuple[str, int]]:
    numbers: list[Any] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            yield instruction.argval, next((n for n in reversed(numbers) if type(n) is int), 0)
            numbers = []
        elif instruction.opname in ("LOAD_CONST", "LOAD_SMALL_INT"):
            numbers = [*numbers[-1:], instruction.argval]
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _scan(constant)


def _place(name: str) -> tuple[str, str, str] | None:
    """Return a top-level module's name, directory and file; None if others can import it."""
    if modules.is_everywhere(name):
        return None
    if name in sys.modules:
        if not modules.is_by_value(name) and not extensions.file_of(name):
            return None
        spec = getattr(sys.modules[name], "__spec__", None)
    else:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            return None
    if not isinstance(spec, ModuleSpec) or not _is_beside(spec):
        return None
    file = spec.origin or ""
    within = [*(spec.submodule_search_locations or ())]
    root = os.path.dirname(within[0] if within else file)
    return name, os.path.abspath(root), os.path.abspath(file) if file else ""


def _is_beside(spec: ModuleSpec) -> bool:
    """Tell whether a module, imported or not, is in a place that other notebooks do not search."""
    places = [spec.origin] if spec.has_location and spec.origin else spec.submodule_search_locations
    found = [os.path.realpath(place) for place in places or ()]
    return bool(found) and not all(modules.is_installed(spec.name, place) for place in found)


# -- in the reader's process -----------------------------------------------------------------------

# Module name → the directory that its publisher found it in.
_roots: dict[str, str] = {}


class _Finder:
    """Looks for modules where their publishers found them; the last of all finders."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, _: object = None
    ) -> ModuleSpec | None:
        root = _roots.get(name) if path is None else None
        if root is None:
            return None
        spec = PathFinder.find_spec(name, [root])
        if spec is None:
            raise ModuleNotFoundError(
                f"No module named {name!r}: it was in {root} when a function that imports it was "
                "published. Put it there again, or in a directory of sys.path",
                name=name,
            )
        return spec


def remember(name: str, root: str, file: str) -> None:
    """Look for a module in a directory from now on, if it is found nowhere else."""
    if _Finder not in sys.meta_path:
        sys.meta_path.append(_Finder)
    here = _file_here(name)
    if here is None:
        _roots[name] = root
    elif file and here and here != file and not _same(here, file):
        warnings.warn(
            f"a function that was published imports {name} when it is called; that was {file}, and is "
            f"{here} here, which differs",
            RuntimeWarning,
            stacklevel=2,
        )


def _file_here(name: str) -> str | None:
    """Return the file of the module that the reader imports by a name; None if there is none."""
    module = sys.modules.get(name)
    if module is not None:
        return str(getattr(module, "__file__", None) or "")
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        if finder is _Finder or find is None:
            continue
        try:
            spec = find(name, None)
        except (ImportError, ValueError):
            continue
        if spec is not None:
            return spec.origin or ""
    return None


def _same(here: str, file: str) -> bool:
    """Tell whether two files say the same; also if that cannot be known."""
    try:
        with open(here, "rb") as one, open(file, "rb") as other:
            return one.read() == other.read()
    except OSError:
        return True
