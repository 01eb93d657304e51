"""Any object as bytes: functions, classes, modules; arrays by reference, buffers out-of-band.

Knows nothing of names, of the registry, or of files.
"""

from __future__ import annotations

from .modules import pickle_by_reference, pickle_by_value
from .pickler import Pickler, dumps, loads

__all__ = ["Pickler", "dumps", "loads", "pickle_by_reference", "pickle_by_value"]
