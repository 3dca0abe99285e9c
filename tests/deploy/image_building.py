"""Builds the images and runs them as a cluster would, without a registry or an engine: buildah and runc from Debian.

    python -m tests.deploy.image_building        # builds the three and prints their sizes

The base is a Debian made by mmdebstrap with the pip of this Python laid in, as python:slim has one; dependencies come
from a wheel folder, so that the builds ask no index. Base and wheels are kept in the cache folder of tools.py: the
first run takes two minutes more. What is missing raises Unavailable with the reason and the cure.
"""

import ensurepip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .tools import Unavailable, cache_folder
from deploy.images.requirements import BUILD, EXTRAS, SERVICES, requirements

ROOT: Final = Path(__file__).resolve().parents[2]
BASE: Final = "localhost/base:tests"
DEBIAN: Final = "bookworm"
PYTHON: Final = (3, 11)
"""Of that Debian; the wheels are made by the Python that runs the tests, so it has to be the same."""
PROGRAMS: Final = ("buildah", "mmdebstrap", "runc")
CONTEXT: Final = (
    *(".dockerignore", "LICENSE", "constraints.txt", "deploy/Dockerfile", "deploy/images"),
    *("libs", "services"),
)


@dataclass(frozen=True, slots=True)
class Image:
    """An image that was built, and its files, which are mounted for as long as the workshop is open."""

    service: str
    root: Path
    config: Mapping[str, Any]
    """User, Env, Entrypoint, Cmd, Labels, ... as the image names them."""
    size: int
    """Bytes of all layers together, uncompressed."""
    own_size: int
    """Bytes of the layers on top of the base."""

    def python(self, *arguments: str) -> list[str]:
        """A command line for its Python."""
        return [self.config["Entrypoint"][0], *arguments]


class Workshop:
    """A place where images are built, with a storage of its own. Open it with `workshop()`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._buildah = ["buildah", "--root", str(folder / "root"), "--runroot", str(folder / "run")]
        self._buildah += ["--storage-driver", "overlay"]
        self._mounted = 0
        self._started = 0

    def open(self) -> None:
        """Bring in the base, and lay out the context."""
        pip = self._folder / "pip"
        bundled = sorted(Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl"))
        if not bundled:
            raise Unavailable("this Python has no pip bundled with it, for the base")
        with zipfile.ZipFile(bundled[-1]) as wheel:
            wheel.extractall(pip)
        container = self.buildah("from", "scratch")
        self.buildah("add", "-q", container, str(base()), "/")
        library = f"/usr/local/lib/python{PYTHON[0]}.{PYTHON[1]}/dist-packages"
        self.buildah("add", "-q", container, str(pip), library)
        self.buildah("commit", "-q", container, BASE)
        self.buildah("rm", container)
        self.context.mkdir()
        for name in CONTEXT:
            source, place = ROOT / name, self.context / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, place)
            else:
                shutil.copy(source, place)
        shutil.copytree(wheels(), self.context / "deploy" / "wheels")

    def close(self) -> None:
        """Unmount everything; buildah itself counts users, and leaves what a killed one has not given back."""
        mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for path in sorted((path for path in mounted if path.startswith(f"{self._folder}/")), reverse=True):
            subprocess.run(["umount", path], check=True)

    @property
    def context(self) -> Path:
        """The build context: what a checkout has that a build might want, and the wheels."""
        return self._folder / "context"

    def build(self, service: str, **arguments: str) -> Image:
        """Build deploy/Dockerfile for a service, with these build arguments besides, and mount it."""
        tag = f"localhost/aisix-{service}:{self._mounted}"
        given = {"BASE": BASE, "SERVICE": service, "WHEELS": "deploy/wheels", **arguments}
        options = [part for name, text in given.items() for part in ("--build-arg", f"{name}={text}")]
        dockerfile = str(self.context / "deploy" / "Dockerfile")
        command = ["bud", "--isolation", "chroot", "--pull-never", "--layers", "-q", *options]
        self.buildah(*command, "-t", tag, "-f", dockerfile, str(self.context))
        described = json.loads(self.buildah("inspect", "--type", "image", tag))
        layers = [int(layer["size"]) for layer in json.loads(described["Manifest"])["layers"]]
        return Image(service, self.mount(tag), described["OCIv1"]["config"], sum(layers), sum(layers[1:]))

    def sent(self, context: Path) -> list[str]:
        """What a build is sent of a context: the paths that its .dockerignore lets through."""
        dockerfile = self._folder / "Dockerfile.context"
        dockerfile.write_text("FROM scratch\nCOPY . /\n")
        tag = f"localhost/context:{self._mounted}"
        ignored = str(context / ".dockerignore")
        self.buildah("bud", "-q", "--ignorefile", ignored, "-t", tag, "-f", str(dockerfile), str(context))
        root = self.mount(tag)
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())

    def mount(self, tag: str) -> Path:
        """The files of an image."""
        container = self.buildah("from", "--pull-never", tag)
        self._mounted += 1
        return Path(self.buildah("mount", container))

    def start(
        self,
        image: Image,
        arguments: Sequence[str] | None = None,
        *,
        command: Sequence[str] | None = None,
        binds: Mapping[str, Path] | None = None,
        environ: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> "subprocess.Popen[bytes]":
        """Run the image under the restricted profile: its user, no capabilities, a read-only root.

        `arguments` follow the entry point, as `args` of a container do; `command` replaces both. What may be written is
        /tmp, and what `binds` (path inside to path outside) brings. The network is this machine's, as etcd is on
        loopback. SIGTERM to the process is passed on.
        """
        self._started += 1
        name = f"aisix-test-{os.getpid()}-{self._started}"
        bundle = self._folder / "bundles" / name
        bundle.mkdir(parents=True)
        if command is None:
            command = [*image.config["Entrypoint"], *(image.config["Cmd"] if arguments is None else arguments)]
        document = _bundle(image, command, binds or {}, environ or {})
        (bundle / "config.json").write_text(json.dumps(document))
        run = ["runc", "--root", str(self._folder / "runc"), "run", "--bundle", str(bundle), name]
        output = log.open("ab") if log is not None else subprocess.PIPE
        return subprocess.Popen(run, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)

    def output(self, image: Image, *arguments: str) -> str:
        """What the image prints when it is run with these arguments; asserts that it ended well."""
        return self._output(self.start(image, arguments))

    def output_of_python(self, image: Image, *arguments: str) -> str:
        """What the image's Python prints; asserts that it ended well."""
        return self._output(self.start(image, command=image.python(*arguments)))

    def buildah(self, *arguments: str) -> str:
        """One call of buildah; asserts that it went well, and returns what it printed."""
        done = subprocess.run([*self._buildah, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"buildah {' '.join(arguments)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout.strip()

    def _output(self, process: "subprocess.Popen[bytes]") -> str:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output.decode()
        return output.decode()


def _bundle(
    image: Image, command: Sequence[str], binds: Mapping[str, Path], environ: Mapping[str, str]
) -> dict[str, Any]:
    """What runc is told, as a kubelet tells it under the restricted profile."""
    user, group = (int(part) for part in image.config["User"].split(":"))
    quiet = ["nosuid", "noexec", "nodev"]
    mounts: list[dict[str, Any]] = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": [*quiet, "mode=1777", "size=16m"]},
    ]
    for inside, outside in binds.items():
        access = "ro" if inside.startswith("/etc/") else "rw"
        options = ["rbind", access, *quiet]
        mounts.append({"destination": inside, "type": "bind", "source": str(outside), "options": options})
    environment = [*image.config["Env"], *(f"{name}={text}" for name, text in environ.items())]
    none: list[str] = []
    sets = ("bounding", "effective", "inheritable", "permitted", "ambient")
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": user, "gid": group},
            "args": list(command),
            "env": environment,
            "cwd": image.config.get("WorkingDir") or "/",
            "capabilities": dict.fromkeys(sets, none),
            "noNewPrivileges": True,
        },
        "root": {"path": str(image.root), "readonly": True},
        "hostname": image.service,
        "mounts": mounts,
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]},
    }


