"""Makes the base of an image ready: `python3 prepare.py`, as root, in the last stage before our own code is copied.

Takes away what a gateway never runs and an intruder would like (pip and its kin, the bits that make a program run as
its owner), compiles the standard library, which could not write bytecode on a read-only root and would be compiled
anew at every start, and makes the user and its folder. Runs in a bare Python: the standard library only.
"""

import compileall
import os
import py_compile
import re
import shutil
import stat
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Final

UID: Final = 10001
"""Of the user and its group; the chart's securityContext names the same."""

STATE: Final = Path("var/lib/aisix")
INSTALLERS: Final = re.compile(r"(pip|setuptools|wheel|_distutils_hack|pkg_resources)(-.*\.(dist|egg)-info)?|ensurepip")
SCRIPTS: Final = re.compile(r"(pip|wheel|easy_install|idle|2to3|pydoc)[\d.-]*")
NOT_COMPILED: Final = re.compile(r"/(tests?|idlelib|idle_test|lib2to3|tkinter|turtledemo|pydoc_data|config-[^/]+)/")
SKIPPED: Final = ("proc", "sys", "dev")


def without_installers(root: Path, folders: list[Path]) -> None:
    """Remove pip, setuptools, wheel and ensurepip from the library folders, and their scripts from bin folders."""
    for folder in folders:
        for path in sorted(folder.glob("*")):
            if INSTALLERS.fullmatch(path.name) or path.name == "distutils-precedence.pth":
                _remove(path)
    for place in ("usr/bin", "usr/local/bin"):
        for path in sorted((root / place).glob("*")):
            if SCRIPTS.fullmatch(path.name):
                _remove(path)


def without_owners_rights(root: Path) -> list[Path]:
    """Take the set-user-id and set-group-id bits from every file; returns which had one."""
    found = []
    for path in _files(root):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            path.chmod(stat.S_IMODE(mode) & ~(stat.S_ISUID | stat.S_ISGID))
            found.append(path)
    return found


def with_user(root: Path) -> None:
    """Name the user and its group, and make its folder, the only one that it may write besides /tmp."""
    for name, line in (
        ("passwd", f"aisix:x:{UID}:{UID}:AISIX:/nonexistent:/usr/sbin/nologin\n"),
        ("group", f"aisix:x:{UID}:\n"),
    ):
        path = root / "etc" / name
        before = path.read_text() if path.exists() else ""
        path.write_text(before + line)
    folder = root / STATE
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    os.chown(folder, UID, UID)


def compiled(library: Path) -> None:
    """Bytecode for a library, which is not checked against the source at run time: an image does not change."""
    compileall.compile_dir(
        library,
        quiet=2,
        workers=0,
        rx=NOT_COMPILED,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        if Path(folder) == root:
            folders[:] = [name for name in folders if name not in SKIPPED]
        yield from (Path(folder, name) for name in names)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def main() -> int:
    """Do all of it to the root this runs in."""
    root = Path("/")
    library = Path(sysconfig.get_path("stdlib"))
    folders = {library, *(Path(p) for p in sys.path if p.endswith(("-packages",)))}
    folders |= {Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("platlib"))}
    without_installers(root, sorted(folder for folder in folders if folder.is_dir()))
    without_owners_rights(root)
    compiled(library)
    with_user(root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
