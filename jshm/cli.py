"""The command ``jshm``: list, inspect and release what is shared, without a kernel."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import unicodedata
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from . import __version__
from .api import release_found
from .browse.command_line import CommandParser, command, explain
from .browse.globs import expand, matching
from .browse.tables import as_text, details, details_text
from .errors import JshmError
from .store import default_store, group
from .text import say, size_text

if TYPE_CHECKING:
    import argparse

    from .store.base import SegmentInfo

_EPILOG = "exit codes: 0 success; 1 failure (the message says why), or `check` found problems; 2 wrong usage"


def main(words: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    args = _parser().parse_args(words)
    with group(args.group) if args.group else contextlib.nullcontext():
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    try:
        code = int(args.run(args))
        if sys.stdout is not None:  # `jshm gc >&-` closes it
            sys.stdout.flush()
    except JshmError as error:
        say(f"jshm: {explain(error)}", stream=sys.stderr)
        return 1
    except (
        OSError
    ) as error:  # stdout cannot be written: `jshm list > /dev/full`, `jshm list | head`
        if not isinstance(error, BrokenPipeError):
            say(f"jshm: {error}", stream=sys.stderr)
        # Python flushes stdout at exit, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="jshm", description="One copy of your data for every notebook.", epilog=_EPILOG
    )
    parser.add_argument("--version", action="version", version=f"jshm {__version__}")
    parser.add_argument("--group", help="work in the store of a Unix group instead of your own")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    add("demo", None, "open a JupyterLab that shows what jshm does")
    listing = add("list", _list, "list what is shared")
    listing.add_argument("pattern", nargs="?", help="only names that match, like 'exp1/*'")
    listing.add_argument("--json", action="store_true", help="for other programs")
    info = add("info", _info, "show all details of a name")
    info.add_argument("name")
    path = add(
        "path",
        _path,
        "print the path of a name's file (for an array, a valid .npy file)",
    )
    path.add_argument("name")
    release = add("release", _release, "retire names for everyone")
    release.add_argument(
        "names", nargs="+", metavar="NAME", help="names, or patterns like 'exp1/*'"
    )
    release.add_argument(
        "--force", action="store_true", help="also names that notebooks and other programs own"
    )
    add("gc", _gc, "free everything that is expired, and all spares")
    check = add("check", _check, "compare the registry with the files")
    check.add_argument("--fix", action="store_true", help="repair the problems")
    return parser


def _list(args: argparse.Namespace) -> int:
    everything = infos = default_store().segments()
    if args.pattern:
        pattern = unicodedata.normalize("NFC", args.pattern)
        infos = [
            info for info in infos if matching(pattern, (info.name, f"{info.user}:{info.name}"))
        ]
    if args.json:
        say(*json.dumps([_plain(info) for info in infos], indent=2).split("\n"))
    elif infos:
        say(*as_text(infos, default_store().space().spares).split("\n"))
    elif everything:
        say(f"nothing that is shared matches {args.pattern}")
    else:
        say("Nothing is shared yet. In a notebook: %load_ext jshm, then %shm_publish X")
    return 0


def _plain(info: SegmentInfo) -> dict[str, Any]:
    return {**asdict(info), "dtype": str(info.dtype), "only_copy": info.only_copy}


def _info(args: argparse.Namespace) -> int:
    store = default_store()
    rows = details(store.info(args.name), store.location(args.name), ())
    say(*details_text(rows).split("\n"))
    return 0


def _path(args: argparse.Namespace) -> int:
    store = default_store()
    store.require("location", "jshm path")
    path = store.location(args.name)
    if sys.stdout.isatty():
        say(path)
    else:  # a program gets the bytes of the path, which need not be text
        sys.stdout.flush()
        sys.stdout.buffer.write(os.fsencode(path) + b"\n")
    return 0


def _release(args: argparse.Namespace) -> int:
    store = default_store()
    _, written, found = expand(args.names, store.own_names(), store)
    for released in release_found(written, found, force=args.force):
        held = f", held by {', '.join(released.held_by)}" if released.held_by else ""
        say(f"{released.name} released: {size_text(released.freed)} freed{held}")
    return 0


def _gc(_: argparse.Namespace) -> int:
    say(f"{size_text(default_store().gc())} freed")
    return 0


def _check(args: argparse.Namespace) -> int:
    problems = default_store().check(fix=args.fix)
    for problem in problems:
        say(f"{problem.what}{' (repaired)' if problem.fixed else ''}")
    if not problems:
        say("no problems found")
    elif not args.fix:
        say(f"to repair what can be repaired: {command('check', '--fix')}", stream=sys.stderr)
    return 0 if all(problem.fixed for problem in problems) else 1
