"""A run and its results, as JSON: a table or a chart can be drawn again."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from .calls import Calls
from .measure import Result, Target

if TYPE_CHECKING:
    from collections.abc import Sequence

_PACKAGES = ("numpy", "SharedArray", "joblib", "ray", "redis", "ipyparallel", "ipython")


@dataclass(frozen=True, slots=True)
class Run:
    """The results of one run.

    Attributes
    ----------
    machine : str
        On what, and with which versions.
    results : sequence of Result
    calls : sequence of Calls
    """

    machine: str
    results: Sequence[Result]
    calls: Sequence[Calls] = field(default_factory=list)


def machine(rounds: int) -> str:
    """Say where and how this is measured."""
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, medians of {rounds} rounds, "
        f"all in turn; {', '.join(found)}"
    )


def save(run: Run, path: str) -> None:
    """Write a run."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(dataclasses.asdict(run), file, indent=1, ensure_ascii=False)
        file.write("\n")


def load(path: str) -> Run:
    """Read a run."""
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    results = [
        Result(**{**each, "targets": tuple(Target(**t) for t in each["targets"])})
        for each in content["results"]
    ]
    return Run(content["machine"], results, [Calls(**each) for each in content.get("calls", ())])
