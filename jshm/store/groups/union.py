"""The names of all members of a group, as one of them sees them.

A name that one member has is called as that member calls it; one that several have is called after
them: ``ada:X``, ``bob:X``. Both forms are understood where there is only one.
"""

from __future__ import annotations

import os
from itertools import chain
from typing import TYPE_CHECKING

from ...errors import AmbiguousNameError, InvalidNameError, SegmentNotFoundError
from ...system.processes import user_name
from ..names import check_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..local.registry.registry import Registry
    from ..local.registry.rows import Entry, SegmentRow
    from .member import Member
    from .members import Members

BETWEEN = ":"


def split(name: str) -> tuple[str, str]:
    """Return the member that a name says, or '', and what that member calls it; both are checked.

    Raises
    ------
    InvalidNameError
    """
    if not isinstance(name, str):
        raise InvalidNameError(f"a name is a string, not {type(name).__name__}")
    login, between, own = name.partition(BETWEEN)
    if not between:
        return "", check_name(name)
    if not login or "/" in login:
        raise InvalidNameError(
            f"{name!r}: before the colon goes the login of a member, as in ada:X"
        )
    return login, check_name(own)


class Union:
    """What all members share: the reads of `Registry`, over several.

    Entries of other members have ids of segments and leases that say whose they are.

    Parameters
    ----------
    registry : Registry
        This user's.
    members : Members
        The others.
    """

    def __init__(self, registry: Registry, members: Members) -> None:
        self._registry = registry
        self._members = members

    # -- whose -----------------------------------------------------------------------------------

    @property
    def me(self) -> str:
        """The login of this user."""
        return user_name(os.geteuid())

    def mine_called(self, name: str) -> str:
        """Return how a name of this user's is called here."""
        self._members.state()
        alone = not any(member.shares(name) for member in self._members.all())
        return name if alone else f"{self.me}{BETWEEN}{name}"

    def exact(self, name: str) -> str:
        """Return a name with the member whose it is now: it means no other later."""
        member, own = self.whose(name)
        return f"{self.me if member is None else member.login}{BETWEEN}{own}"

    def own(self, name: str) -> str:
        """Return what this user calls a name of this user's.

        Raises
        ------
        InvalidNameError
            It says that it is another's.
        """
        login, own = split(name)
        if login not in ("", self.me):
            raise InvalidNameError(f"{name} is a name of {login}'s, and you are {self.me}")
        return own

    def _who(self, name: str) -> list[str]:
        """Return who has a newest version of a name, by login; this user first."""
        mine = [self.me] if self._registry.current([name]) else []
        return mine + [member.login for member in self._members.all() if member.shares(name)]

    def whose(self, name: str) -> tuple[Member | None, str]:
        """Return whose a name is, None for this user, and what that member calls it.

        Raises
        ------
        AmbiguousNameError
        """
        login, own = split(name)
        self._members.state()
        if login == self.me:
            return None, own
        others = [m for m in self._members.all() if own in m.entries and login in ("", m.login)]
        if login:
            return (others[0] if others else self._member(login)), own
        who = self._who(own)
        if len(who) > 1:
            forms = " or ".join(f"{one}{BETWEEN}{own}" for one in who)
            raise AmbiguousNameError(
                f"{', '.join(who[:-1])} and {who[-1]} share something under {own!r}: say whose, {forms}"
            )
        if who == [self.me] or not others:
            return None, own
        current = [m for m in others if m.login in who]
        return (current or others)[0], own

    def _member(self, login: str) -> Member:
        """Return the member of a login; who shares nothing is none."""
        for member in self._members.all():
            if member.login == login:
                if member.problem:
                    raise SegmentNotFoundError(f"nothing of {login} can be used: {member.problem}")
                return member
        raise SegmentNotFoundError(f"{login} shares nothing with this group")

    # -- reads -----------------------------------------------------------------------------------

    def data_version(self) -> object:
        """Return a value that changes when any member has changed anything."""
        return self._registry.data_version(), self._members.state()

    def current(self, names: Sequence[str]) -> list[Entry]:
        """Return the newest versions of those names that have one, each called as it was asked for."""
        found: list[Entry] = []
        mine: dict[str, str] = {}
        for name in names:
            try:
                member, own = self.whose(name)
            except AmbiguousNameError:
                raise
            except SegmentNotFoundError:
                continue
            if member is None:
                mine[own] = name
            else:
                entries = member.entries.get(own, ())
                found += [e._replace(name=name) for e in entries if e.is_current]
        if mine:
            found += [e._replace(name=mine[e.name]) for e in self._registry.current(list(mine))]
        return found

    def version(self, name: str, version: int) -> Entry | None:
        """Return one version of a name, if it still exists."""
        return next((e for e in self.versions(name) if e.version == version), None)

    def versions(self, name: str) -> list[Entry]:
        """Return all versions of a name that still exist, the oldest first."""
        try:
            member, own = self.whose(name)
        except AmbiguousNameError:
            raise
        except SegmentNotFoundError:
            return []
        entries = self._registry.versions(own) if member is None else member.entries.get(own, [])
        return [entry._replace(name=name) for entry in entries]

    def everything(self) -> list[Entry]:
        """Return all versions of all names, by name and version."""
        several = self.several()
        found = [*self._mine(several), *self.theirs(several)]
        return sorted(found, key=lambda entry: (entry.name, entry.version))

    def _mine(self, several: frozenset[str]) -> list[Entry]:
        """Return all versions of this user's names, as they are called here."""
        return [_called(entry, self.me, several) for entry in self._registry.everything()]

    def theirs(self, several: frozenset[str]) -> list[Entry]:
        """Return all versions of the others' names, as they are called here.

        `several` are the names that several members have.
        """
        return [
            _called(entry, member.login, several)
            for member in self._members.all()
            for entry in chain.from_iterable(member.entries.values())
        ]

    def several(self) -> frozenset[str]:
        """Return the names that several members have."""
        self._members.state()
        seen: set[str] = set(self._registry.names())
        several: set[str] = set()
        for member in self._members.all():
            names = set(filter(member.shares, member.entries))
            several |= seen & names
            seen |= names
        return frozenset(several)

    def names(self) -> list[str]:
        """Return all names that can be attached, sorted, as they are called here."""
        return sorted({entry.name for entry in self.everything() if entry.is_current})

    def exact_names(self) -> list[str]:
        """Return all names that can be attached, each with the member whose it is."""
        found = {f"{self.me}{BETWEEN}{name}" for name in self._registry.names()}
        self._members.state()
        for member in self._members.all():
            shared = filter(member.shares, member.entries)
            found.update(f"{member.login}{BETWEEN}{name}" for name in shared)
        return sorted(found)

    def own_names(self) -> list[str]:
        """Return this user's names that can be attached, sorted, as they are called here."""
        return sorted({entry.name for entry in self._mine(self.several()) if entry.is_current})

    def beginning(self, prefix: str, most: int) -> list[tuple[str, int, SegmentRow]]:
        """Return the first names, sorted, that can be attached and begin so, and what they are."""
        login, between, own = prefix.partition(BETWEEN)
        entries: Iterable[Entry]
        if not between:
            entries = self.everything()
        else:  # whoever says whose it is gets it so
            self._members.state()
            if login == self.me:
                entries = self._registry.everything()
            else:
                found = (m.entries.values() for m in self._members.all() if m.login == login)
                entries = chain.from_iterable(chain.from_iterable(found))
            said = f"{login}{BETWEEN}"
            entries = [entry._replace(name=said + entry.name) for entry in entries]
            prefix = said + own
        fits = [e for e in entries if e.is_current and e.name.startswith(prefix)]
        fits.sort(key=lambda entry: entry.name)
        return [(e.name, e.part, e.segment) for e in fits[: most if most >= 0 else None]]

    def last(self, name: str) -> int:
        """Return the last version number of a name of this user's, also of a released one."""
        login, own = split(name)
        return self._registry.last(own) if login in ("", self.me) else 0

    def segment(self, segment: str) -> SegmentRow | None:
        """Return a segment's row; of another member's, if a version is in it."""
        if self._members.is_theirs(segment):
            return next((entry.segment for entry in self.of_segment(segment)), None)
        return self._registry.segment(segment)

    def of_segment(self, segment: str) -> list[Entry]:
        """Return the versions that are in a segment."""
        several = self.several()
        if self._members.is_theirs(segment):
            return [entry for entry in self.theirs(several) if entry.segment.id == segment]
        return [_called(e, self.me, several) for e in self._registry.of_segment(segment)]


def called(name: str, login: str, several: frozenset[str]) -> str:
    """Return how a member's name is called here, where `several` are those that several have."""
    return f"{login}{BETWEEN}{name}" if name in several else name


def _called(entry: Entry, login: str, several: frozenset[str]) -> Entry:
    name = called(entry.name, login, several)
    return entry if name is entry.name else entry._replace(name=name)
