"""Which kernels run on this machine, and whose notebooks they are.

Those that have loaded jshm say so by their lease. The others are found as processes whose command line
names a connection file: a file that a dead kernel has left is no kernel.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from IPython.core.error import UsageError

from ..store.identity import of_kernel
from ..store.names import nearest
from ..system import processes as programs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..store.base import Store
    from ..store.identity import Identity

# A part of a kernel's id that stands for it is at least so long.
_PART = 4
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that runs.

    Attributes
    ----------
    identity : Identity
    loaded : bool
        Whether it has loaded jshm, and uses the store that was asked.
    """

    identity: Identity
    loaded: bool

    @property
    def label(self) -> str:
        """What people call it."""
        return self.identity.label

    @property
    def long_label(self) -> str:
        """What nobody else is called."""
        return f"{self.label} ({self.identity.kernel_id or self.identity.connection_file})"


def others(store: Store) -> list[Kernel]:
    """Return the kernels that run beside this process, by what people call them."""
    return sorted((k for k in _running(store) if not k.identity.is_here), key=lambda k: k.label)


def _running(store: Store) -> list[Kernel]:
    people = (who for who in store.processes() if not who.root)  # not their workers
    known = {who.connection_file: who for who in people if who.connection_file}
    found = [Kernel(who, loaded=True) for who in known.values()]
    for pid, connection_file in _processes():
        # With another store it would never see an offer.
        if connection_file not in known and not store.unreachable(pid):
            with contextlib.suppress(OSError):  # it has ended
                who = known[connection_file] = of_kernel(
                    pid, connection_file, programs.environment(pid)
                )
                found.append(Kernel(who, loaded=False))
    return found


def find(word: str, store: Store) -> Kernel:
    """Return the one kernel that a user means by its notebook, its id, or a part of either.

    Raises
    ------
    UsageError
        None is, several are, or it is this one.
    """
    running = _running(store)
    beside = [kernel for kernel in running if not kernel.identity.is_here]
    found = _matches(word, beside)
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(kernel.long_label for kernel in found[:_SHOWN])
        raise UsageError(f"--to {word} may be {listed}: say more of the path, or a kernel's id")
    if _matches(word, running):
        raise UsageError(f"--to {word} is this notebook, which has it already")
    if not beside:
        raise UsageError(f"--to {word}: no other kernel runs on this machine")
    labels = dict.fromkeys(kernel.label for kernel in beside)
    close = nearest(word, labels)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {_list(list(labels))}"
    raise UsageError(f"no kernel of {word} runs on this machine; {hint}")


def _matches(word: str, kernels: Sequence[Kernel]) -> list[Kernel]:
    """Return the kernels that a word fits best: all, if it does so equally well."""
    part = word.casefold()
    for fits in (
        lambda who: who.kernel_id == word,
        lambda who: f"/{who.notebook}".endswith(f"/{word}") or who.label == word,
        lambda who: len(word) >= _PART and who.kernel_id.startswith(word),
        lambda who: part in who.notebook.casefold(),
    ):
        if found := [kernel for kernel in kernels if fits(kernel.identity)]:
            return found
    return []


def _list(words: Sequence[str]) -> str:
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more


def _processes() -> Iterator[tuple[int, str]]:
    """Yield this user's processes that were told a connection file, and its real path."""
    with contextlib.suppress(FileNotFoundError):  # no /proc: then only leases tell
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError):  # it has ended, or is nobody's business
                if os.stat(f"/proc/{pid}").st_uid == os.geteuid():
                    path = programs.connection_file(int(pid))
                    if path:
                        yield int(pid), path
