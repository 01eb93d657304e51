"""A scenario: an operation whose process is killed, and the names that may be shared afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..world import BEFORE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..world import Names


@dataclass(frozen=True, slots=True)
class Scenario:
    """An operation in the middle of which its process is killed.

    Attributes
    ----------
    operation : callable
        Yields once: before that it prepares, after that it may be killed.
    allowed : callable
        Tells whether these names, with these versions, may be shared afterwards.
    boundaries : int
        It has more of them than these, or the fuse does not see what it does.
    held : bool
        Whether another process has X attached meanwhile.
    nothing : bool
        Whether the store does not exist before, not even its directory.
    damaged : bool
        Whether something was damaged before: then the next operation is ``check(fix=True)``.
    small : bool
        Whether the store is on a small file system, with an overflow directory beside it.
    """

    operation: Callable[[], Iterator[None]]
    allowed: Callable[[Names], bool]
    boundaries: int = 0
    held: bool = False
    nothing: bool = False
    damaged: bool = False
    small: bool = False

    @property
    def name(self) -> str:
        """The name in tables and on the command line."""
        return self.operation.__name__ + "_held" * self.held


def becomes(*changes: dict[str, int | None], before: Names = BEFORE) -> Callable[[Names], bool]:
    """Allow what was there before, and that with one of some changes; None: the name is gone."""
    return lambda names: names == before or only(*changes, before=before)(names)


def only(*changes: dict[str, int | None], before: Names = BEFORE) -> Callable[[Names], bool]:
    """Allow what was there before with one of some changes, but not without."""
    allowed = [
        {name: version for name, version in {**before, **change}.items() if version is not None}
        for change in changes
    ]
    return lambda names: names in allowed
