"""Other versions of Python on this machine that can run jshm."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
from functools import lru_cache

from ...support.pythons import environments
from .cases import THIS, Version

VERSIONS: list[Version] = [(3, 11), (3, 12), (3, 13), (3, 14)]
GIVEN = "JSHM_TEST_PYTHONS"
# Requirements of jshm, as in pyproject.toml.
_PROBE = """\
import sys, cloudpickle, numpy
versions = [tuple(map(int, m.__version__.split(".")[:2])) for m in (cloudpickle, numpy)]
if (3, 1) <= versions[0] < (4, 0) and versions[1] >= (1, 26):
    print(*sys.version_info[:2])
"""


def _candidates() -> list[str]:
    """Return paths of interpreters: named, made for the tests, on PATH, pyenv's."""
    root = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    return [
        *filter(None, os.environ.get(GIVEN, "").split(os.pathsep)),
        *environments().values(),  # made by `make test`
        *filter(None, (shutil.which(f"python{a}.{b}") for a, b in VERSIONS)),
        *(p for a, b in VERSIONS for p in glob.glob(f"{root}/versions/{a}.{b}*/bin/python")),
    ]


@lru_cache(maxsize=1)
def found() -> dict[Version, str]:
    """Return an interpreter for each version on this machine that can import what jshm needs.

    All are asked at the same time; nothing is downloaded.
    """
    asked = []
    for path in dict.fromkeys(_candidates()):
        try:
            process = subprocess.Popen(
                [path, "-c", _PROBE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        except OSError:
            continue
        asked.append((path, process))
    versions = {THIS: sys.executable}
    for path, process in asked:
        with process:
            answer = process.communicate(timeout=60)[0].split()
        if process.returncode == 0 and len(answer) == 2:
            versions.setdefault((int(answer[0]), int(answer[1])), path)
    return versions


def pairs() -> list[tuple[Version, Version]]:
    """Return all ordered pairs of versions that jshm supports, installed or not."""
    return [(writer, reader) for writer in VERSIONS for reader in VERSIONS if writer != reader]
