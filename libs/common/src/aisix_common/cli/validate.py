"""`aisix validate --resources FILE`: would a gateway take this resources file? No configuration, no listeners.

Variables come from this process's own environment. Imported only when it is asked for.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final

from aisix_common.files.loader import read_file
from aisix_common.files.report import FileRefused
from aisix_common.streams import open_closed_streams

SUMMARY: Final = "Check a resources file and say everything that is wrong with it."


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0 when the file is sound, 1 when it is not, 2 for a wrong command line."""
    open_closed_streams()
    parser = argparse.ArgumentParser(prog="aisix validate", description=SUMMARY, allow_abbrev=False)
    parser.add_argument("--resources", metavar="FILE", required=True, help="the resources file (YAML)")
    path: str = parser.parse_args(arguments).resources
    try:
        file = read_file(path, os.environ)
    except FileRefused as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"OK: {path} loaded {len(file.rows)} resource(s)\n")
    return 0
