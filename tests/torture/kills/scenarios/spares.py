"""Operations that write into spares, in the middle of which their process is killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jshm
from jshm.store import default_store

from ..world import born, make, put_object
from . import Scenario, only

if TYPE_CHECKING:
    from collections.abc import Iterator


def _publish(*versions: int) -> None:
    for version in versions:
        jshm.publish("S", make("S", version), keep=True)


def into_a_spare() -> Iterator[None]:
    """The first is mapped here; what it supersedes becomes a spare."""
    _publish(1, 2)
    yield
    _publish(3)


def again_and_again() -> Iterator[None]:
    _publish(1, 2, 3, 4)
    yield
    _publish(5, 6)


def let_go_and_gathered() -> Iterator[None]:
    """A version that is superseded while it is held becomes a spare later."""
    _publish(1)
    held = jshm.attach("S")
    yield
    _publish(2)
    del held
    default_store().flush()
    _publish(3)


def an_object_into_a_spare() -> Iterator[None]:
    _publish(1, 2)
    yield
    put_object("S", 3)
    _publish(4)


def born_in_a_spare() -> Iterator[None]:
    _publish(1, 2)
    yield
    jshm.publish("T", born("T"), keep=True)


def born_in_a_spare_for_nothing() -> Iterator[None]:
    _publish(1, 2)
    yield
    array = jshm.empty(1 << 15)
    del array
    default_store().flush()


def released_with_its_spares() -> Iterator[None]:
    _publish(1, 2, 3)
    yield
    jshm.release("S")


def given_back() -> Iterator[None]:
    _publish(1, 2, 3)
    yield
    default_store().process.reclaim()
    jshm.gc()


def the_end() -> Iterator[None]:
    _publish(1, 2, 3)
    yield
    default_store().close()


SPARES = [
    Scenario(into_a_spare, only({"S": 2}, {"S": 3}), 60),
    Scenario(again_and_again, only({"S": 4}, {"S": 5}, {"S": 6}), 120),
    Scenario(let_go_and_gathered, only({"S": 1}, {"S": 2}, {"S": 3}), 120),
    Scenario(an_object_into_a_spare, only({"S": 2}, {"S": 3}, {"S": 4}), 120),
    Scenario(born_in_a_spare, only({"S": 2}, {"S": 2, "T": 1}), 80),
    Scenario(born_in_a_spare_for_nothing, only({"S": 2}), 50),
    Scenario(released_with_its_spares, only({"S": 3}, {}), 40),
    Scenario(given_back, only({"S": 3}), 20),
    Scenario(the_end, only({"S": 3}), 20),
]
