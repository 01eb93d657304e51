"""The long fuzzing: a row for each target."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..report import Row
from .runner import campaign
from .targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..report import Options


def torture(options: Options) -> Iterator[Row]:
    """Try ``options.mutations`` in all, on every processor that there is."""
    workers = len(os.sched_getaffinity(0))
    for name, aim in TARGETS.items():
        found = campaign(name, options.seed, round(options.mutations * aim.share), workers)
        yield Row(f"mutated: {aim.what}", found.tried, "mutations", found.failures)
