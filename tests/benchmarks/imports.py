"""The cost of `import jshm` for a new process."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from .measure import JSHM, LIMIT, Result, Target, in_turn

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST = 1.25
_PROGRAM = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"


def measure(place: str, rounds: int) -> list[Result]:
    """Measure imports, in new interpreters, against `import numpy`.

    What is measured is an installed package, that is, one whose byte code was written: in `place`.
    """
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": os.path.join(place, "pycache")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    seconds = in_turn(
        {
            "module": _importer("import jshm", environment),
            "function": _importer("import jshm; jshm.attach", environment),
            LIMIT: _importer("import numpy", environment),
        },
        rounds,
    )
    limit = seconds[LIMIT]
    return [
        Result(
            f"`{statement}` (limit: `import numpy`)",
            {JSHM: seconds[key], LIMIT: limit},
            (Target("≤ 1.25 × `import numpy`", seconds[key] / limit, _MOST),),
            key="import" if key == "module" else "",
        )
        for key, statement in (("module", "import jshm"), ("function", "import jshm; jshm.attach"))
    ]


def _importer(statement: str, environment: dict[str, str]) -> Callable[[], float]:
    command = [sys.executable, "-c", _PROGRAM.format(statement)]

    def run() -> float:
        done = subprocess.run(command, env=environment, capture_output=True, check=True)
        return float(done.stdout)

    return run
