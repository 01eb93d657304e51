"""The words of a command line, which may be anything, and how a slip among them is told."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from ..text import encodable, printable


class CommandParser(argparse.ArgumentParser):
    """What parses the words of a command; errors quote them as they may be printed."""

    def error(self, message: str) -> NoReturn:
        super().error(encodable(printable(message), sys.stderr))
