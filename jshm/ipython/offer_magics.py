"""``%shm_push`` and ``%shm_accept``: offer names to another notebook, and accept what it is offered."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from IPython.core.error import UsageError
from IPython.core.magic import line_magic, magics_class

from .. import variables
from ..browse.globs import expand
from ..segment import file as segment
from ..segment.file import check_mode
from ..store import default_store, open_stores
from ..store.identity import of_kernel
from ..store.names import as_variable, is_glob, nearest
from ..system import processes
from ..text import listed, say
from . import arguments, offering
from .arguments import Parser
from .calling import Caller, caller, targets_of
from .magics import ShmMagics, group_option, one_line, warn_of_short_life
from .share_magics import bind_names, publishable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from ..store.base import SegmentInfo, Store
    from ..store.identity import Identity

# Elements that are compared at a time, so that they fit into the processor's cache.
_BLOCK = 1 << 15


@magics_class
class OfferMagics(ShmMagics):
    """Offer and accept."""

    @line_magic
    @one_line
    def shm_push(self, line: str) -> None:
        """Offer variables or names to another running notebook, which shows the offer before its next cell.

        ::

            %shm_push X --to analysis.ipynb     publish X, if necessary, and offer it
            %shm_push exp1/X --to analysis      a name that is shared; a part of the notebook's path
            %shm_push X y --to 1f0c             several; the first characters of a kernel's id

        Nothing happens in the other notebook until it runs %shm_accept X (or %shm_accept --auto before).
        An offer keeps no memory. It survives a restart of that kernel, and ends when it is answered,
        when the name is released, when the kernel is shut down, or after a day.

        A variable is published as the next version of its name, unless it is the newest version already:
        attached from it, or an array with the same content.

        Options::

            --to NOTEBOOK   its name, a part of its path, or its kernel's id
            --as NAME       another name; several variables, or a trailing slash: a prefix
            --replace       publish also if the name belongs to another notebook
            --group NAME    offer a name in the store of a Unix group
        """
        parser = Parser("shm_push", "VARIABLE")
        parser.add_argument("--to", metavar="NOTEBOOK")
        parser.add_argument("--as", dest="name")
        parser.flag("--replace")
        args = parser.parse(line)
        if not args.names:
            parser.error("which variable? For example: %shm_push X --to analysis.ipynb")
        if not args.to:
            parser.error(
                f"to which notebook? For example: %shm_push {args.names[0]} --to analysis.ipynb"
            )
        here = caller()
        here.refuse_value("shm_push", "the other notebook accepts what is offered")
        store = default_store()
        store.require("offers", "%shm_push")
        recipient = find_kernel(args.to, store)
        mine = [i.name for i in store.segments() if i.mine and i.state == "current"]
        known = {*publishable(here), *mine}
        written = [word for word in args.names if word not in mine]
        arguments.check_words(parser, written, known, here.sees())
        words = expand(args.names, known, store, "variable or name of this notebook").names
        names = arguments.destinations(words, args.name)
        values = self._to_publish(store, dict(zip(names, words, strict=True)), args.name, here)
        published = store.publish(values, replace=args.replace) if values else []
        values.clear()
        for info in store.offers.make(names, recipient.identity):
            new = " · published" if info.name in {done.info.name for done in published} else ""
            answer = f"%shm_accept {info.name}{group_option()}"
            say(f"{offering.described(info)}{new} → {recipient.label}: {answer}")
        if not recipient.loaded:
            say(f"{recipient.label} sees it as soon as it runs %load_ext jshm")
        for done in published[:1]:
            warn_of_short_life(done.info)

    def _to_publish(
        self, store: Store, words: dict[str, str], chosen: str | None, here: Caller
    ) -> dict[str, Any]:
        """Return name → value of the variables that differ from what is shared under the name."""
        found = {}
        seen = here.sees()
        for name, word in words.items():
            variable = as_variable(word)
            here.check_readable(variable)
            if variable in seen:
                value = seen[variable]
                if not _is_shared_as(store, name, value):
                    found[name] = value
            elif chosen is not None:
                arguments.lookup(seen, variable, publishable(here), here)  # raises
            else:
                store.info(name)  # raises an error that suggests the nearest name
        return found

    @line_magic
    @one_line
    def shm_accept(self, line: str) -> Any:
        """Accept what another notebook offers to this one: attach it and bind it to a variable.

        ::

            %shm_accept                         list the offers
            %shm_accept X                       attach it: read-only, nothing copied
            %shm_accept X --as data --mode c    as in %shm_attach
            %shm_accept --decline X
            %shm_accept --auto                  bind every offer before the next cell
            %shm_accept --auto train.ipynb      only the offers of this notebook
            %shm_accept --auto off              only show offers (the default)

        --auto never overwrites a variable that jshm did not bind: the offer is then only shown.
        Accepting an object (a function, a model) runs its publisher's code.

        Options::

            --as VARIABLE    the variable to bind
            --mode r|c|r+    as in %shm_attach
            --follow         as in %shm_attach
            --trust          also objects of other members of a group
            --group NAME     offers in the store of a Unix group
        """
        parser = Parser("shm_accept", "NAME")
        parser.add_argument("--as", dest="variable")
        parser.add_argument("--mode", default="r")
        parser.add_argument("--auto", nargs="?", const="", metavar="NOTEBOOK")
        for option in ("--decline", "--follow", "--trust"):
            parser.flag(option)
        args = parser.parse(line)
        if not args.names or args.decline:
            caller().refuse_value("shm_accept", "or name what to accept")
        if args.auto is not None:
            if args.names or args.decline:
                parser.error("--auto applies to future offers: it takes a notebook and no names")
            self._accept_at_once(args.auto)
            return None
        store = default_store()
        store.require("offers", "%shm_accept")
        offers = {offer.info.name: offer for offer in store.offers.received()}
        if args.names:
            known = {name: offer.info for name, offer in offers.items()}
            names = self._offered(args.names, known)
            if args.decline:
                store.offers.answer(names)
                say(f"declined: {', '.join(names)}")
                return None
            return self._accept(store, names, args)
        if args.decline:
            parser.error("which offer? %shm_accept lists them")
        elif not store.identity.connection_file:
            say("only kernels of notebooks get offers; use %shm_attach NAME here")
        else:
            lines = [offering.offer_line(offer, store) for offer in offers.values()]
            say(*(lines or ["there are no offers to this notebook"]))
        return None

    def _offered(self, words: list[str], known: dict[str, SegmentInfo]) -> list[str]:
        names = expand(words, known, default_store(), "offered name").names
        for name in names:
            if name not in known:
                close = nearest(name, known)
                attach = f"if it is shared: %shm_attach {name}{group_option()}"
                hint = f"did you mean {' or '.join(close)}?" if close else attach
                raise UsageError(f"{name} is not offered to this notebook; {hint}")
        return names

    def _accept(self, store: Store, names: list[str], args: argparse.Namespace) -> Any:
        several = len(args.names) > 1 or any(map(is_glob, args.names))
        targets = targets_of(names, args.variable, caller(), several=several)
        mode = check_mode(args.mode)
        value = bind_names(store, names, targets, mode, trust=args.trust, follow=args.follow)
        store.offers.answer(names)
        return value

    def _accept_at_once(self, notebook: str) -> None:
        if notebook == "off":
            offering.accepted.clear()
            say("offers are shown before the next cell, and not bound")
            return
        offering.accepted.add(notebook)
        who = notebook or "any notebook"
        say(f"offers of {who} are bound before the next cell, until %shm_accept --auto off")
        for store in open_stores():
            offering.look_again(store)
            say(*offering.look(self._variables, store))


def _is_shared_as(store: Store, name: str, value: Any) -> bool:
    """Return whether a value equals the newest version of a name."""
    found = store.current([name]).get(name)
    if found is None:
        return False
    identity = found.segment
    if found.kind != "array":
        return variables.segments_of_value(value)[:1] == (found.value_id,)
    if type(value) is not np.ndarray:
        return False
    mapping = segment.find_mapping(value)
    shared = store.attach([name])[0].value
    if shared.dtype != value.dtype or shared.shape != value.shape:
        return False
    # Data that was written past the read-only flag is at another address than the new attach.
    is_view = mapping is not None and mapping.segment == identity and mapping.mode != "c"
    if is_view and (_place(value) == _place(shared) or found.writable):
        return True
    return _same_bytes(value, shared)


def _place(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    return array.__array_interface__["data"][0], array.strides


def _same_bytes(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    """Return whether two arrays with the same dtype and shape have the same bytes."""
    # Two arrays in Fortran order are compared in the order of their memory.
    if one.flags.f_contiguous and other.flags.f_contiguous:
        one, other = one.T, other.T
    flat = [a.reshape(-1) if a.flags.c_contiguous else a.flat for a in (one, other)]
    return all(
        flat[0][start : start + _BLOCK].tobytes() == flat[1][start : start + _BLOCK].tobytes()
        for start in range(0, one.size, _BLOCK)
    )


# -- kernels ----------------------------------------------------------------------------------------

# Characters of a kernel's id that are enough to name the kernel.
_PART = 4
_LISTED = 10


class Kernel(NamedTuple):
    """A running kernel.

    Attributes
    ----------
    identity : Identity
    loaded : bool
        Whether it has loaded jshm and uses the same store.
    """

    identity: Identity
    loaded: bool

    @property
    def label(self) -> str:
        """Its name for people."""
        return self.identity.label


def other_kernels(store: Store) -> list[Kernel]:
    """Return the other running kernels, sorted by their names."""
    return sorted(
        (k for k in _running_kernels(store) if not k.identity.is_here), key=lambda k: k.label
    )


def _running_kernels(store: Store) -> list[Kernel]:
    people = (who for who in store.processes() if not who.root)  # without workers
    known = {who.connection_file: who for who in people if who.connection_file}
    found = [Kernel(who, loaded=True) for who in known.values()]
    for pid, connection_file in _kernel_processes():
        # A kernel with another store would never see the offer.
        if connection_file not in known and not store.unreachable(pid):
            with contextlib.suppress(OSError):  # it has ended
                who = known[connection_file] = of_kernel(
                    pid, connection_file, processes.environment(pid)
                )
                found.append(Kernel(who, loaded=False))
    return found


def find_kernel(word: str, store: Store) -> Kernel:
    """Return the one kernel that a user means by its notebook, its id, or a part of either.

    Raises
    ------
    UsageError
        No kernel or several kernels match, or it is this one.
    """
    running = _running_kernels(store)
    beside = [kernel for kernel in running if not kernel.identity.is_here]
    found = _matches(word, beside)
    if len(found) == 1:
        return found[0]
    if found:
        several = listed(
            [f"{k.label} ({k.identity.kernel_id or k.identity.connection_file})" for k in found],
            _LISTED,
        )
        raise UsageError(f"--to {word} may be {several}: give more of the path, or a kernel's id")
    if _matches(word, running):
        raise UsageError(f"--to {word} is this notebook, which has it already")
    if not beside:
        raise UsageError(f"--to {word}: no other kernel is running on this machine")
    labels = dict.fromkeys(kernel.label for kernel in beside)
    close = nearest(word, labels)
    hint = (
        f"did you mean {' or '.join(close)}?"
        if close
        else f"running: {listed(list(labels), _LISTED)}"
    )
    raise UsageError(f"no kernel of {word} is running on this machine; {hint}")


def _matches(word: str, kernels: Sequence[Kernel]) -> list[Kernel]:
    """Return the kernels that match a word best; several if they match equally well."""
    part = word.casefold()
    for fits in (
        lambda who: who.kernel_id == word,
        lambda who: f"/{who.notebook}".endswith(f"/{word}") or who.label == word,
        lambda who: len(word) >= _PART and who.kernel_id.startswith(word),
        lambda who: part in who.notebook.casefold(),
    ):
        if found := [kernel for kernel in kernels if fits(kernel.identity)]:
            return found
    return []


def _kernel_processes() -> Iterator[tuple[int, str]]:
    """Yield the pid and connection file of each of this user's processes that has one."""
    with contextlib.suppress(FileNotFoundError):  # without /proc, only leases show kernels
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError):  # it has ended, or belongs to another user
                if os.stat(f"/proc/{pid}").st_uid == os.geteuid():
                    path = processes.connection_file(int(pid))
                    if path:
                        yield int(pid), path
