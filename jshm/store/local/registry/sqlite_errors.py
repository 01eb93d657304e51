"""What an error of SQLite means, and what to do about it."""

from __future__ import annotations

import os
import re
import sqlite3

from ....errors import CorruptRegistryError, NoSpaceError, RegistryError
from .ballast import has_no_inode, how_to_make_room
from .files import BESIDE

_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
# What SQLite and Python have no code for: a schema that lacks a table, or has one that its header
# denies; a header of no known format; text that is no text.
_DAMAGE = re.compile("^no such|^Could not decode|already exists$|unsupported file format")


def code_of(error: Exception) -> int:
    """Return the primary result code; 0 of Python's own errors (a closed connection)."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def explained(error: Exception, path: str) -> Exception:
    """Return an error of ours that says what to do.

    Parameters
    ----------
    error : Exception
        Of SQLite, or of what reads its text.
    path : str
        The database's file.
    """
    code = code_of(error)
    damaged = code in _CORRUPT or isinstance(error, UnicodeDecodeError)
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_DBMOVED:
        return RegistryError(f"the registry {path} was removed or moved in this moment: try again")
    # Also its header may say that it is read-only.
    if code == sqlite3.SQLITE_READONLY and os.access(path, os.W_OK):
        beside = filter(os.path.exists, (path + ending for ending in BESIDE))
        damaged = all(os.access(one, os.W_OK) for one in beside)
    if damaged or _DAMAGE.search(str(error)):
        return CorruptRegistryError(
            f"the registry {path} is damaged ({error}). The data is not: "
            "`jshm check --fix` rebuilds the registry from the segments"
        )
    root = os.path.dirname(path)
    if code in _FULL or (code == sqlite3.SQLITE_CANTOPEN and has_no_inode(root)):
        return NoSpaceError(
            f"no room left for the registry in {root} ({error}): {how_to_make_room(root)}"
        )
    if code == sqlite3.SQLITE_READONLY:
        return RegistryError(
            f"the registry {path} cannot be written: see whose it is, and `chmod 600` it"
        )
    return RegistryError(f"the registry {path} cannot be used: {error}")
