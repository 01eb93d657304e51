"""Other versions of Python on this machine, for the tests of what travels between versions.

``python -m tests.support.pythons`` makes an environment for each one that it finds, below the running one,
with no more in it than the Pickler needs. Tests only use what is there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 11)
NEWEST = (3, 15)
NEEDED = ("numpy>=1.26", "cloudpickle>=3.1,<4")
PLACE = Path(sys.prefix) / "others"


def environments() -> dict[str, str]:
    """Return version → interpreter: the running one, and those that `main` has prepared."""
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    for place in sorted(PLACE.glob("3.*")):
        python = place / "bin" / "python"
        if (place / "ready").exists() and python.exists():
            found.setdefault(place.name, str(python))
    return found


def interpreters() -> dict[str, str]:
    """Return version → path of the CPythons that are on the PATH, or that pyenv has installed."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    names = [f"python3.{minor}" for minor in range(OLDEST[1], NEWEST[1] + 1)]
    candidates = [*filter(None, map(shutil.which, names))]
    candidates += map(str, sorted(root.glob("versions/3.*/bin/python3"), reverse=True))
    found: dict[str, str] = {}
    for path in candidates:
        version = _version(path)
        if version and OLDEST <= version <= NEWEST:
            found.setdefault(f"{version[0]}.{version[1]}", path)
    return found


def _version(path: str) -> tuple[int, int] | None:
    """Return an interpreter's version; None if it cannot be run, or is not CPython."""
    ask = "import sys; print(sys.implementation.name, *sys.version_info[:2])"
    done = subprocess.run([path, "-c", ask], capture_output=True, text=True, check=False)
    name, *numbers = done.stdout.split() or [""]
    return (int(numbers[0]), int(numbers[1])) if name == "cpython" else None


def main() -> None:
    """Make the environments that are missing; say which could not be made, and go on."""
    there = environments()
    for version, path in interpreters().items():
        if version in there:
            continue
        place = PLACE / version
        pip = [str(place / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        try:
            subprocess.run([path, "-m", "venv", "--clear", str(place)], check=True)
            subprocess.run([*pip, "install", *NEEDED], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"no tests with Python {version}: {error}")
        else:
            (place / "ready").touch()
            print(f"Python {version}: {place}")


if __name__ == "__main__":
    main()
