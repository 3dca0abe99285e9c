"""`python -m tests.chaos --kills 200 --seed 1`: see `run`. Exit code 0 when all that must hold does, else 1."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from .run import chaos


def say(text: str) -> None:
    """Progress, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description="Kill parts of a managed gateway at random moments, under load."
    )
    parser.add_argument("--kills", type=int, default=20, help="how many in all; every part equally often (default 20)")
    parser.add_argument("--seed", type=int, default=1, help="decides which part is killed when (default 1)")
    parser.add_argument("--folder", type=Path, help="where everything is kept; default: a folder that is removed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as scratch:
        report = asyncio.run(chaos(options.folder or Path(scratch), options.kills, options.seed, say))
    say(str(report))
    say("all that must hold does" if not report.problems else "NOT all that must hold does")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
