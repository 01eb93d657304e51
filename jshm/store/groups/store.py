"""The store of a Unix group: the union of what its members share, each in a directory of their own.

A member publishes and releases in the own directory only, with a registry that nobody else opens
(`local`). What others share is read (`members`), and found by name in one catalogue (`union`).
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
    SegmentNotFoundError,
    UntrustedError,
)
from ...system import signals as interrupts
from ..base import Problem, Published, Released, SegmentInfo
from ..identity import seems_to_run
from ..local import inspection
from ..local.locks import LockOfOther, file_of
from ..local.registry.rows import SegmentRow
from ..local.store import REGISTRY_TIMEOUT, LocalStore
from .member import Member
from .members import Members
from .union import BETWEEN, Union, called, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ...errors import JshmError
    from ...segment.file import Mapping as Mapped
    from ...segment.file import Mode
    from ...system.access import Access
    from ..base import Holder, ObjectDetails
    from ..local.locks import Lock
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
        super().__init__(root, timeout, access, self._members)
        self.catalogue: Union = Union(self.registry, self._members)

    @property
    def group(self) -> str:
        """The group's name."""
        return self.directory.access.group

    # -- own names -------------------------------------------------------------------------------

    def publish(self, values: Mapping[str, Any], **how: Any) -> list[Published]:
        own = [self.catalogue.own(name) for name in values]
        if len(set(own)) < len(own):
            raise InvalidNameError(f"the same name twice: {', '.join(values)}")
        done = super().publish(dict(zip(own, values.values(), strict=True)), **how)
        return [replace(one, info=self._own(one.info)) for one in done]

    def require_owner(self, names: Sequence[str], *, replace: bool = False) -> None:
        super().require_owner([self.catalogue.own(name) for name in names], replace=replace)

    def release(self, names: Sequence[str], *, force: bool = False) -> list[Released]:
        own = {self._releasable(name): name for name in names}
        done = super().release(list(own), force=force)
        return [replace(one, name=own[one.name]) for one in done]

    def _releasable(self, name: str) -> str:
        """Return what this user calls a name; what is another's is the other's to release."""
        login, own = split(name)
        if login in ("", self.catalogue.me) and self.registry.current([own]):
            return own
        found = self.catalogue.current([name])
        if found:
            owner = self._owner(found[0].segment)
            raise NotOwnerError(
                f"{name} is {owner}'s, and only {owner} can release it. Let go here: %shm_detach {name}."
            )
        raise SegmentNotFoundError(inspection.missing(self.catalogue, name))

    # -- names of all ----------------------------------------------------------------------------

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
            replace(info, name=called(info.name, me, several), user=me)
            for info in super().segments()
        ]
        holders, lives = self.presence.holders(), lru_cache(seems_to_run)
        for entry in self.catalogue.theirs(several):
            alive = lives(entry.publisher)
            found.append(self._theirs(entry, holders.get(entry.segment.id, ()), alive=alive))
        return sorted(found, key=lambda info: (info.name, info.version))

    def _info(
        self,
        entry: Entry,
        holders: tuple[Holder, ...] = (),
        details: ObjectDetails | None = None,
    ) -> SegmentInfo:
        if not Members.is_theirs(entry.segment.id):
            return self._own(super()._info(entry, holders, details))
        return self._theirs(entry, holders, details, alive=seems_to_run(entry.publisher))

    def _theirs(
        self,
        entry: Entry,
        holders: tuple[Holder, ...],
        details: ObjectDetails | None = None,
        *,
        alive: bool,
    ) -> SegmentInfo:
        me = self.presence.identity
        info = inspection.info_of(entry, me, alive=alive, holders=holders, details=details)
        login = self._owner(entry.segment)
        # Whoever says to be the same notebook is it no more than another is.
        return replace(
            info, mine=False, owner=f"{login}:{info.owner}", user=login, releasable=False
        )

    def _own(self, info: SegmentInfo) -> SegmentInfo:
        """Return what is known of a version of this user's, called as it is called here."""
        name = info.name if BETWEEN in info.name else self.catalogue.mine_called(info.name)
        return replace(info, name=name, user=self.catalogue.me)

    def state(self) -> object:
        return super().state(), self._members.state(), self._members.said_state()

    def check(self, *, fix: bool = False) -> list[Problem]:
        found = super().check(fix=fix)
        self.presence.refresh()
        if not self._is_told():
            if fix:
                self.presence.tell_members(anew=True)
            what = "the list that the group's members read does not say what is shared"
            found.append(Problem(what, fixed=fix and self._is_told()))
        self._members.state()
        return found + [
            Problem(f"nothing of {member.login} can be used: {member.problem}", fixed=False)
            for member in self._members.all()
            if member.problem
        ]

    def lock(
        self,
        name: str,
        *,
        shared: bool = False,
        timeout: float | None = None,
        called: str = "",
        waits: Callable[[str], None] | None = None,
    ) -> Lock:
        """Return the lock of a name, as `Store.lock` says.

        That of another member's LIVE data lies with the data, and keeps out all members. Any other name
        stands for a lock of this user's, which keeps out this user's processes.

        Raises
        ------
        ReadOnlyError
            The name says that it is another member's (``ada:X``), and it is not LIVE.
        """
        member, own = self.catalogue.whose(name)
        live = member is not None and any(
            entry.is_current and entry.segment.writable for entry in member.entries.get(own, ())
        )
        if member is None or not (live or BETWEEN in name):
            return super().lock(own, shared=shared, timeout=timeout, called=called, waits=waits)
        if not live:
            raise ReadOnlyError(
                f"{name} is a snapshot of {member.login}'s, which nobody changes: of what another member "
                "shares only its LIVE data (--writable) can be locked"
            )
        file = file_of(own)
        return LockOfOther(
            lambda: member.open_lock(file), f"{member.path}/locks/{file}", self.directory,
            lambda: self.presence.identity, file, called or name,
            shared=shared, timeout=timeout, waits=waits,
        )  # fmt: skip

    def _is_told(self) -> bool:
        """Tell whether the members of the group are told what is shared, as they read it."""
        access = self.directory.access
        me = Member(os.geteuid(), self.catalogue.me, self.directory.root, access.gid)
        me.look()
        told = {(e.name, e.version, e.is_current) for all_ in me.entries.values() for e in all_}
        there = self.registry.everything()
        return not me.problem and told == {
            (e.name, e.version, e.is_current) for e in there if not e.segment.unlinked
        }

    def deleted(self, entries: Sequence[Entry]) -> JshmError:
        theirs = [entry for entry in entries if Members.is_theirs(entry.segment.id)]
        if not theirs:
            return super().deleted(entries)
        owner = self._owner(theirs[0].segment)
        return SegmentNotFoundError(
            f"the memory of {theirs[0].name} is gone, and {owner} still lists it: `jshm --group {self.group} "
            f"check --fix` of {owner} mends that"
        )

    # -- segments of others ----------------------------------------------------------------------

    def _owner(self, row: SegmentRow) -> str:
        member = self._members.of_segment(row.id)
        return member.login if member is not None else self.catalogue.me

    def path_of(self, row: SegmentRow) -> str:
        member = self._members.of_segment(row.id)
        return super().path_of(row) if member is None else member.path_of(row)

    def map(self, row: SegmentRow, mode: Mode) -> Mapped:
        member = self._members.of_segment(row.id)
        if member is None or row.kind == "object":
            return super().map(row, mode)
        mapping = self.presence.mappings.get(row.id, mode)
        if mapping is not None:
            return mapping
        with interrupts.deferred(), member.opened(row, writable=mode == "r+") as (fd, status):
            row.layout.verify(fd, status.st_size)
            return self.presence.mappings.get_whole(row.id, fd, mode, row.layout.end)

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
        # What is another's is not locked to find out: they say so.
        if Members.is_theirs(row.id):
            return row.id in self.presence.holders()
        return super().is_held(row)

    def segment_of(self, root: str, identity: str) -> str | None:
        return self._members.called(root, identity, self.directory.root)

    def beside(self, row: SegmentRow, needed: str) -> str:
        return Members.beside(row.id, needed)

    def require_trust(self, row: SegmentRow, name: str) -> None:
        if Members.is_theirs(row.id):
            owner = self._owner(row)
            raise UntrustedError(
                f"{name} is an object that {owner} shares with the group {self.group}: attaching it "
                "runs code of theirs, as yours. Arrays never run code. If you trust them with all that is "
                "yours: --trust (trust=True)"
            )

    def attach_segment(self, segment: str, mode: Mode = "r") -> Mapped:
        identity = segment
        member = self._members.of_segment(identity)
        if member is None:
            return super().attach_segment(identity, mode)
        mapping = self.presence.mappings.get(identity, "r" if mode == "r+" else mode)
        if mapping is None:
            mapping = self._attach_theirs(member, identity, mode)
        self.presence.tell_holds()
        return mapping

    def _attach_theirs(self, member: Member, identity: str, mode: Mode) -> Mapped:
        """Map a segment of another's, with or without a name: an object refers to it."""
        row = self.catalogue.segment(identity)
        if row is not None:
            return self.map(row, mode if mode != "r+" or row.writable else "r")
        for kind in ("array", "object"):
            row = SegmentRow(identity, kind, "", "[]", "C", 0, overflow=False, writable=False)
            with (
                contextlib.suppress(SegmentNotFoundError),
                member.opened(row) as (fd, status),
            ):
                if not status.st_size:
                    raise CorruptSegmentError(f"segment {identity} is empty")
                return self.presence.mappings.get_whole(identity, fd, "r" if mode == "r+" else mode)
        raise SegmentNotFoundError(f"segment {identity} is gone: {member.login} released it")
