"""Who may reach a store's files: its user alone, or also the members of a Unix group, to read them."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..errors import UnknownGroupError

_GROUP_ID_STAYS = 0o2000  # set-group-ID: what is made in the directory belongs to the group too


@dataclass(frozen=True, slots=True)
class Access:
    """Modes and ownership of what a user makes. Only the user writes it, but for LIVE data.

    Attributes
    ----------
    group : str
        Name of the Unix group that may read it; empty: nobody else.
    gid : int
    """

    group: str = ""
    gid: int = -1

    @property
    def directory(self) -> int:
        """Mode of directories."""
        return 0o750 | _GROUP_ID_STAYS if self.group else 0o700

    @property
    def own(self) -> int:
        """Mode of what nobody else reads: the registry, leases, segments in the making."""
        return 0o600

    @property
    def shown(self) -> int:
        """Mode of what others read: the list of what is shared, and who holds what."""
        return 0o640 if self.group else 0o600

    @property
    def live(self) -> int:
        """Mode of LIVE data, which others write."""
        return 0o660 if self.group else 0o600

    @property
    def sealed(self) -> int:
        """Mode of a version that was published."""
        return 0o440 if self.group else 0o400

    def accepts(self, status: os.stat_result) -> bool:
        """Tell whether a file or directory is this user's, and of the group."""
        return status.st_uid == os.geteuid() and (not self.group or status.st_gid == self.gid)

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
