"""One process in a store: its lease, what it has mapped, its transactions, its share of cleaning."""

from __future__ import annotations

import contextlib
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import (
    JshmError,
    NoSpaceError,
    RegistryError,
    RegistryTimeout,
    TooManyFilesError,
    UnsafeDirectoryError,
)
from ...pickling import sources
from ...segment.file import limit_error
from ...system import processes as programs
from ...system import signals as interrupts
from ...system.directories import status
from ...system.memory import is_short
from ...system.private import TRIES
from ...system.weak import WeakValues
from ..groups.announcing import Announcer
from ..identity import Identity, process_start
from ..workers import discover
from . import collect as reaper
from . import locks
from .inspection import holders_in
from .lease import Lease, living, said_by
from .mappings import Mappings
from .new_segment import NO_SPACE
from .rebuild import find_lost, keep_counting, readmit_lost
from .registry import rows
from .registry.ballast import how_to_make_room
from .spares import Spares, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    import numpy as np

    from ..base import Holder
    from ..groups.members import Members
    from .directory import Directory
    from .lease_log import Said
    from .registry.database import Transaction
    from .registry.registry import Registry

T = TypeVar("T")

_REAP_INTERVAL = 1.0
# Seconds to wait for other writers with what can as well be done later, by anybody.
_PATIENCE = 0.2
# Seconds for which the lease's file is taken to be there still.
_CHECK_INTERVAL = 0.05


