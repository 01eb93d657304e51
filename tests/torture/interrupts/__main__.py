"""Interrupt one operation: ``python -m tests.torture.interrupts OPERATION FIRST STEP`` prints JSON."""

from __future__ import annotations

import json
import sys

from .runner import interrupt

if __name__ == "__main__":
    print(json.dumps(interrupt(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
