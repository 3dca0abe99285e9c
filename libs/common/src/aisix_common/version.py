"""The one version of everything built from this repository; `tests/house` holds the four pyproject files to it."""

from typing import Final

VERSION: Final = "0.1.0"
