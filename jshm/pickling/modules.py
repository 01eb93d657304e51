"""Whether an object travels by reference, as a name to import, or by value.

Objects go by reference if every notebook of this environment can import them: those of built-in modules,
the standard library and installed packages (also in editable mode). All others go by value: those of
``__main__``, of modules beside the notebook, in a directory that was added to `sys.path` by hand, or in
no file.

The user can decide otherwise: `pickle_by_value`, `pickle_by_reference`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import json
import os
import site
import sys
import sysconfig
import warnings
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from cloudpickle import cloudpickle as cp

from ..errors import DefinitionWarning, MissingModuleError, outside
from . import static

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Importable wherever a pickle of jshm can be read.
_EVERYWHERE = sys.stdlib_module_names | {"jshm", "numpy", "cloudpickle", "__main__"}
# `multiprocessing` gives the script this name in its workers: by value, as in the script itself.
_SCRIPT_OF_A_WORKER = "__mp_main__"
# Module name → by value; also for the modules below it.
_chosen: dict[str, bool] = {}
_judged: dict[str, bool] = {}
# Differences between modules that the user was warned of.
_told: set[tuple[str, str]] = set()


def pickle_by_value(module: ModuleType | str) -> None:
    """Share functions and classes of a module, and of all modules below it, by value.

    For a module that other notebooks cannot import, or that you are editing.

    Parameters
    ----------
    module : module or str
    """
    _choose(module, by_value=True)


def pickle_by_reference(module: ModuleType | str) -> None:
    """Share functions and classes of a module, and of all modules below it, as names to import.

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
        raise ValueError(
            "__main__ is a different module in every notebook, so it is always shared by value"
        )
    _chosen[name] = by_value
    _judged.clear()


def is_by_value(name: object) -> bool:
    """Return whether objects that a module defines go by value; False if `name` is not a string."""
    if not isinstance(name, str):
        return False
    found = _judged.get(name)
    if found is None:
        found = _judge(name)
        # A module of this name may be imported later.
        if name in sys.modules:
            _judged[name] = found
    return found


def is_by_reference(value: Any) -> bool:
    """Return whether a module, class or function is written as a name to import; False for other objects."""
    if isinstance(value, ModuleType):
        name: Any = value.__name__
        if sys.modules.get(name) is not value:
            return False
    elif isinstance(value, type | FunctionType):
        name = value.__module__
    else:
        return False
    return not is_by_value(name) and bool(cp._should_pickle_by_reference(value))


def lookup(module: ModuleType | None, qualname: str) -> Any:
    """Return what a module has under a qualified name; None if it has nothing. Calls no ``__getattr__``."""
    found: Any = module
    for name in qualname.split("."):
        # `vars` imports a lazy module.
        space = vars(found) if issubclass(type(found), ModuleType) else static.attributes(found)
        found = (space or {}).get(name)
    return found


def _judge(name: str) -> bool:
    if is_compiled(sys.modules.get(name)):
        return False  # compiled code cannot travel
    for parent in _with_parents(name):
        if parent in _chosen:
            return _chosen[parent]
    if name == _SCRIPT_OF_A_WORKER:
        return True
    top = name.partition(".")[0]
    if top in _EVERYWHERE and not _hides_another(top):
        return False
    module = sys.modules.get(name)
    places = _places(module)
    if not places:
        return _is_made_here(name)
    return not all(is_installed(name, place) for place in places)


def _hides_another(top: str) -> bool:
    """Return whether a module has the name of a standard one, and is another one."""
    places = _places(sys.modules.get(top)) if top in sys.stdlib_module_names else []
    return not all(is_installed(top, place) for place in places)


def is_compiled(module: ModuleType | None) -> bool:
    """Return whether a module is in a file of compiled code."""
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and file.endswith(tuple(EXTENSION_SUFFIXES))


def _is_made_here(name: str) -> bool:
    """Return whether a module without a file was made at run time, and not by an import."""
    found = [sys.modules.get(parent) for parent in _with_parents(name)]
    return found[0] is not None and all(getattr(m, "__spec__", None) is None for m in found)


def is_everywhere(name: str) -> bool:
    """Return whether every Python with jshm has a module."""
    return name.partition(".")[0] in _EVERYWHERE