@contextmanager
def workshop() -> Iterator[Workshop]:
    """A workshop for as long as the block lasts. Raises Unavailable where there is none to be had."""
    check_programs()
    folder = Path(tempfile.mkdtemp(prefix="aisix-images-"))
    made = Workshop(folder)
    try:
        made.open()
        yield made
    finally:
        made.close()
        shutil.rmtree(folder)


def check_programs() -> None:
    """Raises Unavailable for what this machine lacks."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise Unavailable(
            f"images need {', '.join(missing)}: apt-get install --no-install-recommends {' '.join(PROGRAMS)}"
        )
    if os.geteuid() != 0:
        raise Unavailable("images are built and run as root here (mounts, chroot), and this is another user")
    if sys.version_info[:2] != PYTHON:
        raise Unavailable(f"the wheels are for Debian's Python {PYTHON}, and this is {sys.version_info[:2]}")


def base() -> Path:
    """The tar of a small Debian with Python."""
    kept = cache_folder() / f"base-{DEBIAN}-3.tar"
    if not kept.exists():
        command = ["mmdebstrap", "--quiet", "--variant=essential", "--include=python3,libstdc++6,ca-certificates"]
        command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "info", "locale", "man")]
        command.append(DEBIAN)
        with _fresh(kept) as fresh:
            _run([*command, str(fresh)], "a Debian for the base")
    return kept


def wheels() -> Path:
    """A folder with the wheels of everything that any of the images installs, and of what builds ours."""
    wanted = {text for service in SERVICES for text in requirements(service, EXTRAS[service])} | set(BUILD)
    constraints = ROOT / "constraints.txt"
    name = hashlib.sha256("\n".join([*sorted(wanted), constraints.read_text()]).encode()).hexdigest()[:16]
    kept = cache_folder() / f"wheels-{name}"
    if not kept.exists():
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
        with _fresh(kept) as fresh:
            fresh.mkdir()
            _run([*command, "-c", str(constraints), "-w", str(fresh), *sorted(wanted)], "wheels")
    return kept


@contextmanager
def _fresh(kept: Path) -> Iterator[Path]:
    """Where to make what is then moved to `kept` at once: an interrupted run leaves nothing half."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        fresh = Path(folder) / kept.name
        yield fresh
        if not kept.exists():
            fresh.rename(kept)


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unavailable(f"{what} could not be had: {done.stderr.strip()[-800:]}")


def table(images: Sequence[Image]) -> str:
    """Their sizes, for people."""
    return "\n".join(
        f"{image.service:12} {image.own_size / 1e6:5.0f} MB over the base, {image.size / 1e6:.0f} MB with it"
        for image in images
    )


def main() -> int:
    """Build all three, and the proxy without its extras; print their sizes."""
    try:
        with workshop() as shop:
            print(table([shop.build(service) for service in SERVICES]))
            print("without extras:")
            print(table([shop.build("proxy", EXTRAS=""), shop.build("cloud-agent", EXTRAS="")]))
    except Unavailable as why:
        print(f"images: {why}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
