"""Make the folder of a release that does not have one yet: ``python -m tests.formats``."""

from __future__ import annotations

import sys
import tempfile

from .golden import FOLDER, keep, write


def main() -> None:
    """Refuse to change what was released."""
    if FOLDER.exists():
        sys.exit(f"{FOLDER} is there: what a release wrote is not changed afterwards")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as root:
        write(root)
        keep(root)


if __name__ == "__main__":
    main()
