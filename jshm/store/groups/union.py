"""The names of all members of a group, as one of them sees them.

A name of a single member keeps its short form; a name of several members has the login before it:
``ada:X``, ``bob:X``. For a name of a single member both forms work.
"""

from __future__ import annotations

import os
from itertools import chain
from typing import TYPE_CHECKING

from ...errors import AmbiguousNameError, InvalidNameError, SegmentNotFoundError
from ...system.processes import user_name
from ..local.catalogue import Catalogue
from ..names import check_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..local.registry.registry import Registry
    from ..local.registry.rows import Entry, SegmentRow
    from .member import Member
    from .members import Members

BETWEEN = ":"


def split(name: str) -> tuple[str, str]:
    """Split a name into the login of a member, or '', and the member's own name; both are checked.

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
            f"{name!r}: the part before the colon is not the login of a member, as in ada:X"
        )
    return login, check_name(own)


class Union(Catalogue):
    """The names that all members share.

    In entries of other members, the ids of segments and leases contain the owner's user id.

    Parameters
    ----------
    registry : Registry
        This user's.
    members : Members
        The other members.
    """

    def __init__(self, registry: Registry, members: Members) -> None:
        self._registry = registry
        self._members = members

    # -- owners ----------------------------------------------------------------------------------

    @property
    def me(self) -> str:
        """The login of this user."""
        return user_name(os.geteuid())

    def form_of_own(self, name: str) -> str:
        """Return the form of a name of this user."""
        self._members.state()
        alone = not any(member.shares(name) for member in self._members.all())
        return name if alone else f"{self.me}{BETWEEN}{name}"

    def exact(self, name: str) -> str:
        """Return a name with the login of its present owner, so that it never means another member's."""
        member, own = self.owner_of(name)
        return f"{self.me if member is None else member.login}{BETWEEN}{own}"

    def own(self, name: str) -> str:
        """Return the short form of a name of this user.

        Raises
        ------
        InvalidNameError
            It has the login of another member.
        """
        login, own = split(name)
        if login not in ("", self.me):
            raise InvalidNameError(f"{name} is a name of {login}, and you are {self.me}")
        return own

    def _owners(self, name: str) -> list[str]:
        """Return the logins of all members with a newest version of a name, this user first."""
        mine = [self.me] if self._registry.current([name]) else []
        return mine + [member.login for member in self._members.all() if member.shares(name)]

    def owner_of(self, name: str) -> tuple[Member | None, str]:
        """Return the owner of a name (None for this user), and the short form of the name.

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
        owners = self._owners(own)
        if len(owners) > 1:
            forms = " or ".join(f"{one}{BETWEEN}{own}" for one in owners)
            raise AmbiguousNameError(
                f"{', '.join(owners[:-1])} and {owners[-1]} both share {own!r}: use {forms}"
            )
        if owners == [self.me] or not others:
            return None, own
        current = [m for m in others if m.login in owners]
        return (current or others)[0], own

    def _member(self, login: str) -> Member:
        """Return the member with a login; raise SegmentNotFoundError if it shares nothing usable."""
        for member in self._members.all():
            if member.login == login:
                if member.problem:
                    raise SegmentNotFoundError(
                        f"nothing that {login} shares can be used: {member.problem}"
                    )
                return member
        raise SegmentNotFoundError(f"{login} shares nothing with this group")

    # -- reads -----------------------------------------------------------------------------------

    def data_version(self) -> object:
        return self._registry.data_version(), self._members.state()

    def current(self, names: Sequence[str]) -> list[Entry]:
        """Return the newest versions of those names that have one, each with the name in the given form."""
        found: list[Entry] = []
        mine: dict[str, str] = {}
        for name in names:
            try:
                member, own = self.owner_of(name)
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
        return next((e for e in self.versions(name) if e.version == version), None)

    def versions(self, name: str) -> list[Entry]:
        try:
            member, own = self.owner_of(name)
        except AmbiguousNameError:
            raise
        except SegmentNotFoundError:
            return []
        entries = self._registry.versions(own) if member is None else member.entries.get(own, [])
        return [entry._replace(name=name) for entry in entries]

    def everything(self) -> list[Entry]:
        several = self.several()
        found = [*self._mine(several), *self.theirs(several)]
        return sorted(found, key=lambda entry: (entry.name, entry.version))

    def _mine(self, several: frozenset[str]) -> list[Entry]:
        """Return all versions of this user's names, each with its present form."""
        return [_in_form(entry, self.me, several) for entry in self._registry.everything()]

    def theirs(self, several: frozenset[str]) -> list[Entry]:
        """Return all versions of the other members' names, each with its present form.

        `several` are the names that several members have.
        """
        return [
            _in_form(entry, member.login, several)
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
        return sorted({entry.name for entry in self.everything() if entry.is_current})

    def exact_names(self) -> list[str]:
        """Return all names that can be attached, each with its owner's login."""
        found = {f"{self.me}{BETWEEN}{name}" for name in self._registry.names()}
        self._members.state()
        for member in self._members.all():
            shared = filter(member.shares, member.entries)
            found.update(f"{member.login}{BETWEEN}{name}" for name in shared)
        return sorted(found)

    def own_names(self) -> list[str]:
        return sorted({entry.name for entry in self._mine(self.several()) if entry.is_current})

    def beginning(self, prefix: str, most: int) -> list[tuple[str, int, SegmentRow]]:
        login, between, own = prefix.partition(BETWEEN)
        entries: Iterable[Entry]
        if not between:
            entries = self.everything()
        else:  # the prefix has a login, so the names get one, too
            self._members.state()
            if login == self.me:
                entries = self._registry.everything()
            else:
                found = (m.entries.values() for m in self._members.all() if m.login == login)
                entries = chain.from_iterable(chain.from_iterable(found))
            owner = f"{login}{BETWEEN}"
            entries = [entry._replace(name=owner + entry.name) for entry in entries]
            prefix = owner + own
        fits = [e for e in entries if e.is_current and e.name.startswith(prefix)]
        fits.sort(key=lambda entry: entry.name)
        return [(e.name, e.part, e.segment) for e in fits[: most if most >= 0 else None]]

    def last(self, name: str) -> int:
        login, own = split(name)
        return self._registry.last(own) if login in ("", self.me) else 0

    def segment(self, segment: str) -> SegmentRow | None:
        if self._members.is_theirs(segment):
            return next((entry.segment for entry in self.of_segment(segment)), None)
        return self._registry.segment(segment)

    def of_segment(self, segment: str) -> list[Entry]:
        several = self.several()
        if self._members.is_theirs(segment):
            return [entry for entry in self.theirs(several) if entry.segment.id == segment]
        return [_in_form(e, self.me, several) for e in self._registry.of_segment(segment)]


def form_of(name: str, login: str, several: frozenset[str]) -> str:
    """Return the form of a member's name, if `several` are the names that several members have."""
    return f"{login}{BETWEEN}{name}" if name in several else name


def _in_form(entry: Entry, login: str, several: frozenset[str]) -> Entry:
    name = form_of(entry.name, login, several)
    return entry if name is entry.name else entry._replace(name=name)
