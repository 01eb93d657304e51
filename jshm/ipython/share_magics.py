"""``%shm_publish``, ``%shm_attach`` and ``%%shm_once``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from IPython.core.error import UsageError
from IPython.core.magic import cell_magic, line_magic, magics_class

from .. import variables
from ..api import publish_values
from ..browse.globs import expand
from ..browse.tables import object_text
from ..errors import SegmentExistsError
from ..pickling import static
from ..segment.file import Mode, check_mode
from ..store import default_store, watching
from ..store.base import shared_states
from ..store.names import as_variable, check_variable, check_version, is_glob
from ..text import say, size_text
from ..variables import is_from_jshm
from . import arguments, expressions, following, once
from .arguments import Parser
from .calling import Caller, Targets, caller, targets_of
from .magics import ShmMagics, group_option, one_line, warn_of_short_life

if TYPE_CHECKING:
    from ..store.base import Published, Store


@magics_class
class ShareMagics(ShmMagics):
    """Publish and attach."""

    # -- publish -----------------------------------------------------------------------------------

    @line_magic
    @one_line
    def shm_publish(self, line: str) -> None:
        """Share variables with every notebook on this machine: arrays, tables, functions, anything.

        ::

            %shm_publish X                          share X under its own name
            %shm_publish X y --as exp1/             several, all or none, as exp1/X and exp1/y
            %shm_publish X --as train/X --note "train split"
            %shm_publish 'feature_*'                every array or table whose name matches

        Variables that share state (a model and its optimizer, two functions and their global variable)
        share it again if they are attached in one line. Attached separately, each is complete by itself.

        What is shared is a snapshot: later changes to X are not shared. Publishing again makes the next
        version; notebooks that have attached an older one keep it.

        In a function, it also takes local variables. It takes only variables: instead of df['x'],
        publish Y after Y = df['x'].

        Options::

            --as NAME     another name; several variables, or a trailing slash: a prefix
            --replace     make the next version of a name that belongs to another notebook
            --keep        keep it when the Jupyter server stops, until it is released
            --move        rebind X to the shared copy, so that the private one can be freed
            --writable    others may attach it with --mode r+ and change it (implies --move)
            --note TEXT   shown in lists
            --group NAME  share with the members of a Unix group, not only with your own notebooks
        """
        parser = Parser("shm_publish", "VARIABLE")
        parser.add_argument("--as", dest="name")
        parser.add_argument("--note", default="")
        for option in ("--replace", "--keep", "--move", "--writable"):
            parser.flag(option)
        args = parser.parse(line)
        if not args.names:
            parser.error("which variable? For example: %shm_publish X")
        here = caller()
        seen = here.sees()
        here.refuse_value(
            "shm_publish",
            f"and attach the shared copy: {args.names[0]} = %shm_attach {args.names[0]}{group_option()}",
        )
        # A variable may be typed in several Unicode forms, which are one variable for Python.
        typed = [as_variable(word) for word in args.names]
        data = publishable(here)
        arguments.check_words(parser, args.names, data, seen)
        words = expand(typed, data, what="variable with an array or a table").names
        names = arguments.destinations(words, args.name)
        known = [name for name, _ in variables.user_variables(seen)]
        values = {
            name: arguments.lookup(seen, word, known, here)
            for name, word in zip(names, words, strict=True)
        }
        if args.move or args.writable:
            here.require_notebook(words, "--writable" if args.writable else "--move")
        if args.writable:
            default_store().require("writable", "%shm_publish --writable")
        del seen, here  # they refer to a function's variables
        done, moved = publish_values(
            values,
            replace=args.replace,
            keep=args.keep,
            move=args.move,
            writable=args.writable,
            note=args.note,
        )
        for published in done:
            say(_published_line(published))
        for names, text in shared_states(published.info for published in done):
            say(f"{text}: %shm_attach {' '.join(names)}{group_option()}")
        warn_of_short_life(done[0].info)
        if args.move or args.writable:
            self._report_move(values, moved)

    def _report_move(self, values: dict[str, Any], moved: list[list[str]]) -> None:
        """Say which variables are the shared copies now, and how much private memory was returned."""
        space = self._variables
        for name, rebound in zip(list(values), moved, strict=True):
            old = values.pop(name)
            verb = "are" if len(rebound) > 1 else "is"
            what = f"{', '.join(rebound) or name} {verb} the shared copy now"
            if not issubclass(type(old), np.ndarray):
                say(what)
                continue
            size = size_text(old.nbytes)
            variables.forget_history(space, lambda value, old=old: value is old)  # type: ignore[misc]
            keeps = variables.find_arrays(space, variables.same_owner(old))
            owner = variables.owner_of(old)
            freeable = owner.flags.owndata
            # Our own references: `owner`, `old` and the argument of getrefcount. If both are one array,
            # it is counted twice.
            if not keeps and freeable and sys.getrefcount(owner) > 3:  # noqa: PLR2004
                keeps = ["something outside the notebook's variables"]
            del old, owner
            if keeps:
                say(f"{what} · {size} not freed: {', '.join(keeps)} refer to it")
            else:
                say(f"{what} · {size} of private memory returned" if freeable else what)

    # -- attach ------------------------------------------------------------------------------------

    @line_magic
    @one_line
    def shm_attach(self, line: str) -> Any:
        """Bind what another notebook shared: the same physical memory, nothing copied.

        ::

            %shm_attach X                     bind X to the newest version, read-only
            %shm_attach exp1/X --as data      bind it to the variable `data`
            %shm_attach X y                   several, all from the same moment
            %shm_attach 'exp1/*'              all that match, each by its last component
            %shm_attach X --wait 60           wait up to 60 seconds until X is published
            %shm_attach X --follow            rebind X to the newest version before each cell
            Z = %shm_attach X                 bind only Z; in a function, a local variable

        Options::

            --as VARIABLE   the variable to bind
            --mode r        read-only (the default)
            --mode c        copy-on-write: writable, and your changes stay yours
            --mode r+       shared and writable, if it was published with --writable
            --version N     an older version, while somebody holds it
            --wait SECONDS  wait for a name that is not published yet
            --group NAME    a name that the members of a Unix group share
            --trust         also objects (functions, models) of other members: this runs their code
            --follow        rebind to the newest version before each cell, from any publisher. To stop,
                            assign to the variable, delete it, or attach it without --follow
        """
        parser = Parser("shm_attach", "NAME")
        parser.add_argument("--as", dest="variable")
        parser.add_argument("--mode", default="r")
        parser.add_argument("--version", type=int)
        parser.add_argument("--wait", type=arguments.positive, metavar="SECONDS")
        parser.flag("--trust")
        parser.flag("--follow")
        args = parser.parse(line)
        if not args.names:
            parser.error("which name? %shm_list shows what is shared")
        store = default_store()
        mode = check_mode(args.mode)
        if args.follow and args.version is not None:
            parser.error("--follow means the newest version: leave --version out, or --follow")
        version = None if args.version is None else check_version(args.version)
        there = store.names()
        for word in args.names:
            part = expressions.place(parser.line, word) if word not in there else ""
            if part and (whole := expressions.root(part)) in there:
                raise UsageError(
                    f"%shm_attach takes names: attach {whole}, which copies nothing, and use {part}"
                )
        names, _, matched = expand(args.names, there, store)
        here = caller()
        if args.variable and (place := expressions.place(parser.line, args.variable)):
            raise UsageError(
                f"--as takes a variable's name: write {place} = %shm_attach {' '.join(args.names)}"
                f"{group_option()}"
            )
        several = len(args.names) > 1 or any(map(is_glob, args.names))
        targets = targets_of(names, args.variable, here, several=several)
        if not targets.assigned:
            self._protect(names, targets.bound, set(matched))
        if args.wait is not None:
            watching.wait(store, names, args.wait)
        return bind_names(
            store, names, targets, mode, version, trust=args.trust, follow=args.follow
        )

    def _protect(self, names: list[str], targets: list[str], globbed: set[str]) -> None:
        """Raise an error if a glob would overwrite a variable that jshm did not bind."""
        for name, target in zip(names, targets, strict=True):
            value = self._variables.get(target)
            if name in globbed and value is not None and not is_from_jshm(target, value):
                raise SegmentExistsError(
                    f"{name} would overwrite your variable {target}: name it explicitly "
                    f"(%shm_attach {name}{group_option()}), give it another name (--as), or "
                    f"`del {target}` first; nothing was attached"
                )

    # -- once --------------------------------------------------------------------------------------

    @cell_magic
    @one_line
    def shm_once(self, line: str, cell: str) -> None:
        """Run this cell once on the machine; in other notebooks and after a restart, attach its result.

        ::

            %%shm_once X y
            X, y = load_for_forty_seconds()

        If any notebook has published X and y from this cell (comments and layout do not count), they
        are attached in microseconds. Otherwise the cell runs, X and y are published, and become the
        shared, read-only copies. If two notebooks run the cell at the same time, it runs once.

        Only the text of the cell counts: if data that it reads have changed, add --rerun. Only X and y
        are shared. If the cell does not run, its imports, functions, classes and constants are bound if
        that runs no other code; its other variables are listed as missing.

        Options::

            --rerun         run the cell in any case, and publish the next version
            --as PREFIX/    publish under other names than the variables'
            --mode c        bind writable copy-on-write views instead of read-only ones
            --replace       also if another notebook has published something else under these names
            --keep          keep the result when the Jupyter server stops
        """
        parser = Parser("shm_once", "VARIABLE")
        parser.prog = parser.prog.replace("%", "%%")
        parser.add_argument("--as", dest="name")
        parser.add_argument("--mode", default="r")
        for option in ("--replace", "--keep", "--rerun"):
            parser.flag(option)
        args = parser.parse(line)
        if not args.names:
            parser.error("which variables does the cell make? For example: %%shm_once X y")
        arguments.check_words(parser, args.names, (), ())
        words = list(dict.fromkeys(check_variable(word) for word in args.names))
        names = arguments.destinations(words, args.name)
        once.run(
            self.shell,
            dict(zip(words, names, strict=True)),
            cell,
            mode=check_mode(args.mode),
            replace=args.replace,
            keep=args.keep,
            rerun=args.rerun,
        )


def publishable(here: Caller) -> list[str]:
    """Return the variables that a glob can mean: arrays and tables, except ``_…``."""
    hidden = here.hidden or {}
    return [
        name
        for name, value in variables.user_variables(here.sees())
        if name not in hidden and name[0] != "_" and static.lookup(type(value), "shape") is not None
    ]


def bind_names(
    store: Store,
    names: list[str],
    targets: Targets,
    mode: Mode,
    version: int | None = None,
    *,
    trust: bool,
    follow: bool,
) -> Any:
    """Attach names, bind them to their targets and say so; return the magic's value."""
    if follow and mode == "c":
        raise UsageError("--follow would discard your changes: leave --mode c out, or --follow")
    if follow and not targets.bound:
        raise UsageError(
            f"--follow rebinds variables of the notebook, one for each name: %shm_attach "
            f"{names[0]} --follow{group_option()}"
        )
    versions = None if version is None else [version] * len(names)
    done = store.attach(names, mode, versions, trust=trust)
    if not targets.bound:
        say(*targets.lines(done, mode))
    namespace = variables.user_namespace()
    for attached, variable in zip(done, targets.bound or (), strict=bool(targets.bound)):
        stopped = following.stop([variable])
        line = variables.bind_attached(namespace, variable, attached, mode)
        if follow:
            following.follow(variable, attached, store, mode, trust=trust)
        more = ["followed"] if follow else stopped
        say(" · ".join([line, *more, *targets.note]))
    return targets.value(done)


def _published_line(published: Published) -> str:
    info = published.info
    how = {
        "copied": "",
        "sealed": " · sealed in place, nothing copied",
        "alias": " · already shared, nothing copied",
    }[published.how]
    live = " · LIVE" if info.writable else ""
    parts = f" · {object_text(info.details)}" if info.details else ""
    return (
        f"{info.name} v{info.version} · {info.summary} · {size_text(info.nbytes)}{live}{how}"
        f"{parts.rstrip(' ·')} → %shm_attach {info.name}{group_option()}"
    )
