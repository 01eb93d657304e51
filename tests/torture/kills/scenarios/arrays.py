"""Operations on arrays, in the middle of which their process is killed."""

from __future__ import annotations

import resource
import sys
from typing import TYPE_CHECKING

import jshm
from jshm.store import default_store

from ..world import born, make
from . import Scenario, becomes, only

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..world import Names


# More files than one transaction may claim of the few descriptors that `release_many` leaves.
_MANY = 12


def first_use() -> Iterator[None]:
    """The directory, the registry and its ballast, the lease are made."""
    yield
    jshm.publish("Z", make("Z", 1), keep=True)


def publish_new() -> Iterator[None]:
    yield
    jshm.publish("Z", make("Z", 1), keep=True)


def publish_live() -> Iterator[None]:
    jshm.segments()
    yield
    jshm.publish("Z", make("Z", 1), keep=True, writable=True)


def publish_group() -> Iterator[None]:
    jshm.segments()
    yield
    jshm.publish({"Z": make("Z", 1), "X": make("X", 2), "W": make("W", 1)}, keep=True)


def replace() -> Iterator[None]:
    jshm.segments()
    yield
    jshm.publish("X", make("X", 2), keep=True)


def replace_group() -> Iterator[None]:
    yield
    jshm.publish({"X": make("X", 2), "Y": make("Y", 2)}, keep=True)


def alias() -> Iterator[None]:
    x = jshm.attach("X")
    yield
    jshm.publish("A", x, keep=True)


def alias_and_replace() -> Iterator[None]:
    """A gets its own new version, then X: the data belong to another name once, twice, once."""
    x = jshm.attach("X")
    jshm.publish("A", x, keep=True)
    yield
    jshm.publish("X", make("X", 2), keep=True)


def seal() -> Iterator[None]:
    yield
    jshm.publish("X", born("X", 2), keep=True)


def seal_live() -> Iterator[None]:
    array = born("Z")
    yield
    jshm.publish("Z", array, keep=True, writable=True)


def allocate() -> Iterator[None]:
    yield
    kept = jshm.empty(3000), default_store().copy(make("Z", 1))
    del kept
    default_store().flush()


def overflow() -> Iterator[None]:
    """Data that does not fit into memory goes to disk, into a new directory."""
    yield
    jshm.publish("big", make("big", 1), keep=True)


def overflow_and_release() -> Iterator[None]:
    jshm.publish("big", make("big", 1), keep=True)
    yield
    jshm.publish("big", make("big", 2), keep=True)
    jshm.release("big")


def attach() -> Iterator[None]:
    yield
    x, y = jshm.attach(["X", "Y"])
    assert x[1] == y[1]
    jshm.attach("L", "r+")
    jshm.attach("X", "c")[:] = 0


def detach() -> Iterator[None]:
    namespace = vars(sys.modules["__main__"])
    namespace["x"] = jshm.attach("X")
    yield
    jshm.detach("x")
    jshm.segments()


def detach_last() -> Iterator[None]:
    """Replaced and released versions that were held here go with their last view."""
    x, y = jshm.attach(["X", "Y"])
    jshm.publish("X", make("X", 2), keep=True)
    jshm.release("Y")
    yield
    del x, y
    default_store().flush()


def release() -> Iterator[None]:
    jshm.segments()
    yield
    jshm.release("X")


def release_several() -> Iterator[None]:
    jshm.segments()
    yield
    jshm.release(["X", "Y"])


def release_one_of_two() -> Iterator[None]:
    jshm.publish("A", jshm.attach("X"), keep=True)
    yield
    jshm.release("X")


def release_many() -> Iterator[None]:
    """More than one transaction may claim; some of the data are another name's too."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    names = [f"n{i}" for i in range(_MANY)]
    jshm.publish({name: make(name, 1) for name in names}, keep=True)
    jshm.publish("A", jshm.attach("X"), keep=True)
    yield
    jshm.release([*names, "X"])


def everything() -> Iterator[None]:
    """For kills at random times."""
    jshm.segments()
    yield
    version = 2
    while True:
        jshm.publish({"X": make("X", version), "Y": make("Y", version)}, keep=True)
        jshm.publish("scratch", make("scratch", version - 1), keep=True)
        jshm.release("scratch")
        array = jshm.empty(10)
        del array
        version += 1


def _whole_groups(names: Names) -> bool:
    there = names.keys() - {"scratch"}
    return there == {"L", "O", "P", "R", "X", "Y"} and names["X"] == names["Y"]


_SEVERAL = dict.fromkeys((f"n{i}" for i in range(_MANY)), 1)

PUBLISHING = [
    Scenario(first_use, becomes({"Z": 1}, before={}), 125, nothing=True),
    Scenario(publish_new, becomes({"Z": 1}), 85),
    Scenario(publish_live, becomes({"Z": 1}), 35),
    Scenario(publish_group, becomes({"Z": 1, "X": 2, "W": 1}), 70),
    Scenario(replace, becomes({"X": 2}), 35),
    Scenario(replace, becomes({"X": 2}), 30, held=True),
    Scenario(replace_group, becomes({"X": 2, "Y": 2}), 120),
    Scenario(overflow, becomes({"big": 1}), 130, small=True),
    Scenario(overflow_and_release, becomes({"big": 1}, {"big": 2}), 95, small=True),
]
BORN = [
    Scenario(alias, becomes({"A": 1}), 65),
    Scenario(alias_and_replace, becomes({"A": 1}, {"A": 1, "X": 2}), 45),
    Scenario(seal, becomes({"X": 2}), 135),
    Scenario(seal_live, becomes({"Z": 1}), 45),
    Scenario(allocate, becomes(), 125),
]
LETTING_GO = [
    Scenario(attach, becomes(), 65),
    Scenario(detach, becomes(), 35),
    Scenario(detach_last, becomes({"X": 2, "Y": None}), 25),
    Scenario(release, becomes({"X": None}), 25),
    Scenario(release, becomes({"X": None}), 30, held=True),
    Scenario(release_several, becomes({"X": None, "Y": None}), 40),
    Scenario(release_one_of_two, becomes({"A": 1}, {"A": 1, "X": None}), 45),
    Scenario(release_many, only({"A": 1, **_SEVERAL}, {"A": 1, "X": None}), 255),
]
RANDOM = Scenario(everything, _whole_groups)
