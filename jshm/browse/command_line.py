"""The parser of the command line. Its errors quote words that may contain any character."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from ..text import encodable, printable


class CommandParser(argparse.ArgumentParser):
    """An argument parser whose errors are safe to print."""

    def error(self, message: str) -> NoReturn:
        super().error(encodable(printable(message), sys.stderr))
