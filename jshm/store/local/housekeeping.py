"""Housekeeping by each process: recovery, garbage collection, and the end of processes and sessions.

Operations call `prepare` before they add something, and `run` otherwise; a process calls `close` at its end.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import time
from typing import TYPE_CHECKING

from ...errors import JshmError, NoSpaceError, RegistryTimeout, TooManyFilesError
from ...segment.file import is_held
from ...system import signals
from ...system.directories import status
from ...system.memory import is_short
from ...system.processes import after_workers, mapped_by_younger
from ...system.weak import WeakSet
from ..identity import is_part_of
from . import collect, lease, locks, rebuild, recover
from .process import PATIENCE
from .registry import rows
from .spares import listed

if TYPE_CHECKING:
    from .collect import Removals
    from .directory import Directory
    from .lease import Lease
    from .process import Process
    from .registry.registry import Registry
    from .registry.statements import Transaction

_INTERVAL = 1.0
# Between two collections passes this many times as long as one takes.
_SHARE = 50


class Housekeeping:
    """The housekeeping of one process in one store.

    Parameters
    ----------
    process : Process
    registry : Registry
    directory : Directory
    """

    def __init__(self, process: Process, registry: Registry, directory: Directory) -> None:
        self.process = process
        self._registry = registry
        self._directory = directory
        self._next_collection = 0.0
        _all.add(self)

    # -- with operations -------------------------------------------------------------------------

    def run(self, *, flush: bool = True) -> None:
        """Flush, and collect garbage: on the first use, then at most once a second.

        With ``flush=False``, the caller frees what was let go of in its own transaction
        (`Process.collect`).
        """
        self.refresh()  # first: it creates again what was removed
        if flush:
            self.flush()
        began = time.monotonic()
        if began >= self._next_collection:
            self.process.spares.expire()
            # Repeated, because something may have changed the permissions since it was opened.
            self._directory.check()
            with contextlib.suppress(RegistryTimeout, NoSpaceError, TooManyFilesError):
                self.collect(timeout=PATIENCE)
            spent = time.monotonic() - began
            self._next_collection = began + max(_INTERVAL, _SHARE * spent)

    def prepare(self, *, flush: bool = True) -> None:
        """Do the housekeeping before something is added.

        Raises
        ------
        RegistryTimeout
            The registry cannot take more now.
        """
        self.run(flush=flush)
        self._registry.require_short_log()

    def refresh(self) -> bool:
        """Make sure that the registry exists; return whether names of a deleted one were restored."""
        self._registry.refresh()
        restored = False
        if self._registry.removed is not None:
            restored = recover.recover(self.process, self._registry, self._directory)
        self.process.peers.announce()
        return restored

    def flush(self) -> None:
        """Tell other processes what this one let go of, and free what nobody needs any more."""
        if locks.abandoned:
            locks.release_abandoned()
        self.process.free_let_go()
        if self.process.spares:
            self.process.spares.check()
            self.process.gather_spares()

    def rest(self) -> bool:
        """Give back spares that were not used for a while; return whether some are left."""
        self.process.spares.check()
        if self.process.spares.expire():
            self.collect(timeout=PATIENCE)
        return bool(self.process.spares)

    # -- garbage collection ----------------------------------------------------------------------

    def collect(self, ending: tuple[int, str] | None = None, timeout: float | None = None) -> int:
        """Free everything that is not needed any more; return the bytes freed.

        Parameters
        ----------
        ending : (int, str), optional
            Pid and start of a process that is about to end: what lives as long as it counts as expired.
        timeout : float, optional
            Seconds to wait for other writers.
        """
        freed = self._registry.making_room(lambda: self._collect(ending, timeout))
        lease.sweep(self._directory.leases)
        locks.sweep(self._directory.locks)
        self._registry.reserve_space()
        return freed

    def _collect(self, ending: tuple[int, str] | None, timeout: float | None) -> int:
        freed = 0
        self._registry.refresh()  # first: it finds where the directory is now
        spares = listed(self._directory)
        short = bool(spares) and is_short()
        due = [identity for identity, one in spares.items() if one.idle or short]
        for _ in signals.ATTEMPTS:
            signals.check()
            files = collect.unregistered(self._directory, self._registry, spares)
            lost = rebuild.find_lost(files, self._directory)
            with self.process.transaction(timeout) as (tx, removals):
                rebuild.register_lost(tx, self._directory, lost)
                collect.leases(tx, self._directory, ending)
                collect.offers(tx, self._directory, ending)
                collect.spares(tx, self._directory, due, removals)
                collect.files(tx, self._directory, files, removals)
                collect.unwanted(tx, self._directory, removals, short=short)
                full = removals.full
            freed += removals.nbytes
            if not full:
                break
        self.process.rewrite_trailers()
        return freed

    # -- the end of the process ------------------------------------------------------------------

    @signals.deferred()
    def close(self) -> None:
        """Give up the lease, and free what only this process kept. The next use starts again."""
        if not self.process.is_usable:
            # The files belong to another user now, whose next process cleans up.
            self._registry.close()
            return
        self.process.spares.give_back()
        closed = self.process.close_lease()
        if closed is not None:
            with contextlib.suppress(JshmError, OSError):
                # This raises if the registry was removed: it must not be created again.
                status(self._directory.registry_file)
                self._registry.making_room(lambda: self._release_expired(closed))
                self.collect((closed.identity.pid, closed.identity.start))
        self._registry.close()
        self._directory.close()

    def _release_expired(self, closed: Lease) -> None:
        """Release the names that expire with this process.

        Their files are removed although this process may still have them mapped: it is about to end.
        """
        others = {hold[0] for _, log in lease.living(self._directory.leases) for hold in log.held}
        if self.process.has_forked:  # a child that never used jshm logs nothing
            others |= mapped_by_younger(closed.identity.start)
        with self.process.transaction() as (tx, removals):
            for entry in collect.expiring(tx, self._directory, closed):
                if entry.segment.id not in others:
                    tx.retire(entry.name)
                    if not tx.mark_wanted([entry.segment.id]):
                        collect.forget_version(tx, entry)
            seen = set(others)
            # In rounds, because a removed segment may have had the only reference to others.
            while going := [row for row in tx.unwanted() if row.id not in seen]:
                for row in going:
                    seen.add(row.id)
                    if self.process.mappings.is_mapped(row.id) and not row.unlinked:
                        collect.unlink(tx, self._directory, row, removals)
                    elif not removals.full:
                        collect.segment(tx, self._directory, row, removals)

    # -- the end of a session --------------------------------------------------------------------

    def end_session(self, ending: tuple[int, str]) -> None:
        """Release what lives as long as a session, unless a process of another session holds it.

        Processes of the session may still run, and a process that is killed frees nothing. So files that
        only they hold are removed now: the operating system frees the memory with the last mapping.

        Parameters
        ----------
        ending : (int, str)
            Pid and start of the session's program.
        """
        self._registry.making_room(lambda: self._release_session(ending))
        self.collect(ending)

    def _release_session(self, ending: tuple[int, str]) -> None:
        full = True
        while full:
            with self.process.transaction() as (tx, removals):
                self._release_part(tx, ending, removals)
                full = removals.full

    def _release_part(self, tx: Transaction, ending: tuple[int, str], removals: Removals) -> None:
        """Release as much of a session as fits into one transaction."""
        held: set[str] = set()
        others: set[str] = set()
        spares: list[str] = []
        for identity, log in self.process.living():
            is_ending = is_part_of(identity, ending)
            (held if is_ending else others).update(segment for segment, _ in log.held)
            if is_ending:
                spares += log.spares
        for name, text in tx.leases().items():
            if not is_part_of(rows.parse_identity(text), ending):
                continue
            for entry in tx.published_without_keep(name):
                if removals.full:
                    return
                row = entry.segment
                path = self._directory.path(row.id, overflow=row.overflow, kind=row.kind)
                if row.id in others or (row.id not in held and is_held(path)):
                    continue
                tx.retire(entry.name)
                if collect.unlink(tx, self._directory, row, removals) is None:
                    collect.forget_version(tx, entry)  # another name or an object needs the data
        for row in tx.unwanted():  # older versions, and arrays without a name
            if removals.full:
                return
            if row.id in held - others and not row.unlinked:
                collect.unlink(tx, self._directory, row, removals)
        collect.spares(tx, self._directory, spares, removals)


# -- all stores of this process ----------------------------------------------------------------------

_all: WeakSet[Housekeeping] = WeakSet()


@atexit.register
@after_workers
def close_all() -> None:
    """Close all stores, at the end of the process."""
    for one in _all:
        # A program must end without an error, even if the directory is gone.
        with contextlib.suppress(JshmError, OSError):
            one.close()


def _after_fork_in_parent() -> None:
    for one in _all:
        one.process.after_fork_in_parent()


def _after_fork_in_child() -> None:
    for one in _all:
        one.process.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child, after_in_parent=_after_fork_in_parent)
