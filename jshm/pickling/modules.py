"""What travels by reference, as a name to import, and what by value.

By reference goes what any other notebook of this environment can import too: built-in modules, the
standard library, installed packages (also those installed in editable mode). All else goes by value:
``__main__``, and modules that were found because they lie beside the notebook, in a directory that
was added to `sys.path` by hand, or in no file at all.

The user has the last word: `pickle_by_value`, `pickle_by_reference`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import site
import sys
import sysconfig
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

from ..errors import MissingModuleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# What is everywhere that a pickle of jshm can be read.
_EVERYWHERE = sys.stdlib_module_names | {"jshm", "numpy", "cloudpickle", "__main__", "__mp_main__"}
# Module name → by value; holds for what is below it too.
_chosen: dict[str, bool] = {}
_judged: dict[str, bool] = {}


def pickle_by_value(module: ModuleType | str) -> None:
    """Let functions and classes of a module, and of all below it, be shared by value.

    For a module that other notebooks cannot import, or that you are editing.

    Parameters
    ----------
    module : module or str
    """
    _choose(module, by_value=True)


def pickle_by_reference(module: ModuleType | str) -> None:
    """Let functions and classes of a module, and of all below it, be shared as names to import.

    For a module that other notebooks can import although it is not installed.

    Parameters
    ----------
    module : module or str
    """
    _choose(module, by_value=False)


def _choose(module: ModuleType | str, *, by_value: bool) -> None:
    name = module.__name__ if isinstance(module, ModuleType) else module
    if not isinstance(name, str):
        raise TypeError(f"a module or its name is needed, not a {type(module).__name__}")
    if name == "__main__" and not by_value:
        raise ValueError("__main__ is another module in every notebook: it goes by value")
    _chosen[name] = by_value
    _judged.clear()


def is_by_value(name: object) -> bool:
    """Tell whether what a module of that name defines goes by value; False for what is no name."""
    if not isinstance(name, str):
        return False
    found = _judged.get(name)
    if found is None:
        found = _judge(name)
        # What is imported later may be another module of this name.
        if name in sys.modules:
            _judged[name] = found
    return found


def _judge(name: str) -> bool:
    if _is_compiled(sys.modules.get(name)):
        return False  # there is no value of it that could travel
    for parent in _with_parents(name):
        if parent in _chosen:
            return _chosen[parent]
    if name.partition(".")[0] in _EVERYWHERE:
        return False
    module = sys.modules.get(name)
    places = _places(module)
    if not places:
        return _is_made_here(name)
    return not all(_is_installed(name, place) for place in places)


def _is_compiled(module: ModuleType | None) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and file.endswith(tuple(EXTENSION_SUFFIXES))


def _is_made_here(name: str) -> bool:
    """Tell whether a module without a file was made at run time, and not by another module's import."""
    found = [sys.modules.get(parent) for parent in _with_parents(name)]
    return found[0] is not None and all(getattr(m, "__spec__", None) is None for m in found)


def extension_file(name: str) -> str:
    """Return the file of a compiled module that is not installed; '' for any other module."""
    if is_everywhere(name) or name in _chosen:
        return ""
    module = sys.modules.get(name)
    if not _is_compiled(module):
        return ""
    (place,) = _places(module)
    return "" if _is_installed(name, place) else place


def is_everywhere(name: str) -> bool:
    """Tell whether a module is where jshm is, without looking for it."""
    return name.partition(".")[0] in _EVERYWHERE


def is_beside(spec: ModuleSpec) -> bool:
    """Tell whether a module, imported or not, is in a place that other notebooks do not search."""
    if is_everywhere(spec.name) or not _chosen.get(spec.name, True):
        return False
    places = [spec.origin] if spec.has_location and spec.origin else spec.submodule_search_locations
    found = [os.path.realpath(place) for place in places or ()]
    return bool(found) and not all(_is_installed(spec.name, place) for place in found)


