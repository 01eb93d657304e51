"""Who may reach a store's files: its user alone, or the members of a Unix group."""

from __future__ import annotations

import os
from dataclasses import dataclass

from .errors import UnknownGroupError

_GROUP_ID_STAYS = 0o2000  # set-group-ID: what is made in the directory belongs to the group too


@dataclass(frozen=True, slots=True)
class Access:
    """Modes and ownership of all that a store makes.

    Attributes
    ----------
    group : str
        Name of the Unix group; empty: the user alone.
    gid : int
    """

    group: str = ""
    gid: int = -1

    @property
    def directory(self) -> int:
        """Mode of directories."""
        return 0o770 | _GROUP_ID_STAYS if self.group else 0o700

    @property
    def own(self) -> int:
        """Mode of files that one process writes, and others look at: leases, segments in the making."""
        return 0o640 if self.group else 0o600

    @property
    def common(self) -> int:
        """Mode of files that all write: the registry, LIVE data."""
        return 0o660 if self.group else 0o600

    @property
    def sealed(self) -> int:
        """Mode of a version that was published."""
        return 0o440 if self.group else 0o400

    def accepts(self, status: os.stat_result) -> bool:
        """Tell whether a file or directory belongs to whom the store belongs."""
        if self.group:
            return status.st_gid == self.gid
        return status.st_uid == os.geteuid()

    def settle(self, fd: int, mode: int) -> None:
        """Give a new file its mode, whatever the umask; a private one has it already."""
        if self.group:
            os.fchmod(fd, mode)


PRIVATE = Access()


def of_group(name: str) -> Access:
    """Return the access of a Unix group that this process is in.

    Raises
    ------
    UnknownGroupError
    """
    import grp

    try:
        gid = grp.getgrnam(name).gr_gid
    except KeyError:
        raise UnknownGroupError(
            f"there is no group {name!r} on this machine: `groups` shows yours"
        ) from None
    if gid not in {*os.getgroups(), os.getegid()}:
        raise UnknownGroupError(
            f"you are not in the group {name!r} here: `groups` shows yours. Who was added to it just "
            "now must log in again, and start the Jupyter server again"
        )
    return Access(name, gid)