def _with_parents(name: str) -> list[str]:
    """Return ``a.b.c``, ``a.b``, ``a``."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]


def _places(module: ModuleType | None) -> list[str]:
    """Return the file that a module is in, or the directories of a namespace package."""
    if file := getattr(module, "__file__", None):
        return [os.path.realpath(file)]
    return [os.path.realpath(place) for place in getattr(module, "__path__", ())]


def is_installed(name: str, place: str) -> bool:
    """Return whether a module in a place is one that every interpreter of this environment imports."""
    if any(_is_below(place, root) for root in _installed()) or import_root(name, place) in _paths():
        return True
    top = name.partition(".")[0]
    return any(top in tops and _is_below(place, root) for root, tops in _editable())


def _is_below(place: str, root: str) -> bool:
    return place.startswith(root + os.sep)


def import_root(name: str, place: str) -> str:
    """Return the directory of `sys.path` that a module was found in; '' if that cannot be told."""
    path = os.path.join(os.path.dirname(place), os.path.basename(place).partition(".")[0])
    path = path.removesuffix(os.sep + "__init__")
    for part in reversed(name.split(".")):
        if os.path.basename(path) != part:
            return ""
        path = os.path.dirname(path)
    return path


@lru_cache(maxsize=1)
def _installed() -> frozenset[str]:
    """Return the directories of installed modules, for every interpreter of this environment."""
    found = sysconfig.get_paths()
    roots = {found[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    # A virtual environment uses the standard library of the interpreter that made it.
    roots |= {os.path.dirname(os.__file__), *_site_packages()}
    return frozenset(map(os.path.realpath, roots))


def _site_packages() -> list[str]:
    return [*site.getsitepackages(), site.getusersitepackages()]


@lru_cache(maxsize=1)
def _paths() -> frozenset[str]:
    """Return other directories that every interpreter of this environment has on `sys.path`."""
    # A relative path means another directory in every notebook.
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


# -- modules beside the notebook, in the reader's process ------------------------------------------


class Origin(NamedTuple):
    """The origin of a module that travels by value.

    Attributes
    ----------
    name : str
    digest : str
        Of its file's bytes.
    root : str
        The directory that it was found in by its name; '' if that cannot be told.
    """

    name: str
    digest: str
    root: str


def origin_of(name: str) -> Origin | None:
    """Return where a module was imported from; None if that is not a file of Python source."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not file.endswith(".py") or name == "__main__":
        return None
    if any(parent in _chosen for parent in _with_parents(name)) or not is_by_value(name):
        return None
    digest = _digest_of(file)
    return Origin(name, digest, import_root(name, os.path.realpath(file))) if digest else None


def imported(origin: Origin, *, also_from_root: bool = False) -> ModuleType | None:
    """Return the module of that name and source, imported here; None if there is none.

    It is imported only if its file has the same content as the one that was published. With
    `also_from_root` also from the directory that the publisher found it in, if the name leads to no
    other module here.
    """
    module = sys.modules.get(origin.name)
    if module is None:
        found = _find_file(origin.name, None)
        path = [origin.root] if also_from_root and origin.root and not found else None
        if _digest_of(_find_file(origin.name, path) if path else found) == origin.digest:
            return _import(origin.name, path)
        return None
    file = getattr(module, "__file__", None)
    same = isinstance(file, str) and _digest_of(file) == origin.digest
    return module if same else None


def is_here(name: str) -> bool:
    """Return whether this Python can import some module of that name, without importing it."""
    return name in sys.modules or bool(_find_file(name, None))


def tell_difference(name: str, so: str = "what was shared of it stays as it was published") -> None:
    """Warn once that a module of this name differs here, and say what follows from it."""
    if (name, so) not in _told:
        _told.add((name, so))
        warnings.warn(
            f"the module {name} that was shared differs from the one that is imported here: {so}",
            DefinitionWarning,
            stacklevel=outside(),
        )


def _find_file(name: str, path: list[str] | None) -> str:
    """Return the file that a module would be imported from; '' if none. Imports nothing."""
    found = ""
    for end in range(1, name.count(".") + 2):
        spec = None
        with contextlib.suppress(ImportError, ValueError, AttributeError):
            spec = PathFinder.find_spec(".".join(name.split(".")[:end]), path)
        if spec is None:
            return ""
        path = list(spec.submodule_search_locations or ())
        found = spec.origin or ""
    return found


def _import(name: str, path: list[str] | None) -> ModuleType | None:
    added = [place for place in path or () if place not in sys.path]
    sys.path.extend(added)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit):  # noqa: BLE001 - importing may raise anything
        return None
    finally:
        for place in added:
            with contextlib.suppress(ValueError):
                sys.path.remove(place)


def _digest_of(file: str) -> str:
    """Return a digest of a file's bytes; '' if it cannot be read."""
    try:
        status = os.stat(file)
    except (OSError, ValueError):
        return ""
    return _digest_at(file, status.st_mtime_ns, status.st_size, status.st_ino)


@lru_cache(maxsize=1024)
def _digest_at(file: str, *_: int) -> str:
    try:
        with open(file, "rb") as opened:
            return hashlib.blake2s(opened.read(), digest_size=16).hexdigest()
    except OSError:
        return ""


# -- what a reader needs ---------------------------------------------------------------------------


def versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of the packages that contain these modules; '' for one without a version."""
    tops = {name.partition(".")[0] for name in names} - _EVERYWHERE
    return {top: version(top) for top in sorted(tops)}


@lru_cache(maxsize=1024)
def version(top: str) -> str:
    """Return the version of a package here; '' if it has none."""
    found = getattr(sys.modules.get(top), "__version__", None)
    if isinstance(found, str):
        return found
    from importlib import metadata

    with contextlib.suppress(metadata.PackageNotFoundError, ValueError):
        return metadata.version(top)
    return ""


def require(needed: Mapping[str, str], what: str) -> None:
    """Raise MissingModuleError, which names all missing modules, unless all can be imported."""
    missing = [name for name in needed if not _can_import(name)]
    if missing:
        listed = ", ".join(f"{name} {needed[name]}".rstrip() for name in missing)
        raise MissingModuleError(
            f"{what} needs {listed}, which this Python cannot import ({sys.executable}): install "
            f"{'it' if len(missing) == 1 else 'them'} there, or let the publisher share "
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


def file_of_compiled(name: str) -> str:
    """Return the file of a compiled module that is not installed; '' for any other module."""
    module = sys.modules.get(name)
    if is_everywhere(name) or module is None or not is_compiled(module):
        return ""
    file = os.path.realpath(str(module.__file__))
    return "" if is_installed(name, file) else file
