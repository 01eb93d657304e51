"""Operations on objects that refer to other segments, in the middle of which their process is killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jshm

from ..world import BEFORE, born, make, put_object
from . import Scenario, becomes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..world import Names


def publish_object() -> Iterator[None]:
    r = jshm.attach("R")
    yield
    put_object("Z", 1, x=r[::-1], b=born())


def replace_object() -> Iterator[None]:
    """O's first version stays: P needs its buffer. Its arrays are handed on."""
    o = jshm.attach("O")
    yield
    put_object("O", 2, x=o["x"], h=o["h"], b=o["b"])


def replace_objects() -> Iterator[None]:
    """Nothing needs the old O, nor the segments that only it needed."""
    jshm.segments()
    yield
    jshm.publish(
        {"O": {"v": 2, "own": make("O", 2)}, "P": {"v": 2, "o": make("O", 2)[::2]}}, keep=True
    )


def put_together(version: int) -> None:
    """O and P are parts of one segment: they have an array in common."""
    half = make("O", version)[::2]
    jshm.publish(
        {"O": {"v": version, "own": make("O", version), "o": half}, "P": {"v": version, "o": half}},
        keep=True,
    )


def replace_together() -> Iterator[None]:
    jshm.segments()
    yield
    put_together(2)


def replace_together_again() -> Iterator[None]:
    put_together(2)
    yield
    put_together(3)


def replace_one_of_two() -> Iterator[None]:
    """P's part goes on in the segment, whose record of O is written over."""
    put_together(2)
    yield
    put_object("O", 3)


def release_one_of_two() -> Iterator[None]:
    put_together(2)
    yield
    jshm.release("P")


def publish_array_and_object() -> Iterator[None]:
    """P refers to the array that is published in the same step."""
    jshm.segments()
    yield
    whole = make("X", 2)
    jshm.publish({"P": {"v": 2, "whole": whole}, "X": whole}, keep=True)


def release_objects() -> Iterator[None]:
    jshm.segments()
    yield
    jshm.release(["O", "P"])


def release_needed() -> Iterator[None]:
    """R loses its name, and O goes on."""
    jshm.segments()
    yield
    jshm.release("R")


def attach_objects() -> Iterator[None]:
    yield
    for mode in ("r", "c"):
        o, p = jshm.attach(["O", "P"], mode)
        assert o["own"][2] == p["o"][1]


def detach_objects() -> Iterator[None]:
    """O and P are released while they are held here: all goes with the last view of them."""
    held = jshm.attach(["O", "P"])
    jshm.release(["O", "P"])
    yield
    del held
    jshm.gc()


def everything() -> Iterator[None]:
    """For kills at random times."""
    yield
    version = 2
    while True:
        o = jshm.attach("O")
        jshm.publish(
            {
                "O": {**o, "v": version, "own": make("O", version)},
                "P": {"v": version, "o": make("O", version)[::2], "old": o["own"]},
            },
            keep=True,
        )
        del o
        put_object("Z", 1, x=jshm.attach("R")[::-1], b=born())
        jshm.release("Z")
        version += 1


def _whole_groups(names: Names) -> bool:
    return names.keys() - {"Z"} == {"L", "O", "P", "R", "X", "Y"} and names["O"] == names["P"]


TOGETHER = {**BEFORE, "O": 2, "P": 2}
OBJECTS = [
    Scenario(publish_object, becomes({"Z": 1}), 100),
    Scenario(replace_object, becomes({"O": 2}), 100),
    Scenario(replace_objects, becomes({"O": 2, "P": 2}), 105),
    Scenario(replace_together, becomes({"O": 2, "P": 2}), 80),
    Scenario(replace_together_again, becomes({"O": 3, "P": 3}, before=TOGETHER), 60),
    Scenario(replace_one_of_two, becomes({"O": 3}, before=TOGETHER), 60),
    Scenario(release_one_of_two, becomes({"P": None}, before=TOGETHER), 35),
    Scenario(publish_array_and_object, becomes({"P": 2, "X": 2}), 80),
    Scenario(release_objects, becomes({"O": None, "P": None}), 80),
    Scenario(release_needed, becomes({"R": None}), 35),
    Scenario(attach_objects, becomes(), 115),
    Scenario(detach_objects, becomes({"O": None, "P": None}), 50),
]
RANDOM = Scenario(everything, _whole_groups)
