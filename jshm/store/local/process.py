"""One process in a store: its lease, what it has mapped, its transactions and its spares."""

from __future__ import annotations

import contextlib
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from ...errors import (
    JshmError,
    NoSpaceError,
    RegistryError,
    RegistryTimeout,
    TooManyFilesError,
    UnsafeDirectoryError,
)
from ...system import file_locks, signals
from ...system.access import TRIES
from ...system.limits import limit_error
from ...system.processes import process_start
from ...system.weak import WeakValues
from ..identity import discover
from . import collect
from .directory import disk_full
from .inspection import holders_in
from .lease import Lease, LeaseLog, living
from .mappings import Mappings
from .new_segment import NO_SPACE
from .rebuild import restore_counters
from .spares import Spares, listed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import numpy as np

    from ..base import Holder
    from ..identity import Identity
    from .catalogue import Peers
    from .collect import Removals
    from .directory import Directory
    from .lease import LogContent
    from .registry.registry import Registry
    from .registry.statements import Transaction

# Seconds to wait for other writers before work that can also be done later, by any process.
PATIENCE = 0.2
# Seconds for which the lease's file is assumed to exist after a check.
_CHECK_INTERVAL = 0.05


class Process:
    """One process in one store.

    Parameters
    ----------
    directory : Directory
    registry : Registry
    peers : Peers

    Attributes
    ----------
    peers : Peers
        The other members of a group.
    mappings : Mappings
    born : WeakValues
        Segment id → the array that `allocate` returned, which alone may be sealed.
    spares : Spares
    referred : set of str
        Segments to which a reference was pickled here: other processes may know them without a name.
    has_forked : bool
        Whether this process has forked children.
    """

    def __init__(self, directory: Directory, registry: Registry, peers: Peers) -> None:
        self._user = os.geteuid()
        self._directory = directory
        self._registry = registry
        self.peers = peers
        self.mappings = Mappings(directory.access)
        self.born: WeakValues[str, np.ndarray[Any, Any]] = WeakValues()
        self._log = LeaseLog(directory.access)
        self.spares = Spares(directory, self._log)
        self._lease: Lease | None = None
        self._guard = signals.Guard(signals.Order.LEASE)
        self._lease_checked = 0.0
        # Segments that this process let go of, and that nobody may need now.
        self._let_go: set[str] = set()
        # The lease whose row was written, and the registry file in which it is.
        self._recorded: tuple[str, object] | None = None
        self.has_forked = False
        # A parent or a child may have the mappings of this process.
        self._has_kin = False
        self.referred: set[str] = set()
        file_locks.add_labels(self)

    @property
    def is_usable(self) -> bool:
        """Whether the process still runs as the user that opened the store."""
        return self._user == os.geteuid()

    # -- identity and lease ----------------------------------------------------------------------

    @property
    def identity(self) -> Identity:
        """The identity of this process."""
        try:
            return self._valid_lease().identity
        except (NoSpaceError, TooManyFilesError):  # reads and releases need no lease
            return discover(self._known)

    def lease(self, tx: Transaction) -> Lease:
        """Return this process's lease, and write its row."""
        file = self._registry.inodes
        if self._recorded is not None and self._recorded[1] != file:
            self._lease_checked = 0.0  # whatever removed the registry may have removed the lease
        lease = self._valid_lease()
        state = (lease.id, file)
        if self._recorded != state:
            tx.add_lease(lease.id, lease.text)
            tx.on_commit(lambda: setattr(self, "_recorded", state))
        return lease

    def _valid_lease(self) -> Lease:
        """Return the lease, after it was created or restored if necessary.

        It is necessary on the first use, in a forked child, and after something removed or moved the file.
        """
        lease, now = self._lease, time.monotonic()
        fresh = now < self._lease_checked + _CHECK_INTERVAL
        # `leases` is as of the last look at the directory, and every use of the registry looks at it.
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
                try:
                    self._recorded = None
                    self._lease = self._make_lease()
                except OSError as error:
                    if error.errno in NO_SPACE:
                        root = self._directory.root
                        raise disk_full("a lease", root, error.strerror) from None
                    raise limit_error(error) from None
                self.mappings.tell_again()
            self._lease_checked = now
            return self._lease

    def _make_lease(self) -> Lease:
        """Return a lease that other processes can see: the restored one, or a new one."""
        for _ in range(TRIES):
            with contextlib.suppress(FileNotFoundError):
                leases = self._directory.leases
                if self._lease is not None:
                    self._lease.move(leases)
                    if self._lease.restore():
                        return self._lease
                return Lease(leases, discover(self._known), self._directory.access, self._log)
            self._directory.make_again()
        raise UnsafeDirectoryError(
            f"{self._directory.leases} is removed again and again. Something deletes files in that "
            "directory: try again"
        )

    def close_lease(self) -> Lease | None:
        """Give up the lease; return it if this process had one. The next use makes a new one."""
        # Under the guard: a daemon thread may continue to publish, and the next lease has the same log.
        with self._guard:
            lease, self._lease = self._lease, None
            if lease is None or lease.pid != os.getpid():
                return None
            lease.close()
            return lease

    # -- all processes ---------------------------------------------------------------------------

    def _known(self) -> list[Identity]:
        return [identity for identity, _ in living(self._directory.leases)]

    def living(self) -> list[tuple[Identity, LogContent]]:
        """Return the living processes, also of other members of the group, and what each holds."""
        return [*living(self._directory.leases), *self.peers.living()]

    def holders(self) -> dict[str, tuple[Holder, ...]]:
        """Return segment id → the living processes that hold it."""
        return holders_in(self.living())

    def label_of(self, pid: int) -> str:
        """Return the label of a process; '' if it has no lease in this store."""
        for identity, _ in self.living():
            if identity.pid == pid and identity.start == process_start(pid):
                return identity.label
        return ""

    # -- transactions ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self, timeout: float | None = None) -> Iterator[tuple[Transaction, Removals]]:
        """Open a transaction, with the files to remove once it is committed."""
        removals = collect.Removals()
        # Ctrl-C is deferred until the files are removed, too.
        with signals.deferred():
            try:
                with self._registry.transact(timeout) as tx:
                    if (lost := self._registry.removed) is not None:
                        # The registry was deleted a moment ago. `Housekeeping.refresh` brings the rest
                        # back; version numbers must not restart before that.
                        restore_counters(tx, lost.last)
                    yield tx, removals
                # If the path leads to another registry now, its files must not be removed.
                if tx.check_place():
                    self.peers.announce()  # first: members must not find a listed file missing
                    removals.execute()
            finally:
                removals.cancel()
            if tx.left_stale:
                self.rewrite_trailers()
            self.peers.announce()  # again, for changes that did not fit on the disk before the removal

    def gone(self, done: str, remedy: str) -> RegistryError:
        """Return the error for a commit into a registry that the store does not use any more."""
        return RegistryError(
            f"{self._directory.root} was moved, deleted or overwritten during the operation, and what was "
            f"{done} is lost with it. {remedy}"
        )

    def rewrite_trailers(self) -> None:
        """Rewrite the trailers that do not match their rows.

        If there is no room or no time now, or the process is killed, the next collection does it.
        """
        with contextlib.suppress(JshmError):
            if self._registry.has_stale_trailers():
                with self._registry.transact(PATIENCE) as tx:
                    collect.rewrite_trailers(tx, self._directory)

    # -- holds -----------------------------------------------------------------------------------

    def tell_holds(self) -> None:
        """Log what this process has mapped now."""
        if not self.mappings.changed:
            return
        # Under the guard: changes must be logged in the order in which they were settled.
        with self._guard:
            changes = self.mappings.settle()
            self._let_go.update(identity for (identity, _), held in changes if not held)
            try:
                self._valid_lease().log.note(changes)
            except (OSError, NoSpaceError):  # a full disk: logged next time
                self.mappings.unsettle(key for key, _ in changes)

    def is_held_elsewhere(self, segment: str) -> bool:
        """Return whether another process holds a segment that has no name."""
        if not self._has_kin and segment not in self.referred:
            return False
        return any(
            hold[0] == segment
            for identity, log in living(self._directory.leases)
            if not identity.is_here
            for hold in log.held
        )

    def collect(self, tx: Transaction, removals: Removals) -> None:
        """Free what this process let go of, as part of another transaction."""
        self.tell_holds()
        if self._let_go:
            let_go = frozenset(self._let_go)
            collect.unwanted(tx, self._directory, removals, let_go)
            tx.on_commit(lambda: self._let_go.difference_update(let_go))

    def free_let_go(self) -> None:
        """Log what this process let go of, and free it if nobody needs it any more."""
        self.tell_holds()
        if not self._let_go:
            return
        let_go = frozenset(self._let_go)
        self._let_go -= let_go

        def free() -> None:
            with self.transaction(PATIENCE) as (tx, removals):
                collect.unwanted(tx, self._directory, removals, let_go)

        if self._registry.has_unwanted(let_go):
            # On failure the next collection does it.
            with contextlib.suppress(RegistryTimeout, NoSpaceError):
                self._registry.making_room(free)

    # -- spares ----------------------------------------------------------------------------------

    def gather_spares(self) -> None:
        """Make spares of superseded versions that nobody holds any more."""
        ready = self.spares.let_go()
        if not ready:
            return
        with contextlib.suppress(RegistryTimeout, NoSpaceError):
            with self.transaction(PATIENCE) as (tx, removals):
                for row in tx.unwanted():
                    if row.id in ready and not removals.full:
                        adopt = partial(self.spares.adopt, ready[row.id])
                        collect.segment(tx, self._directory, row, removals, adopt)
            self.spares.forget(ready)  # the others have a name again, or are left to a collection

    def reclaim(self, names: Collection[str] | None = None) -> bool:
        """Free spares, also of other processes: all, or those last published under these names.

        Returns
        -------
        bool
            Whether there were any.
        """
        had = bool(self.spares)
        self.spares.give_back(names)
        spares = listed(self._directory)
        found = [one for one in spares if names is None or spares[one].name in names]
        if found:
            with (
                contextlib.suppress(RegistryTimeout),
                self.transaction(PATIENCE) as (tx, removals),
            ):
                collect.spares(tx, self._directory, found, removals)
                collect.unwanted(tx, self._directory, removals, set(found), short=True)
        return had or bool(found)

    # -- forks -----------------------------------------------------------------------------------

    def after_fork_in_parent(self) -> None:
        """Note that a child may have the mappings of this process."""
        self.has_forked = self._has_kin = True

    def after_fork_in_child(self) -> None:
        """Become another process, which makes a lease when it first uses the store."""
        self._guard = signals.Guard(signals.Order.LEASE)
        self._lease = None
        self._has_kin = True
        self.spares.after_fork_in_child()
        self.mappings.after_fork_in_child()
