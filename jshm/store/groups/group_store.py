"""The store of a Unix group: the union of what its members share.

Each member publishes and releases only in a private directory, with a registry that nobody else opens
(`store.local`). `members` reads what the other members share, and `union` makes one catalogue of all names.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ...errors import (
    CorruptSegmentError,
    InvalidNameError,
    NotOwnerError,
    ReadOnlyError,
    Remedy,
    SegmentNotFoundError,
    UntrustedError,
)
from ...system import signals
from ...system.directories import is_at
from ..base import Problem, Published, Released, SegmentInfo
from ..identity import seems_to_run
from ..local import inspection
from ..local.locks import Lock, file_of, try_lock
from ..local.registry.rows import SegmentRow
from ..local.store import REGISTRY_TIMEOUT, LocalStore
from .member import Member
from .members import GroupPeers, Members
from .names_file import Announcer
from .union import BETWEEN, Union, form_of, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ...errors import JshmError
    from ...segment.file import Mapping as SegmentMapping
    from ...segment.file import Mode
    from ...system.access import Access
    from ..base import Holder, ObjectDetails
    from ..local.catalogue import Peers
    from ..local.registry.rows import Entry


class GroupStore(LocalStore):
    """What the members of a group share, as one of them sees it.

    Parameters
    ----------
    root : str
        This member's directory; see `jshm.store.local.directory.group_root`.
    access : Access
        Of the group.
    timeout : float
        Seconds to wait for this user's other processes' transactions.
    """

    def __init__(self, root: str, access: Access, timeout: float = REGISTRY_TIMEOUT) -> None:
        self._members = Members(os.path.dirname(root), access)
        super().__init__(root, timeout, access)
        self.catalogue: Union = Union(self.registry, self._members)

    def _peers(self) -> Peers:
        return GroupPeers(self._members, Announcer(self.directory, self.registry))

    @property
    def group(self) -> str:
        """The group's name."""
        return self.directory.access.group

    # -- this user's names -----------------------------------------------------------------------

    def publish(self, values: Mapping[str, Any], **how: Any) -> list[Published]:
        own = [self.catalogue.own(name) for name in values]
        if len(set(own)) < len(own):
            raise InvalidNameError(f"the same name twice: {', '.join(values)}")
        done = super().publish(dict(zip(own, values.values(), strict=True)), **how)
        return [replace(one, info=self._of_this_user(one.info)) for one in done]

    def require_owner(self, names: Sequence[str], *, replace: bool = False) -> None:
        super().require_owner([self.catalogue.own(name) for name in names], replace=replace)

    def release(self, names: Sequence[str], *, force: bool = False) -> list[Released]:
        own = {self._releasable(name): name for name in names}
        done = super().release(list(own), force=force)
        return [replace(one, name=own[one.name]) for one in done]

    def _releasable(self, name: str) -> str:
        """Return the short form of a name of this user.

        Raises
        ------
        NotOwnerError, SegmentNotFoundError
        """
        login, own = split(name)
        if login in ("", self.catalogue.me) and self.registry.current([own]):
            return own
        found = self.catalogue.current([name])
        if found:
            owner = self._owner(found[0].segment)
            raise NotOwnerError(
                f"{name} belongs to {owner}, and only {owner} can release it",
                remedy=Remedy("detach", (name,), purpose="Let go here"),
            )
        raise inspection.not_found(self.catalogue, name)

    # -- names of all members --------------------------------------------------------------------

    def checked(self, name: str) -> str:
        login, own = split(name)
        return f"{login}:{own}" if login else own

    def exact(self, name: str) -> str:
        return self.catalogue.exact(name)

    def exact_names(self) -> list[str]:
        return self.catalogue.exact_names()

    def segments(self) -> list[SegmentInfo]:
        me, several = self.catalogue.me, self.catalogue.several()
        found = [
            replace(info, name=form_of(info.name, me, several), user=me)
            for info in super().segments()
        ]
        holders, lives = self.process.holders(), lru_cache(seems_to_run)
        for entry in self.catalogue.theirs(several):
            alive = lives(entry.publisher)
            found.append(self._of_member(entry, holders.get(entry.segment.id, ()), alive=alive))
        return sorted(found, key=lambda info: (info.name, info.version))

    def describe(
        self,
        entry: Entry,
        holders: tuple[Holder, ...] = (),
        details: ObjectDetails | None = None,
    ) -> SegmentInfo:
        if not Members.is_theirs(entry.segment.id):
            return self._of_this_user(super().describe(entry, holders, details))
        return self._of_member(entry, holders, details, alive=seems_to_run(entry.publisher))

    def _of_this_user(self, info: SegmentInfo) -> SegmentInfo:
        """Return the description of this user's version with the present form of its name."""
        name = info.name if BETWEEN in info.name else self.catalogue.form_of_own(info.name)
        return replace(info, name=name, user=self.catalogue.me)

    def _of_member(
        self,
        entry: Entry,
        holders: tuple[Holder, ...],
        details: ObjectDetails | None = None,
        *,
        alive: bool,
    ) -> SegmentInfo:
        """Return the description of another member's version."""
        me = self.process.identity
        info = inspection.info_of(entry, me, alive=alive, holders=holders, details=details)
        login = self._owner(entry.segment)
        # Even if the other member's notebook claims the same identity as this one.
        return replace(
            info, mine=False, owner=f"{login}:{info.owner}", user=login, releasable=False
        )

    def state(self) -> object:
        return super().state(), self._members.state(), self._members.living_state()

    def check(self, *, fix: bool = False) -> list[Problem]:
        found = super().check(fix=fix)
        self.housekeeping.refresh()
        if not self._is_announced():
            if fix:
                self.process.peers.announce(rewrite=True)
            what = "the names file for the group's members does not match the registry"
            found.append(Problem(what, fixed=fix and self._is_announced()))
        self._members.state()
        return found + [
            Problem(
                f"nothing that {member.login} shares can be used: {member.problem}", fixed=False
            )
            for member in self._members.all()
            if member.problem
        ]

    def _is_announced(self) -> bool:
        """Return whether the names file, as other members read it, matches the registry."""
        access = self.directory.access
        me = Member(os.geteuid(), self.catalogue.me, self.directory.root, access.gid)
        me.look()
        announced = {
            (e.name, e.version, e.is_current) for all_ in me.entries.values() for e in all_
        }
        registered = self.registry.everything()
        return not me.problem and announced == {
            (e.name, e.version, e.is_current) for e in registered if not e.segment.unlinked
        }

    def lock(
        self,
        name: str,
        *,
        shared: bool = False,
        timeout: float | None = None,
        called: str = "",
        waits: Callable[[str], None] | None = None,
    ) -> Lock:
        """Return a lock for a name, as `Store.lock` does.

        The lock of another member's LIVE data is in that member's directory and excludes all members. Any
        other lock excludes this user's processes only.

        Raises
        ------
        ReadOnlyError
            The name has the login of another member (``ada:X``), and its data is not LIVE.
        """
        member, own = self.catalogue.owner_of(name)
        live = member is not None and any(
            entry.is_current and entry.segment.writable for entry in member.entries.get(own, ())
        )
        if member is None or not (live or BETWEEN in name):
            return super().lock(own, shared=shared, timeout=timeout, called=called, waits=waits)
        if not live:
            raise ReadOnlyError(
                f"{name} is a snapshot that {member.login} published, and nobody changes it. Of another "
                "member's data only LIVE data (published with writable=True) can be locked"
            )
        return _MemberLock(
            member, self.directory, self.process, file_of(own), called or name,
            shared=shared, timeout=timeout, waits=waits,
        )  # fmt: skip

    def deleted(self, entries: Sequence[Entry]) -> JshmError:
        theirs = [entry for entry in entries if Members.is_theirs(entry.segment.id)]
        if not theirs:
            return super().deleted(entries)
        owner = self._owner(theirs[0].segment)
        return SegmentNotFoundError(
            f"the memory of {theirs[0].name} is gone, but {owner} still lists it. A check with fix by "
            f"{owner} in the store of {self.group} repairs that"
        )

    # -- segments of other members ---------------------------------------------------------------

    def _owner(self, row: SegmentRow) -> str:
        member = self._members.of_segment(row.id)
        return member.login if member is not None else self.catalogue.me

    def path_of(self, row: SegmentRow) -> str:
        member = self._members.of_segment(row.id)
        return super().path_of(row) if member is None else member.path_of(row)

    def map(self, row: SegmentRow, mode: Mode) -> SegmentMapping:
        member = self._members.of_segment(row.id)
        if member is None or row.kind == "object":
            return super().map(row, mode)
        mapping = self.process.mappings.get(row.id, mode)
        if mapping is not None:
            return mapping
        with signals.deferred(), member.opened(row, writable=mode == "r+") as (fd, status):
            row.layout.verify(fd, status.st_size)
            return self.process.mappings.get_whole(row.id, fd, mode, row.layout.end)

    @contextlib.contextmanager
    def opened(self, row: SegmentRow) -> Iterator[tuple[int, os.stat_result]]:
        member = self._members.of_segment(row.id)
        with super().opened(row) if member is None else member.opened(row) as found:
            yield found

    @contextlib.contextmanager
    def unheld(self, row: SegmentRow) -> Iterator[int]:
        member = self._members.of_segment(row.id)
        if member is None:
            with super().unheld(row) as fd:
                yield fd
        else:
            with member.opened(row, held=False) as (fd, _):
                yield fd

    def is_held(self, row: SegmentRow) -> bool:
        # Another member's file is not locked to find out; the logs tell.
        if Members.is_theirs(row.id):
            return row.id in self.process.holders()
        return super().is_held(row)

    def segment_of(self, root: str, identity: str) -> str | None:
        return self._members.translated(root, identity, self.directory.root)

    def beside(self, row: SegmentRow, needed: str) -> str:
        return Members.beside(row.id, needed)

    def require_trust(self, row: SegmentRow, name: str) -> None:
        if Members.is_theirs(row.id):
            owner = self._owner(row)
            raise UntrustedError(
                f"{name} is an object that {owner} shares with the group {self.group}: to attach it runs "
                "their code with your permissions. Arrays never run code",
                remedy=Remedy("attach", (name,), {"trust": True}, "If you trust them completely"),
            )

    def attach_segment(self, segment: str, mode: Mode = "r") -> SegmentMapping:
        member = self._members.of_segment(segment)
        if member is None:
            return super().attach_segment(segment, mode)
        mapping = self.process.mappings.get(segment, "r" if mode == "r+" else mode)
        if mapping is None:
            mapping = self._attach_of_member(member, segment, mode)
        self.process.tell_holds()
        return mapping

    def _attach_of_member(self, member: Member, segment: str, mode: Mode) -> SegmentMapping:
        """Map another member's segment; without a name, an object refers to it."""
        row = self.catalogue.segment(segment)
        if row is not None:
            return self.map(row, mode if mode != "r+" or row.writable else "r")
        for kind in ("array", "object"):
            row = SegmentRow(segment, kind, "", "[]", "C", 0, overflow=False, writable=False)
            with (
                contextlib.suppress(SegmentNotFoundError),
                member.opened(row) as (fd, status),
            ):
                if not status.st_size:
                    raise CorruptSegmentError(f"segment {segment} is empty")
                return self.process.mappings.get_whole(segment, fd, "r" if mode == "r+" else mode)
        raise SegmentNotFoundError(f"segment {segment} is gone: {member.login} released it")


class _MemberLock(Lock):
    """A lock of another member's LIVE data. Its file is in that member's directory, open for reading.

    It takes no turns, because that needs a file open for writing. Without the file the data is not LIVE.
    """

    def __init__(self, member: Member, *of: Any, **how: Any) -> None:
        super().__init__(*of, **how)
        self._member = member
        self._path = f"{member.path}/locks/{self._file}"

    def _open(self) -> tuple[int, str]:
        return self._member.open_lock(self._file), self._path

    def _is_current(self, path: str, fd: int) -> bool:
        return is_at(path, fd)

    def _try(self, fd: int) -> bool:
        return try_lock(fd, shared=self._shared)