def _with_parents(name: str) -> list[str]:
    """Return ``a.b.c``, ``a.b``, ``a``."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]


def _places(module: ModuleType | None) -> list[str]:
    """Return the file that a module is in, or the directories of a namespace package."""
    if file := getattr(module, "__file__", None):
        return [os.path.realpath(file)]
    return [os.path.realpath(place) for place in getattr(module, "__path__", ())]


def _is_installed(name: str, place: str) -> bool:
    if any(_is_below(place, root) for root in _installed()) or import_root(name, place) in _paths():
        return True
    top = name.partition(".")[0]
    return any(top in tops and _is_below(place, root) for root, tops in _editable())


def _is_below(place: str, root: str) -> bool:
    return place.startswith(root + os.sep)


def import_root(name: str, place: str) -> str:
    """Return the directory that a module was found in, by its name; '' if that cannot be told."""
    path = os.path.join(os.path.dirname(place), os.path.basename(place).partition(".")[0])
    path = path.removesuffix(os.sep + "__init__")
    for part in reversed(name.split(".")):
        if os.path.basename(path) != part:
            return ""
        path = os.path.dirname(path)
    return path


@lru_cache(maxsize=1)
def _installed() -> frozenset[str]:
    """Return the directories below which all is installed, in every interpreter of this environment."""
    found = sysconfig.get_paths()
    roots = {found[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    # A virtual environment has the standard library of the interpreter it was made with.
    roots |= {os.path.dirname(os.__file__), *_site_packages()}
    return frozenset(map(os.path.realpath, roots))


def _site_packages() -> list[str]:
    return [*site.getsitepackages(), site.getusersitepackages()]


@lru_cache(maxsize=1)
def _paths() -> frozenset[str]:
    """Return what every interpreter of this environment has on `sys.path` besides."""
    # A relative one is another directory in every notebook.
    roots = set(filter(os.path.isabs, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
    for packages in _site_packages():
        roots |= set(_of_pth_files(packages))
    return frozenset(map(os.path.realpath, roots))


def _of_pth_files(packages: str) -> Iterable[str]:
    """Yield the directories that the ``.pth`` files of a directory add to `sys.path`."""
    with contextlib.suppress(OSError):
        for name in os.listdir(packages):
            if name.endswith(".pth"):
                with open(os.path.join(packages, name), errors="replace") as file:
                    lines = [line.strip() for line in file]
                paths = [line for line in lines if line and not line.startswith(("#", "import"))]
                yield from (os.path.join(packages, path) for path in paths)


@lru_cache(maxsize=1)
def _editable() -> list[tuple[str, frozenset[str]]]:
    """Return the projects installed in editable mode (PEP 660, PEP 610), and their modules' names."""
    from importlib import metadata  # lazily: it takes longer than the rest of jshm
    from urllib.parse import unquote, urlparse

    found = []
    for distribution in metadata.distributions():
        with contextlib.suppress(OSError, ValueError, AttributeError):
            origin = json.loads(distribution.read_text("direct_url.json") or "{}")
            if origin.get("dir_info", {}).get("editable"):
                root = os.path.realpath(unquote(urlparse(origin["url"]).path))
                tops = (distribution.read_text("top_level.txt") or "").split()
                tops.append(distribution.metadata["Name"].replace("-", "_"))
                found.append((root, frozenset(tops)))
    return found


# -- what a reader needs ---------------------------------------------------------------------------


def versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of the packages that these modules are of; '' for one that has none."""
    tops = {name.partition(".")[0] for name in names} - _EVERYWHERE
    return {top: _version(top) for top in sorted(tops)}


@lru_cache(maxsize=1024)
def _version(top: str) -> str:
    version = getattr(sys.modules.get(top), "__version__", None)
    if isinstance(version, str):
        return version
    from importlib import metadata

    with contextlib.suppress(metadata.PackageNotFoundError, ValueError):
        return metadata.version(top)
    return ""


def require(needed: Mapping[str, str], what: str) -> None:
    """Raise MissingModuleError, which names all that is missing, unless all can be imported."""
    missing = [name for name in needed if not _can_import(name)]
    if missing:
        listed = ", ".join(f"{name} {needed[name]}".rstrip() for name in missing)
        raise MissingModuleError(
            f"{what} needs {listed}, which this Python cannot import ({sys.executable}): install "
            f"{'it' if len(missing) == 1 else 'them'} there, or let who publishes share "
            f"{'it' if len(missing) == 1 else 'them'} by value (jshm.pickle_by_value)",
            name=missing[0],
        )


def _can_import(name: str) -> bool:
    if name in sys.modules:
        return sys.modules[name] is not None
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
