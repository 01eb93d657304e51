"""The panel's requests to the server: a part of a long list, and the preview of a large array."""

from __future__ import annotations

import json
import os

import numpy as np

import jshm
from jshm.browse.labels import Notebooks
from jshm.browse.listing import Query
from jshm.browse.previews import preview_array
from jshm.browse.service import Service
from jshm.segment.array_layout import describe, read_layout
from jshm.store import default_store

from .measure import JSHM, LIMIT, Result, Target, in_turn, repeated, timed
from .workspace import fill, private_store

_LIST, _PREVIEW = 30e-3, 300e-3


def measure(names: int, rounds: int) -> list[Result]:
    """Measure both, without the network: what the server's threads do."""
    with private_store() as place:
        return [*_lists(names, rounds), _preview(place, rounds)]


def _lists(names: int, rounds: int) -> list[Result]:
    fill(names)
    service = Service(default_store(), Notebooks())
    query = Query(grouped=True)

    def ask() -> str:
        return json.dumps(service.page(query))

    ready = service.page(query)
    array = np.zeros(3)

    def ask_after_a_change() -> float:
        jshm.publish("changing", array)
        return timed(ask)[0]

    limit = repeated(lambda: json.dumps(ready), times=20)
    steady = in_turn({JSHM: repeated(ask, times=20), LIMIT: limit}, rounds)
    changed = in_turn({JSHM: ask_after_a_change, LIMIT: limit}, rounds)
    return [
        Result(
            f"200 of {names:,} names as JSON{when} (limit: the JSON alone)",
            seconds,
            (Target("≤ 30 ms", seconds[JSHM], _LIST),),
        )
        for when, seconds in (("", steady), (", after a publish", changed))
    ]


def _preview(place: str, rounds: int) -> Result:
    path = os.path.join(place, "large.npy")
    layout = describe((50_000, 25_000), np.float64)
    with open(path, "wb") as file:
        file.write(layout.header)
        file.truncate(layout.end)  # sparse: 10 GB that take no memory
    fd = os.open(path, os.O_RDONLY)
    try:

        def sample() -> float:
            array = np.load(path, mmap_mode="r")
            return float(np.asarray(array[:: 50_000 // 96, :: 25_000 // 96]).mean())

        seconds = in_turn(
            {
                JSHM: repeated(lambda: preview_array(fd, read_layout(fd)), times=5),
                "np.load, strided": repeated(sample, times=5),
            },
            rounds,
        )
    finally:
        os.close(fd)
    return Result("preview of 10 GB", seconds, (Target("≤ 300 ms", seconds[JSHM], _PREVIEW),))
