"""promtool, which reads rules as Prometheus does: one that is installed, or the one in Debian's package.

`path()` unpacks that package into the cache of the tools, without installing it. `Unavailable` says why there is none.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from .tools import Unavailable, cache_folder


def path() -> Path:
    """Where it is."""
    installed = shutil.which("promtool")
    if installed:
        return Path(installed)
    kept = cache_folder() / "promtool"
    if not kept.exists():
        _fetch(kept)
    return kept


def _fetch(kept: Path) -> None:
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            raise Unavailable(f"there is no promtool, and no {program} to get it with: install Prometheus")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        done = subprocess.run(
            ["apt-get", "download", "--quiet", "prometheus"], cwd=folder, capture_output=True, text=True, check=False
        )
        packages = list(Path(folder).glob("prometheus_*.deb"))
        if not packages:
            raise Unavailable(f"the package prometheus cannot be fetched: {done.stderr.strip()[-300:]}")
        subprocess.run(["dpkg", "-x", str(packages[0]), folder], check=True, capture_output=True)
        Path(folder, "usr/bin/promtool").replace(kept)
