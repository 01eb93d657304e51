"""All that is damaged, and what part of the mutations each gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .registries import Files, Leases, Rows, Words
from .segments import Headers, Objects, Records, References

if TYPE_CHECKING:
    from .common import Target


@dataclass(frozen=True, slots=True)
class Aim:
    """A target, its name in the table, and its share of all mutations."""

    make: type[Target]
    what: str
    share: float


TARGETS = {
    "headers": Aim(Headers, ".npy headers", 0.16),
    "objects": Aim(Objects, "headers, pickles and buffers of objects", 0.08),
    "records": Aim(Records, "records, and registries rebuilt from them", 0.06),
    "references": Aim(References, "references to arrays", 0.54),
    "rows": Aim(Rows, "rows of the registry", 0.004),
    "files": Aim(Files, "bytes of the registry and its log", 0.004),
    "leases": Aim(Leases, "leases, and logs of what is held", 0.072),
    "words": Aim(Words, "names and patterns", 0.08),
}
