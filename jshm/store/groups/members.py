"""The other members of a Unix group, and the owners of segments."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import time
from typing import TYPE_CHECKING

from ...errors import SegmentNotFoundError, UnsafeDirectoryError
from ...system.limits import limit_error
from ..local.catalogue import Peers
from .member import Member, Pace
from .names_file import BETWEEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...system.access import Access
    from ..identity import Identity
    from ..local.lease import LogContent
    from .names_file import Announcer

# Seconds for which a membership is assumed to last after a look at the system's databases.
_MEMBERSHIP = 60.0
# Within this many seconds two changes of a directory may get the same time.
_TICK = 0.1


def _not_listed(error: OSError) -> OSError:
    """Return the error for a parent of the members' directories that cannot be read."""
    found = limit_error(error)
    if found is not error:
        return found
    return UnsafeDirectoryError(
        f"{error.filename} cannot be listed: {error.strerror}. Let its users read it, or set "
        "JSHM_GROUP_DIR to another directory"
    )


class Members:
    """The other members of a group that share something.

    Parameters
    ----------
    place : str
        The parent of the members' directories.
    access : Access
        Of the group.
    """

    def __init__(self, place: str, access: Access) -> None:
        self._place = place
        self._access = access
        self._mine = re.compile(rf"jshm-group-{re.escape(access.group)}-(0|[1-9][0-9]{{0,9}})")
        self._known: dict[int, Member] = {}
        self._are_members: dict[int, tuple[float, bool]] = {}
        self._listed: object = None
        self._checked = 0.0
        self._pace = Pace()

    def all(self) -> list[Member]:
        """Return them, by login."""
        now = time.monotonic()
        try:
            status = os.stat(self._place)
        except FileNotFoundError:  # the parent was removed
            return []
        except OSError as error:
            raise _not_listed(error) from None
        listed = status.st_dev, status.st_ino, status.st_mtime_ns
        is_old = listed != self._listed or now > self._checked + _MEMBERSHIP
        if is_old and self._pace.is_due():
            try:
                with self._pace.measured():
                    self._known = {uid: self._member(uid, path) for uid, path in self._find()}
            except OSError as error:
                raise _not_listed(error) from None
            self._checked = now
            # A change just now may be followed by another one with the same time.
            self._listed = listed if time.time() > status.st_mtime + _TICK else None
        return sorted(self._known.values(), key=lambda member: member.login)

    def _find(self) -> Iterator[tuple[int, str]]:
        with os.scandir(self._place) as entries:
            for entry in entries:
                match = self._mine.fullmatch(entry.name)
                if match is None or int(match[1]) == os.geteuid():
                    continue
                # Checked first: any user can make thousands, and the databases of users may be slow.
                with contextlib.suppress(OSError):
                    uid = entry.stat(follow_symlinks=False).st_uid
                    if uid == int(match[1]) and self._is_member(uid):
                        yield uid, entry.path

    def _member(self, uid: int, path: str) -> Member:
        known = self._known.get(uid)
        return known or Member(uid, pwd.getpwuid(uid).pw_name, path, self._access.gid)

    def _is_member(self, uid: int) -> bool:
        """Return whether a user is in the group, by the system's databases and not by files."""
        known, now = self._are_members.get(uid), time.monotonic()
        if known is None or now > known[0] + _MEMBERSHIP:
            try:
                user = pwd.getpwuid(uid)
                groups = os.getgrouplist(user.pw_name, user.pw_gid)
            except (KeyError, OverflowError):
                groups = []
            known = self._are_members[uid] = now, self._access.gid in groups
        return known[1]

    def state(self) -> object:
        """Return a value that changes when what they share changes; updates their `entries`."""
        return tuple((member.uid, member.look()) for member in self.all())

    @staticmethod
    def beside(identity: str, needed: str) -> str:
        """Return the id of a segment that another segment, of the same member, refers to."""
        _, between, owner = identity.partition(BETWEEN)
        return f"{needed}{between}{owner}"

    def translated(self, root: str, identity: str, mine: str) -> str | None:
        """Translate a segment id from the store in a member's directory.

        Returns None if it is not a member's directory. `mine` is this user's directory.
        """
        uid = next((m.uid for m in self.all() if m.path == root), None)
        if uid is None and root != mine:
            return None
        plain, _, owner = identity.partition(BETWEEN)
        owner = owner or str(os.geteuid() if uid is None else uid)
        return plain if owner == str(os.geteuid()) else f"{plain}{BETWEEN}{owner}"

    @staticmethod
    def is_theirs(identity: str) -> bool:
        """Return whether a segment id is of another member."""
        return BETWEEN in identity

    def of_segment(self, identity: str) -> Member | None:
        """Return the owner of a segment; None if it is this user.

        Raises
        ------
        SegmentNotFoundError
            The owner shares nothing any more.
        """
        if not self.is_theirs(identity):
            return None
        owner = identity.partition(BETWEEN)[2]
        self.all()
        member = self._known.get(int(owner)) if owner.isdecimal() and len(owner) <= 10 else None  # noqa: PLR2004 - of 32 bits
        if member is None:
            raise SegmentNotFoundError(
                f"segment {identity} is gone: its owner shares nothing any more"
            )
        return member

    def living(self) -> list[tuple[Identity, LogContent]]:
        """Return their processes that run, each with what it holds."""
        return [one for member in self.all() for one in member.living()]

    def living_state(self) -> object:
        """Return a value that changes when `living` may have changed."""
        return tuple((member.uid, member.living_state()) for member in self.all())


class GroupPeers(Peers):
    """The other members, and the names file that they read.

    Parameters
    ----------
    members : Members
    announcer : Announcer
    """

    def __init__(self, members: Members, announcer: Announcer) -> None:
        self._members = members
        self._announcer = announcer

    def living(self) -> list[tuple[Identity, LogContent]]:
        return self._members.living()

    def announce(self, *, rewrite: bool = False) -> None:
        self._announcer.announce(rewrite=rewrite)
