"""``%shm_list``, ``%shm_info``, ``%shm_browser``, ``%shm_detach`` and ``%shm_release``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from IPython.core.error import UsageError
from IPython.core.magic import line_magic, magics_class
from IPython.display import display

from .. import variables
from ..api import release_found
from ..browse.globs import expand
from ..browse.tables import (
    as_html,
    as_text,
    details,
    details_html,
    details_text,
    memory_rows,
    resident_text,
)
from ..segment import pages
from ..segment.views import is_shared
from ..store import default_store, store_of
from ..store.names import as_variable, check_version
from ..text import listed, say, size_text
from ..variables import is_from_jshm, is_remembered
from . import following
from .arguments import Parser
from .calling import caller
from .magics import ShmMagics, group_option, one_line, show

if TYPE_CHECKING:
    from ..store.base import Released, SegmentInfo


# At most this number of protected names is listed.
_SHOWN = 5
_HINT = "Share a variable: %shm_publish X"


@magics_class
class ManageMagics(ShmMagics):
    """Look at what is shared, detach and release it."""

    # -- look --------------------------------------------------------------------------------------

    @line_magic
    @one_line
    def shm_list(self, line: str) -> None:
        """Show what is shared on this machine, who holds it, and what it costs.

        ::

            %shm_list
            %shm_list 'exp1/*'      only names that match
            %shm_list --group lab   what the members of a Unix group share
        """
        args = Parser("shm_list", "NAME").parse(line)
        caller().refuse_value("shm_list", "or write jshm.segments()")
        store = default_store()
        infos = store.segments()
        if args.names:
            known = {info.name for info in infos}
            wanted = expand(args.names, known, store).names
            for name in wanted:
                if name not in known:
                    store.info(name)  # raises, and says which is near
            infos = [info for info in infos if info.name in wanted]
        spares = store.space().spares
        followed = following.followers(store)
        # To look costs microseconds.
        resident = resident_text(pages.of_process())
        show(
            "\n".join(filter(None, [as_text(infos, spares, followed, _HINT), resident])),
            as_html(infos, spares, followed, _HINT) + (f"<p>{resident}</p>" if resident else ""),
        )

    @line_magic
    @one_line
    def shm_info(self, line: str) -> None:
        """Show all details of a name, and what keeps its memory mapped in this notebook.

        ::

            %shm_info X
            %shm_info X --version 2
        """
        parser = Parser("shm_info", "NAME")
        parser.add_argument("--version", type=int)
        args = parser.parse(line)
        if not args.names:
            parser.error("which name? %shm_list shows what is shared")
        version = None if args.version is None else check_version(args.version)
        store = default_store()
        caller().refuse_value("shm_info", f'or write jshm.info("{args.names[0]}")')
        for name in expand(args.names, store.names(), store).names:
            info = store.info(name, version)
            here = variables.find_arrays(
                caller().sees(), variables.in_segment({info.segment, info.value_id})
            )
            followers = following.followers(store).get(store.exact(name), [])
            mapped = store.mappings(info.segment)
            memory = memory_rows(pages.of_mappings(mapped) if mapped else None, pages.of_process())
            del mapped
            rows = details(info, store.location(name, version), here, followers, memory)
            show(details_text(rows), details_html(rows))

    @line_magic
    @one_line
    def shm_browser(self, line: str) -> None:
        """Show what is shared as a widget, with buttons to attach, look into and release it.

        ::

            %shm_browser
            %shm_browser exp1/      only rows with these words in name, notebook, note or type

        It works while this kernel is idle. The panel "Shared memory" in JupyterLab always works.
        """
        parser = Parser("shm_browser", "WORD")
        args = parser.parse(line)
        if args.group:
            parser.error(
                f"it shows only your own names; for a group's: %shm_list --group {args.group}"
            )
        caller().refuse_value("shm_browser", "or write jshm.SegmentBrowser()")
        from .. import SegmentBrowser  # anywidget takes a moment to import

        display(SegmentBrowser(filter=" ".join(args.names)))  # type: ignore[no-untyped-call]

    # -- let go ------------------------------------------------------------------------------------

    @line_magic
    @one_line
    def shm_detach(self, line: str) -> None:
        """Let go of shared memory in this notebook. Other notebooks are not affected.

        ::

            %shm_detach X           a variable, or a name
            %shm_detach 'exp1/*'

        Deletes the variables that are still that view, with their entries in Out and _, and lists what
        else keeps the memory mapped. A --mode c view with changes is deleted only if you name it.
        """
        parser = Parser("shm_detach", "NAME")
        args = parser.parse(line)
        if not args.names:
            parser.error("which variable or name? For example: %shm_detach X")
        store = default_store()
        caller().refuse_value("shm_detach", "and assign to the variable afterwards")
        self._require_no_local(args.names)
        bound = [
            name
            for name, value in variables.user_variables(self._variables)
            if is_from_jshm(name, value)
        ]
        there = variables.attached_names(self._variables, store)
        words = expand(args.names, {*bound, *there}, store, "variable or attached name").names
        targets = {word: variables.segments_named(self._variables, word, store) for word in words}
        seen: set[str] = set()
        for word, segments in targets.items():
            if segments <= seen:
                continue  # the same memory as an earlier word
            seen |= segments
            alike = [other for other, theirs in targets.items() if theirs <= segments]
            where = store_of(next(iter(segments)))  # a variable may be from a group's store
            done = variables.detach_segments(self._variables, segments, where, alike)
            gone = f" · deleted {', '.join(done.variables)}" if done.variables else ""
            if done.culprits:
                still = ", ".join(done.culprits)
                say(f"{word}{gone} · {size_text(done.nbytes)} still mapped here by: {still}")
            else:
                size = f" · {size_text(done.nbytes)} unmapped here" if done.nbytes else ""
                say(f"{word} detached{gone}{size}")

    def _require_no_local(self, words: list[str]) -> None:
        """Raise a UsageError if a word is a function's variable, which a magic cannot delete."""
        here = caller()
        for variable in map(as_variable, words):
            value = (here.local or {}).get(variable)
            if is_remembered(value) or is_shared(value):
                where = here.function or "a comprehension"
                raise UsageError(
                    f"{variable} is a variable of {where}, and a magic cannot delete it: write "
                    f"del {variable}; nothing was detached"
                )

    @line_magic
    @one_line
    def shm_release(self, line: str) -> None:
        """Retire names for everyone. Notebooks that have them attached keep what they have.

        ::

            %shm_release X
            %shm_release 'exp1/*'       this notebook's names that match
            %shm_release --unused       list this notebook's names that nobody holds; then add --yes,
                                        which leaves only copies and names of the last ten minutes

        Options::

            --force     also names of other notebooks
            --all       globs and --unused include every notebook's names; a name of another notebook
                        that you write out still needs --force
            --yes       do not ask
        """
        parser = Parser("shm_release", "NAME")
        for option in ("--force", "--all", "--unused", "--yes"):
            parser.flag(option)
        args = parser.parse(line)
        if bool(args.names) == args.unused:
            parser.error("name what to release, or say --unused")
        caller().refuse_value("shm_release", "or write jshm.release(…)")
        if args.unused:
            reach = [info for info in _current() if info.releasable and (info.mine or args.all)]
            self._release_unused(reach, confirmed=args.yes, everybody=args.all)
            return
        known = _current()
        foreign = {info.name for info in known if not info.mine}
        globbed = {info.name for info in known if info.releasable and (info.mine or args.all)}
        what = "shared name" if args.all else "name of this notebook (--all includes others)"
        names, written, found = expand(args.names, globbed, default_store(), what)
        # The names that the user wrote come first, so that the store's error is about them.
        force = args.force or (args.all and foreign.isdisjoint(written))
        done = release_found(written, found, force=force)
        for released in sorted(done, key=lambda released: names.index(released.name)):
            say(_released_line(released))

    def _release_unused(
        self, reach: list[SegmentInfo], *, confirmed: bool, everybody: bool
    ) -> None:
        idle = [info for info in reach if not info.in_use and not info.keep]
        if not idle:
            say("nothing to release: every name is in use or kept")
            return
        protected = [info for info in idle if info.protected]
        if confirmed:
            names = [info.name for info in idle if not info.protected]
            for released in release_found((), names, force=everybody):
                say(_released_line(released))
            if protected:
                say(_protected_line(protected))
            return
        if len(protected) < len(idle):
            command = "%shm_release --unused --yes" + (" --all" if everybody else "")
            say(f"not in use; to release them: {command}{group_option()}")
        show(as_text(idle), as_html(idle))
        if protected:
            say(_protected_line(protected))


def _current() -> list[SegmentInfo]:
    return [info for info in default_store().segments() if info.state == "current"]


def _protected_line(infos: list[SegmentInfo]) -> str:
    shown = infos[:_SHOWN]
    reasons = listed([f"{info.name} ({info.protected})" for info in infos], _SHOWN)
    names = " ".join(info.name for info in shown)
    force = "" if all(info.mine for info in shown) else " --force"
    command = f"%shm_release {names}{force}{group_option()}"
    return f"--yes leaves {reasons}; to release by name: {command}"


def _released_line(released: Released) -> str:
    if released.freed == released.nbytes:
        return f"{released.name} released · {size_text(released.freed)} freed"
    rest = size_text(released.nbytes - released.freed)
    if released.needed_by:
        return f"{released.name} released · {rest} not freed: {', '.join(released.needed_by)} refers to it"
    return (
        f"{released.name} released · {rest} still held by {', '.join(released.held_by)}; freed as soon "
        "as it is detached there"
    )
