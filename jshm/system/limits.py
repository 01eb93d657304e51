"""Limits of the operating system that a process can meet, as errors that say what to do."""

from __future__ import annotations

import errno

from ..errors import TooManyFilesError, UnsafeDirectoryError


def limit_error(error: OSError) -> OSError:
    """Return an error that says what to do about a limit that was reached, else `error` itself.

    ENOTDIR and ELOOP are explained too: something other than a directory has the path of one of the
    store's directories.
    """
    if error.errno in (errno.ENOTDIR, errno.ELOOP):
        return UnsafeDirectoryError(
            f"{error.filename} cannot be used: {error.strerror}. Something else has the path of a "
            "directory: remove it, or set JSHM_DIR to a directory of your own",
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return TooManyFilesError(
            error.errno,
            "this process has too many open files (before Python 3.13 each attached segment "
            "costs one descriptor): detach what you no longer need, or raise the limit with "
            "`ulimit -n`",
        )
    if error.errno == errno.ENOMEM:
        return TooManyFilesError(
            error.errno,
            "the kernel refused another memory mapping: detach what you no longer need, or raise "
            "vm.max_map_count or `ulimit -v`",
        )
    return error
