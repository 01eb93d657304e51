"""One target's mutations: ``python -m tests.torture.fuzz TARGET SEED [NUMBER]`` makes one again."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from random import Random

from .runner import SHM, limit_memory, work


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.fuzz", description=__doc__)
    parser.add_argument("target")
    parser.add_argument("seed", type=int)
    parser.add_argument("number", type=int, nargs="?")
    parser.add_argument("--from", dest="start", type=int, default=0)
    parser.add_argument("--to", dest="stop", type=int, default=1000)
    parser.add_argument("--root", default="")
    args = parser.parse_args()
    root = args.root or tempfile.mkdtemp(prefix="jshm-fuzz-", dir=SHM)
    os.environ["JSHM_DIR"] = f"{root}/store"
    os.environ["JSHM_OVERFLOW_DIR"] = ""
    from .targets import TARGETS

    try:
        target = TARGETS[args.target].make(root)
        if args.number is None:
            limit_memory()
            for failure in work(target, args.target, args.seed, range(args.start, args.stop), root):
                print(json.dumps(failure), flush=True)
        else:
            try:
                target.attempt(Random(f"{args.target} {args.seed} {args.number}"))
            finally:
                print(target.tried, file=sys.stderr)
    finally:
        if not args.root:
            shutil.rmtree(root)


if __name__ == "__main__":
    main()
