"""The command ``jshm``: finds the face that does what is asked, and imports only that one."""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["demo"]:
        from .demo import main as run
    else:
        from .cli import main as run
    return run(words)


if __name__ == "__main__":
    sys.exit(main())
