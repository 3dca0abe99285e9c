"""What an image installs besides our own code: `python3 deploy/images/requirements.py SERVICE [--extras a,b]`.

Prints the requirements of one service as its pyproject.toml and the library's name them, one a line, without versions:
those stand in constraints.txt. The Dockerfile makes a layer of it that outlives changes of our own code; the wheel
folder for a build without an index is made with it too. Runs in a bare Python: the standard library only.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
SERVICES: Final = ("proxy", "admin", "cloud-agent")
EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    "proxy": ("aws", "azure", "gcp"),
    "admin": (),
    "cloud-agent": ("kubernetes",),
}
"""What an image carries where nobody says otherwise: all that settings can name, as nothing can be added later."""

BUILD: Final = ("editables", "hatchling")
"""What makes wheels of our own code; it stays in the first stage."""


def requirements(service: str, extras: Iterable[str], root: Path = ROOT) -> list[str]:
    """What `service` with `extras` requires besides ours. Raises KeyError for an extra that it does not have."""
    project = _project(root / "services" / service)
    found = list(project["dependencies"])
    for extra in extras:
        found += project["optional-dependencies"][extra]
    found += _project(root / "libs" / "common")["dependencies"]
    return sorted({text for text in found if not re.match(r"aisix-", text)})


def chosen(service: str, text: str) -> tuple[str, ...]:
    """The extras that a build argument asks for: `auto`, or names between commas, or nothing."""
    if text == "auto":
        return EXTRAS[service]
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def _project(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return {"dependencies": [], "optional-dependencies": {}, **document}


def main(arguments: list[str] | None = None) -> int:
    """Print them. Returns 1, with the reason on stderr, for an extra that the service does not have."""
    parser = argparse.ArgumentParser(description="The requirements of an image, one a line.")
    parser.add_argument("service", choices=SERVICES)
    parser.add_argument("--extras", default="auto", help="names between commas; default: the image's usual ones")
    parser.add_argument("--build", action="store_true", help="and what makes wheels of our own code")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder with libs/ and services/")
    options = parser.parse_args(arguments)
    try:
        lines = requirements(options.service, chosen(options.service, options.extras), options.root)
    except KeyError as error:
        sys.stderr.write(f"Error: aisix-{options.service} has no extra {error}\n")
        return 1
    sys.stdout.write("\n".join([*lines, *(BUILD if options.build else ())]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
