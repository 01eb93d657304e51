"""Any object as bytes: functions, classes, modules; arrays by reference, buffers out-of-band.

This package knows nothing of names, of the registry, or of files. It has three parts, and imports go
from the first to the last:

- *Writing.* `pickler` asks one reducer for each object: `arrays`, `libraries`, `functions`, `foreign`
  (classes), `class_reducers`, `ctypes_`, `hints`, `instances`. `writer` is the state that they share.
  `refusals` explains a failure; `sharing` finds values that share state.
- *`frozen`*: the functions that pickles name.
- *Reading.* `classes` and `remake` (classes), `imports` (modules), `code` and `source` (functions). Both
  sides use `modules` (what travels by value), and `definitions` and `fingerprints` (whether two classes
  are the same).

`describe` and `static` tell what an object is, without running its code.
"""

from __future__ import annotations

from .modules import pickle_by_reference, pickle_by_value
from .pickler import Pickler, dumps, loads

__all__ = ["Pickler", "dumps", "loads", "pickle_by_reference", "pickle_by_value"]