class Presence:
    """One process in one store.

    Parameters
    ----------
    directory : Directory
    registry : Registry
    recover : callable
        Brings back what is still mapped here of a registry that was deleted; tells whether there was
        anything.
    members : Members, optional
        The other members of the group, if it is a group's store.
    """

    def __init__(
        self,
        directory: Directory,
        registry: Registry,
        recover: Callable[[], bool],
        members: Members | None = None,
    ) -> None:
        self._directory = directory
        self._registry = registry
        self._recover = recover
        self.mappings = Mappings(directory.access)
        # Tells the other members of a group what is shared.
        self._announcer = Announcer(directory, registry) if directory.access.group else None
        self._members = members
        # Segment id → the array that `allocate` returned, which alone may be sealed.
        self.born: WeakValues[str, np.ndarray[Any, Any]] = WeakValues()
        self.spares = Spares(directory, lambda: self._valid_lease().holdings)
        self._lease: Lease | None = None
        self._guard = interrupts.Guard(interrupts.Order.LEASE)
        self._lease_checked = 0.0
        # Segments that were let go here and are perhaps nobody's now.
        self._let_go: set[str] = set()
        # The lease whose row was written, and the registry file that it was written to.
        self._told: tuple[str, object] | None = None
        self._next_reap = 0.0
        self.forked = False
        # Whether there is a parent or a child that may have the mappings of this process.
        self._has_kin = False
        # Segments of which a reference was pickled here: others may know them without a name.
        self.referred: set[str] = set()

    # -- who -------------------------------------------------------------------------------------

    @property
    def identity(self) -> Identity:
        """Who this process is."""
        try:
            return self._valid_lease().identity
        except (NoSpaceError, TooManyFilesError):  # looking, and releasing, need no lease
            return discover(self._known)

    def lease(self, tx: Transaction) -> Lease:
        """Return this process's lease, which has a row now."""
        # Were its file removed in this moment: nobody buries a process that lives.
        file = self._registry.database.file
        if self._told is not None and self._told[1] != file:
            self._lease_checked = 0.0  # who removed the one may have removed the other
        lease = self._valid_lease()
        state = (lease.id, file)
        if self._told != state:
            rows.put_identity(tx, lease.id, lease.text)
            tx.on_commit(lambda: setattr(self, "_told", state))
        return lease

    def _valid_lease(self) -> Lease:
        lease, now = self._lease, time.monotonic()
        fresh = now < self._lease_checked + _CHECK_INTERVAL
        # Where leases are: as of the last look at the directory, which every use of the registry is.
        if (
            fresh
            and lease is not None
            and lease.pid == os.getpid()
            and lease.directory is self._directory.leases
        ):
            return lease
        with self._guard:
            if self._lease is not None:
                self._lease.move(self._directory.leases)
            if self._lease is None or not self._lease.is_valid():
                # The first use, a forked child, or somebody removed or moved the file.
                try:
                    self._told = None
                    self._lease = self._make_lease()
                    # Tracebacks through functions that are shared name this notebook.
                    sources.here = self._lease.identity.label
                except OSError as error:
                    if error.errno in NO_SPACE:
                        raise NoSpaceError(
                            f"no room left in {self._directory.leases} ({error.strerror}): "
                            f"{how_to_make_room(self._directory.root)}"
                        ) from None
                    raise limit_error(error) from None
                self.mappings.tell_again()
            self._lease_checked = now
            return self._lease

    def _make_lease(self) -> Lease:
        """Return a lease that others can see: this process's, made again, or a new one."""
        for _ in range(TRIES):
            with contextlib.suppress(FileNotFoundError):
                leases = self._directory.leases
                if self._lease is not None:
                    self._lease.move(leases)
                    if self._lease.restore():
                        return self._lease
                return Lease(leases, discover(self._known), self._directory.access)
            self._directory.make_again()
        raise UnsafeDirectoryError(
            f"{self._directory.leases} is removed again and again. Something deletes files in that "
            "directory: try again"
        )

    def _known(self) -> Iterator[Identity]:
        return (who for who, _ in living(self._directory.leases))

    def label_of(self, pid: int) -> str:
        """Return what people call a process; '' if no lease says."""
        for identity, _ in self.said():
            if identity.pid == pid and identity.start == process_start(pid):
                return identity.label
        return ""

    def said(self) -> list[tuple[Identity, Said]]:
        """Return who lives, and what each says; also other members of the group."""
        others = self._members.said() if self._members is not None else []
        return [*said_by(self._directory.leases), *others]

    def holders(self) -> dict[str, tuple[Holder, ...]]:
        """Return segment id → the living processes that hold it."""
        return holders_in(self.said())

    # -- transactions ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(
        self, timeout: float | None = None
    ) -> Iterator[tuple[Transaction, reaper.Doomed]]:
        """One transaction, and the files that go once it is committed."""
        doomed = reaper.Doomed()
        # Ctrl-C waits until the files are gone, too.
        with interrupts.deferred():
            try:
                with self._registry.database.transact(timeout) as tx:
                    if (lost := self._registry.lost) is not None:
                        # It was deleted in this moment. The rest comes back later (`refresh`); version
                        # numbers must go on now.
                        keep_counting(tx, lost.last)
                    yield tx, doomed
                # Of rows that are not what the path leads to, nothing is removed where it leads now.
                if tx.look():
                    self.tell_members()  # first: members never find a file gone that they are told of
                    doomed.execute()
            finally:
                doomed.give_up()
            if tx.falls_behind:
                self._catch_up()
            self.tell_members()  # where there was no room before

    def gone(self, done: str, remedy: str) -> RegistryError:
        """Return the error of what went into a registry that is not the store's any more."""
        return RegistryError(
            f"{self._directory.root} was moved, deleted or overwritten in this moment, and what was "
            f"{done} with it. {remedy}"
        )

    def _catch_up(self) -> None:
        # Where there is no room or no time now, or its process is killed, the next reaping does it.
        with contextlib.suppress(JshmError):
            if self._registry.is_behind():
                with self._registry.database.transact(_PATIENCE) as tx:
                    reaper.catch_up(tx, self._directory)

    def making_room(self, operation: Callable[[], T]) -> T:
        """Do what frees memory, also where there is no room left for the registry's log."""
        return self._registry.database.making_room(operation)

    # -- holds -----------------------------------------------------------------------------------

    def tell_holds(self) -> None:
        """Say what this process has mapped by now."""
        if not self.mappings.changed:
            return
        # What one thread settled first must be told first, and what is settled is told.
        with self._guard:
            changes = self.mappings.settle()
            self._let_go.update(identity for (identity, _), held in changes if not held)
            try:
                self._valid_lease().holdings.note(changes)
            except (OSError, NoSpaceError):  # a full disk: say it next time
                self.mappings.unsettle(key for key, _ in changes)

    def is_held_elsewhere(self, segment: str) -> bool:
        """Tell whether another process says that it holds a segment that has no name."""
        if not self._has_kin and segment not in self.referred:
            return False
        return any(
            hold[0] == segment
            for who, held in living(self._directory.leases)
            if not who.is_here
            for hold in held
        )

    def flush(self) -> None:
        """Say what was let go, and free what nobody holds any more."""
        if locks.left:
            locks.release_left()
        self.tell_holds()
        if self._let_go:
            let_go = frozenset(self._let_go)
            self._let_go -= let_go
            if self._registry.has_unwanted(let_go):
                with contextlib.suppress(RegistryTimeout, NoSpaceError):
                    self.making_room(lambda: self._collect(let_go))  # else the next reaping does it
        if self.spares:
            self.spares.check()
            self._gather_spares()

    # -- spares ----------------------------------------------------------------------------------

    def _gather_spares(self) -> None:
        """Make spares of what was superseded here while it was held, and is nobody's by now."""
        ready = self.spares.let_go()
        if ready:
            with contextlib.suppress(RegistryTimeout, NoSpaceError):
                self._gather(ready)

    def _gather(self, ready: Mapping[str, str]) -> None:
        with self.transaction(_PATIENCE) as (tx, doomed):
            for row in rows.unwanted(tx):
                if row.id in ready and not doomed.full:
                    adopt = partial(self.spares.adopt, ready[row.id])
                    reaper.collect_segment(tx, self._directory, row, doomed, adopt)
        self.spares.forget(ready)  # what is left has a name again, or is for the reaper

    def rest(self) -> bool:
        """Give back, while nothing else happens, what is not needed; tell whether anything is left."""
        self.spares.check()
        if self.spares.expire():
            self.reap(timeout=_PATIENCE)
        return bool(self.spares)

    def reclaim(self, names: Collection[str] | None = None) -> bool:
        """Take away spares, also of other processes: all, or what was published under these names.

        Returns
        -------
        bool
            Whether there were any.
        """
        had = bool(self.spares)
        self.spares.give_back(names)
        kept = listed(self._directory)
        found = [one for one in kept if names is None or kept[one].name in names]
        if found:
            with contextlib.suppress(RegistryTimeout), self.transaction(_PATIENCE) as (tx, doomed):
                reaper.take_away(tx, self._directory, found, doomed)
                reaper.collect(tx, self._directory, doomed, set(found), short=True)
        return had or bool(found)

    # -- collecting ------------------------------------------------------------------------------

    def collect(self, tx: Transaction, doomed: reaper.Doomed) -> None:
        """Free what was let go here, as a part of another transaction."""
        self.tell_holds()
        if self._let_go:
            let_go = frozenset(self._let_go)
            reaper.collect(tx, self._directory, doomed, let_go)
            tx.on_commit(lambda: self._let_go.difference_update(let_go))

    def _collect(self, let_go: frozenset[str]) -> None:
        with self.transaction(_PATIENCE) as (tx, doomed):
            reaper.collect(tx, self._directory, doomed, let_go)

    # -- cleaning --------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Make sure that the registry is there; tell whether something was brought back."""
        self._registry.database.refresh()
        found = self._recover()
        self.tell_members()
        return found

    def tell_members(self, *, anew: bool = False) -> None:
        """Tell the other members of the group what is shared, if it is a group's store."""
        if self._announcer is not None:
            self._announcer.tell(anew=anew)

    def housekeep(self, *, flush: bool = True) -> None:
        """Flush, and reap: on the first use, then at most once a second.

        Who is about to open a transaction may `collect` in there instead of a flush here.
        """
        self.refresh()  # first: it makes again what was removed
        if flush:
            self.flush()
        began = time.monotonic()
        if began >= self._next_reap:
            self.spares.expire()
            # Not only when it was opened: somebody may have opened it to others since.
            self._directory.check()
            with contextlib.suppress(RegistryTimeout, NoSpaceError, TooManyFilesError):
                self.reap(timeout=_PATIENCE)
            # However large the store, reaping takes at most a fiftieth of the time.
            spent = time.monotonic() - began
            self._next_reap = began + max(_REAP_INTERVAL, 50 * spent)

    def prepare(self, *, flush: bool = True) -> None:
        """Housekeep before something is added; RegistryTimeout if the registry cannot take more now."""
        self.housekeep(flush=flush)
        self._registry.database.require_room()

    def reap(self, ending: tuple[int, str] | None = None, timeout: float | None = None) -> int:
        """Free everything that is not needed any more; return the bytes freed.

        With `ending`, also what lives as long as that process, which is about to end.
        """
        freed = self.making_room(lambda: self._reap(ending, timeout))
        reaper.sweep_leases(self._directory)
        locks.sweep(self._directory.locks)
        self._registry.database.provide()
        return freed

    def _reap(self, ending: tuple[int, str] | None, timeout: float | None) -> int:
        freed = 0
        self._registry.database.refresh()  # first: it looks where all is
        kept = listed(self._directory)
        short = bool(kept) and is_short()
        due = [identity for identity, one in kept.items() if one.idle or short]
        for _ in interrupts.ATTEMPTS:
            interrupts.check()
            files = reaper.unregistered(self._directory, self._registry, kept)
            lost = find_lost(files, self._directory)
            with self.transaction(timeout) as (tx, doomed):
                readmit_lost(tx, self._directory, lost)
                reaper.bury_the_dead(tx, self._directory, ending)
                reaper.bury_offers(tx, self._directory, ending)
                reaper.take_away(tx, self._directory, due, doomed)
                reaper.collect_files(tx, self._directory, files, doomed)
                reaper.collect(tx, self._directory, doomed, short=short)
                full = doomed.full
            freed += doomed.nbytes
            if not full:
                break
        self._catch_up()
        return freed

    def close(self) -> None:
        """Give up the lease, and free what only this process kept."""
        self.spares.give_back()
        with self._guard:  # a daemon thread may go on publishing
            lease, self._lease = self._lease, None
        if lease is not None and lease.pid == os.getpid():
            lease.close()
            with contextlib.suppress(JshmError, OSError):
                status(self._directory.registry_file)  # what was removed is not made again now
                self.making_room(lambda: self._leave(lease))
                self.reap((lease.identity.pid, lease.identity.start))
        self._registry.database.close()

    def _leave(self, lease: Lease) -> None:
        """Free what only this process has mapped: it is about to end, and cannot unmap it before."""
        others = {hold[0] for _, held in living(self._directory.leases) for hold in held}
        if self.forked:  # a child that never used jshm says nothing of what it has inherited
            others |= programs.mapped_by_younger(lease.identity.start)
        with self.transaction() as (tx, doomed):
            for entry in reaper.leftovers(tx, self._directory, lease):
                if entry.segment.id not in others:
                    rows.retire(tx, entry.name)
                    if not rows.judge(tx, [entry.segment.id]):
                        reaper.forget_name(tx, entry)
            seen = set(others)
            while going := [row for row in rows.unwanted(tx) if row.id not in seen]:
                for row in going:  # what goes may be all that needed others
                    seen.add(row.id)
                    if self.mappings.is_mapped(row.id) and not row.unlinked:
                        reaper.unlink_unwanted(tx, self._directory, row, doomed)
                    elif not doomed.full:
                        reaper.collect_segment(tx, self._directory, row, doomed)

    def after_fork_in_parent(self) -> None:
        """Expect a child to have what is mapped here."""
        self.forked = self._has_kin = True

    def after_fork_in_child(self) -> None:
        """Be another process, with a lease of its own once it uses the store."""
        self._guard = interrupts.Guard(interrupts.Order.LEASE)
        self._lease = None
        self._has_kin = True
        self.spares.after_fork_in_child()
        self.mappings.after_fork_in_child()
