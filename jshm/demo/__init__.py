"""``jshm demo``: show jshm at work, in JupyterLab or, with ``--headless``, in the terminal."""

from __future__ import annotations

import argparse
import contextlib
import sys

from ..browse.command_line import CommandParser, explain
from ..errors import JshmError
from ..store import default_store
from ..system.memory import available_memory
from ..text import say, size_text

_HEADLESS_SIZE = 2**30
_LAB_SIZE = 200_000_000
# The memory needed at the peak, as a multiple of the size: private copies, and some reserve.
_HEADLESS_TIMES = 5
_LAB_TIMES = 3


def main(words: list[str]) -> int:
    """Run the demo; return the exit code."""
    args = _parser().parse_args(words)
    try:
        if args.headless:
            from . import headless

            return headless.run(_affordable(args.size or _HEADLESS_SIZE, _HEADLESS_TIMES))
        from . import lab

        lab.require()
        size = _affordable(args.size or _LAB_SIZE, _LAB_TIMES)
        return lab.run(size, port=args.port, browser=args.browser)
    except JshmError as error:
        notes = "\n".join(getattr(error, "__notes__", ())).split("\n")
        say(f"jshm demo: {explain(error)}", *filter(None, notes), stream=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="jshm demo",
        description="Open JupyterLab with two notebooks that share a picture, and the panel beside "
        "them. Ctrl-C ends it; nothing is left behind.",
    )
    parser.add_argument("command", choices=["demo"], help=argparse.SUPPRESS)
    parser.add_argument(
        "--headless", action="store_true", help="two kernels in the terminal, without JupyterLab"
    )
    parser.add_argument(
        "--port", type=int, default=8888, help="of JupyterLab (default 8888, or the next free one)"
    )
    parser.add_argument(
        "--no-browser",
        dest="browser",
        action="store_false",
        help="only print the address to open",
    )
    parser.add_argument(
        "--size", type=_size, help="bytes to share (default 200 MB; with --headless 1 GiB)"
    )
    return parser


def _size(text: str) -> int:
    with contextlib.suppress(ValueError, OverflowError):  # nan, inf
        if (size := int(float(text))) > 0:
            return size
    raise argparse.ArgumentTypeError(f"{text} is not a number of bytes (for example 1e9)")


def _affordable(wanted: int, times: int) -> int:
    """Return `wanted`, or less if memory is short."""
    # This creates the store's directory, or fails with a clear error, before any kernel starts.
    room = min(available_memory() // times, default_store().space().capacity // 2)
    if room < wanted:
        say(f"memory is short: sharing {size_text(room)} instead of {size_text(wanted)}")
    return min(wanted, room)
