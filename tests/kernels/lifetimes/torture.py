"""A real hub stops servers of two users in all possible ways, while their kernels publish."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from ...support.processes import until
from ...torture.report import Row
from . import hub as hubs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ...support.users import User
    from ...torture.report import Options
    from .hub import Hub

_ROUNDS = 3
SHARE = """
import jshm, numpy as np
for name in ('X', 'X', 'Y'):
    jshm.publish(name, np.ones(4 << 20))
    old = jshm.attach(name)
jshm.publish('object', {'a': np.ones(1 << 20), 'x': old})
born = jshm.empty(1 << 20)
"""
KEEP = "import jshm, numpy as np; jshm.publish('kept', np.ones(3), keep=True)"
GO_ON = """
import jshm, numpy as np
X, Y, i = jshm.attach('X'), np.ones(4 << 20), 0
while True:
    try:
        i += 1
        jshm.publish(f'Y{i % 3}', Y)
    except KeyboardInterrupt:
        pass
"""


def share(hub: Hub, user: User, server: str = "") -> int:
    """Let two kernels of a server publish, the second one all the time; return the bytes used."""
    hub.run(user, f"a{server}.ipynb", SHARE, server)
    before = set(hubs.left(user))
    hub.run(user, f"b{server}.ipynb", GO_ON, server, wait=False)
    until(lambda: len(set(hubs.left(user)) - before) >= 3)
    return sum(hubs.left(user).values())


def torture(options: Options) -> Iterator[Row]:
    """Yield the results."""
    reason = hubs.missing()
    if reason:
        yield Row("a hub stops its servers", 0, "stops", note=f"not tried: {reason}")
        return
    chance = random.Random(options.seed)
    with hubs.hub() as hub:
        ways: dict[str, Callable[[User], None]] = {
            "through its API": hub.stop,
            "by the idle culler": hub.cull,
            "a named one": lambda user: hub.stop(user, "second"),
        }
        for way, stop in ways.items():
            failures: list[str] = []
            most = rest = 0
            for _ in range(_ROUNDS):
                server = "second" if way == "a named one" else ""
                hub.start(hub.ada, server)
                most = max(most, share(hub, hub.ada, server))
                time.sleep(chance.random())  # the stop comes at a random point of a publish
                stop(hub.ada)
                left = hubs.left(hub.ada)
                rest = max(rest, sum(left.values()))
                if left:
                    failures.append(f"{len(left)} files, {sum(left.values()):,} bytes")
            note = f"{most / 1e6:.0f} MB shared, {rest / 1e6:.0f} MB left"
            yield Row(f"a hub stops a server: {way}", _ROUNDS, "stops", failures, note)
        yield _end(hub)


def _end(hub: Hub) -> Row:
    """Stop one of three servers, then the hub with the other two."""
    hub.start(hub.ada)
    hub.start(hub.ada, "second")
    hub.start(hub.bob)
    hub.run(hub.ada, "kept.ipynb", KEEP)
    share(hub, hub.bob)
    hub.run(hub.ada, "s.ipynb", "import jshm, numpy as np; jshm.publish('S', np.ones(3))", "second")
    failures = []
    share(hub, hub.ada)
    hub.stop(hub.ada)
    found = hub.run(
        hub.ada, "s.ipynb", "print(*sorted(s.name for s in jshm.segments()))", "second"
    ).split()
    if found != ["S", "kept"]:
        failures.append(f"another server of the same user sees {found}")
    if not hubs.left(hub.bob):
        failures.append("the other user's data is gone")
    hub.end()
    rest = {user.name: len(hubs.left(user)) for user in (hub.ada, hub.bob)}
    if list(rest.values()) != [1, 0]:
        failures.append(f"files left, where one was kept: {rest}")
    return Row("a hub of three servers ends", 1, "stops", failures)
