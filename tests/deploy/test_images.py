"""The images: what goes in, what comes out, and that each runs as the chart runs it. See image_building.py."""

import asyncio
import importlib.util
import json
import os
import re
import signal
import subprocess
import zipfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import yaml

from aisix_common.version import VERSION

from .image_building import ROOT, Image, Workshop, table, workshop
from .tools import BIN, Tool, Unavailable, Wheel, ensure
from deploy.images import prepare, requirements
from tests.support.etcd import EtcdServer, free_port
from tests.support.gateway import until

DOCKERFILE: Final = (ROOT / "deploy" / "Dockerfile").read_text()
WORKFLOW: Final = ROOT / ".github" / "workflows" / "images.yaml"
ZIZMOR: Final = Tool(
    "zizmor.whl",
    Wheel("zizmor==1.32.0", "84a6acb975accc13408786a2bd274b572537ca19c933ebbc13e78f3988562071"),
    "",
    "84a6acb975accc13408786a2bd274b572537ca19c933ebbc13e78f3988562071",
)
MODULES: Final = {"proxy": "aisix_proxy", "admin": "aisix_admin", "cloud-agent": "aisix_cloud_agent"}
PORTS: Final = {"proxy": {"3000/tcp", "9090/tcp"}, "admin": {"3001/tcp", "9091/tcp"}, "cloud-agent": {"9092/tcp"}}
FOREIGN: Final = {
    "proxy": {"kubernetes", "marshmallow", "apispec", "webargs"},
    "admin": {"kubernetes", "botocore", "aiobotocore", "azure-core", "google-auth", "toktok-rs", "httptools"},
    "cloud-agent": {"marshmallow", "apispec", "botocore", "aiobotocore", "azure-core", "google-auth", "toktok-rs"},
}
"""What an image of a service has no use for, and so must not carry."""
LARGEST: Final = {"proxy": 150, "admin": 110, "cloud-agent": 185}
"""Megabytes over the base, uncompressed. They are not a wish: what grows beyond has to be looked at."""

built = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("images")]


# --- what an image is asked to install ---


def test_an_image_installs_what_its_service_and_the_library_name() -> None:
    proxy = requirements.requirements("proxy", ())
    assert "toktok-rs" in proxy and "grpcio" in proxy
    assert not [text for text in proxy if text.startswith(("aisix", "aiobotocore"))]
    assert "aiobotocore>=3.10,<4" in requirements.requirements("proxy", ("aws",))


@pytest.mark.parametrize(
    ("text", "extras"), [("auto", ("aws", "azure", "gcp")), ("", ()), ("aws", ("aws",)), (" aws , gcp", ("aws", "gcp"))]
)
def test_extras_are_chosen_by_a_build_argument(text: str, extras: tuple[str, ...]) -> None:
    assert requirements.chosen("proxy", text) == extras


def test_an_extra_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert requirements.main(["admin", "--extras", "aws"]) == 1
    assert "aisix-admin has no extra 'aws'" in capsys.readouterr().err


def test_what_builds_our_wheels_is_printed_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert requirements.main(["admin", "--build"]) == 0
    assert {"hatchling", "marshmallow"} <= set(capsys.readouterr().out.splitlines())


# --- what is done to the base ---


def test_installers_and_their_scripts_go_and_nothing_else(tmp_path: Path) -> None:
    library, programs = tmp_path / "site-packages", tmp_path / "usr" / "bin"
    gone = ["pip", "pip-25.0.dist-info", "setuptools", "setuptools-80.1.dist-info", "pkg_resources", "ensurepip"]
    kept = ["pipeline", "wheelhouse", "yaml", "pip_audit"]
    for name in [*gone, *kept]:
        (library / name).mkdir(parents=True)
    programs.mkdir(parents=True)
    for name in ("pip", "pip3", "pip3.12", "python3", "pipes"):
        (programs / name).touch()
    prepare.without_installers(tmp_path, [library])
    assert sorted(path.name for path in library.iterdir()) == sorted(kept)
    assert sorted(path.name for path in programs.iterdir()) == ["pipes", "python3"]


def test_no_program_runs_as_its_owner(tmp_path: Path) -> None:
    for name, mode in (("su", 0o4755), ("wall", 0o2755), ("ls", 0o755)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    (tmp_path / "link").symlink_to("su")
    assert sorted(path.name for path in prepare.without_owners_rights(tmp_path)) == ["su", "wall"]
    assert {path.stat().st_mode & 0o7777 for path in tmp_path.iterdir()} == {0o755}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_user_has_a_name_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
    prepare.with_user(tmp_path)
    assert (tmp_path / "etc" / "passwd").read_text().splitlines()[1].startswith("aisix:x:10001:10001:")
    folder = (tmp_path / "var" / "lib" / "aisix").stat()
    assert (folder.st_uid, folder.st_gid, folder.st_mode & 0o777) == (10001, 10001, 0o700)


def test_bytecode_is_used_without_a_look_at_the_source(tmp_path: Path) -> None:
    (tmp_path / "lib" / "test").mkdir(parents=True)
    (tmp_path / "lib" / "a.py").write_text("x = 1\n")
    (tmp_path / "lib" / "test" / "b.py").write_text("x = 1\n")
    prepare.compiled(tmp_path / "lib")
    (made,) = tmp_path.rglob("*.pyc")
    assert made.name.startswith("a.") and int.from_bytes(made.read_bytes()[4:8], "little") == 0b01


# --- the Dockerfile as it is written ---


def test_the_version_of_the_images_is_that_of_the_code() -> None:
    assert re.findall(r"^ARG VERSION=(.*)$", DOCKERFILE, re.M) == [VERSION]


def test_each_service_has_its_stage_and_starts_its_module() -> None:
    stages = re.findall(r'^FROM runtime AS (\S+)\n(?:.*\n)*?ENTRYPOINT \["python", "-m", "(\w+)"\]', DOCKERFILE, re.M)
    assert dict(stages) == MODULES and set(MODULES) == set(requirements.SERVICES)
    assert all(importlib.util.find_spec(f"{module}.__main__") for module in MODULES.values())


def test_the_user_is_a_number_and_the_base_is_no_moving_latest() -> None:
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.M) == [f"{prepare.UID}:{prepare.UID}"]
    (base,) = re.findall(r"^ARG BASE=(.+)$", DOCKERFILE, re.M)
    assert re.fullmatch(r"\S+:3\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", base)


# --- the workflow that publishes them ---


def steps_of(job: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The steps of a job that use an action of that name."""
    return [step for step in job["steps"] if step.get("uses", "").split("@")[0] == name]


def test_the_workflow_asks_for_no_more_rights_than_it_needs() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text())
    assert workflow["permissions"] == {}
    assert workflow["jobs"]["try"]["permissions"] == {"contents": "read"}
    publish = workflow["jobs"]["publish"]
    assert publish["if"] == "github.event_name == 'push'" and publish["needs"] == "try"
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 60 and job["strategy"]["matrix"]["service"] == list(requirements.SERVICES)
        assert all(step["with"]["persist-credentials"] is False for step in steps_of(job, "actions/checkout"))


def test_the_workflow_publishes_what_is_signed_and_described() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text())
    publish = workflow["jobs"]["publish"]
    (build,) = steps_of(publish, "docker/build-push-action")
    given = build["with"]
    assert given["platforms"] == "linux/amd64,linux/arm64" and given["sbom"] is True
    assert given["provenance"] == "mode=max" and "push-by-digest=true" in given["outputs"]
    arguments = {line.split("=")[0] for line in given["build-args"].splitlines()}
    assert arguments <= set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.M))
    (base,) = re.findall(r"^ARG BASE=(.+)$", DOCKERFILE, re.M)
    assert base in workflow["env"]["BASE"]
    runs = "\n".join(step.get("run", "") for step in publish["steps"])
    assert runs.index("cosign sign") < runs.index("imagetools create"), "nothing has a tag before it is signed"
    assert "NOT EXECUTED" in WORKFLOW.read_text()


@pytest.mark.slow
def test_the_workflow_passes_a_linter_of_its_security(tmp_path: Path) -> None:
    try:
        ensure([ZIZMOR])
    except Unavailable as why:
        pytest.skip(f"NOT TESTED: {why}")
    with zipfile.ZipFile(BIN / ZIZMOR.name) as wheel:
        (member,) = (name for name in wheel.namelist() if name.endswith("/scripts/zizmor"))
        program = Path(wheel.extract(member, tmp_path))
    program.chmod(0o755)
    command = [str(program), "--offline", "--no-progress", "--config", str(ROOT / ".github" / "zizmor.yml")]
    done = subprocess.run([*command, str(WORKFLOW)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    # Without the exception for versions it would not pass: the linter does look.
    bare = subprocess.run([*command[:3], "--no-config", str(WORKFLOW)], capture_output=True, text=True, check=False)
    assert bare.returncode != 0 and "unpinned" in bare.stdout


# --- the images ---


@pytest.fixture(scope="session")
def shop() -> Iterator[Workshop]:
    try:
        with workshop() as opened:
            yield opened
    except Unavailable as why:
        pytest.skip(f"NOT TESTED: {why}")


@pytest.fixture(scope="session")
def images(shop: Workshop) -> Mapping[str, Image]:
    return {service: shop.build(service, REVISION="abc123") for service in requirements.SERVICES}


@pytest.fixture(params=requirements.SERVICES)
def image(request: pytest.FixtureRequest, images: Mapping[str, Image]) -> Image:
    return images[request.param]


class TestBuilt:
    pytestmark = built

    def test_nothing_but_what_an_image_is_made_of_is_sent_to_a_build(self, shop: Workshop) -> None:
        sent = shop.sent(ROOT)
        allowed = (
            r"LICENSE|constraints\.txt|deploy/images/\w+\.py|deploy/wheels/\S+\.whl"
            r"|(libs|services)/[\w-]+/(pyproject\.toml|src/.*)"
        )
        assert [path for path in sent if not re.fullmatch(allowed, path)] == []
        assert [path for path in sent if "__pycache__" in path or path.endswith((".pyc", ".key", ".pem"))] == []
        for module in MODULES.values():
            assert any(path.endswith(f"/src/{module}/__main__.py") for path in sent)

    def test_it_tells_its_version_under_the_restricted_profile(self, shop: Workshop, image: Image) -> None:
        assert shop.output(image, "--version") == f"aisix-{image.service} {VERSION}\n"

    def test_what_it_says_of_itself(self, image: Image) -> None:
        config = image.config
        assert config["User"] == "10001:10001" and config["StopSignal"] == "SIGTERM"
        assert config["Entrypoint"] == ["python", "-m", MODULES[image.service]]
        assert config["Cmd"] == ["--config", "/etc/aisix/config.yaml"]
        assert set(config["ExposedPorts"]) == PORTS[image.service]
        assert not config.get("Volumes") and config["WorkingDir"] == "/"
        labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
        assert labels["title"] == f"aisix-{image.service}" and labels["licenses"] == "Apache-2.0"
        assert labels["version"] == VERSION and labels["revision"] == "abc123" and labels["source"]

    def test_it_carries_what_its_service_needs_at_the_tested_versions(self, shop: Workshop, image: Image) -> None:
        script = (
            "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
        )
        found = {
            name.lower().replace("_", "-"): v
            for name, v in json.loads(shop.output_of_python(image, "-c", script)).items()
        }
        assert {n for n in found if n.startswith("aisix")} == {"aisix-common", f"aisix-{image.service}"}
        assert found["aisix-common"] == found[f"aisix-{image.service}"] == VERSION
        assert (
            found.keys() & (FOREIGN[image.service] | {"pip", "setuptools", "wheel", "hatchling", "editables"}) == set()
        )
        pins = (line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
        pinned = {name.lower().replace("_", "-"): version for name, version in pins}
        theirs = {name: version for name, version in found.items() if not name.startswith("aisix")}
        assert theirs == {name: pinned[name] for name in theirs}

    def test_every_module_of_ours_can_be_imported(self, shop: Workshop, image: Image) -> None:
        script = (
            "import importlib, pkgutil, sys\n"
            "for name in sys.argv[1:]:\n"
            "    package = importlib.import_module(name)\n"
            "    for found in pkgutil.walk_packages(package.__path__, name + '.'):\n"
            "        if not found.name.endswith('__main__'): importlib.import_module(found.name)\n"
            "print(len([name for name in sys.modules if name.startswith('aisix')]))"
        )
        assert int(shop.output_of_python(image, "-c", script, "aisix_common", MODULES[image.service])) > 100

    def test_no_installer_no_owners_rights_nothing_to_write_and_nothing_of_the_build(self, image: Image) -> None:
        programs, libraries = (
            {"pip", "pip3", "gcc", "cc", "git", "hatch"},
            {"pip", "setuptools", "ensurepip", "hatchling"},
        )
        links, rights, writable, found = [], [], [], []
        for folder, folders, files in os.walk(image.root):
            if Path(folder) == image.root:
                folders[:] = [name for name in folders if name not in prepare.SKIPPED]
            for name in (*folders, *files):
                path = Path(folder, name)
                status = path.lstat()
                inside = "/" + str(path.relative_to(image.root))
                if path.is_symlink():
                    links.append(inside)
                    continue
                if status.st_mode & 0o6000 and not path.is_dir():
                    rights.append(inside)
                if status.st_uid == 10001 or (status.st_mode & 0o0002 and not status.st_mode & 0o1000):
                    writable.append(inside)
                if name in (programs if name in files else libraries) or inside.startswith(("/build/", "/tmp/")):
                    found.append(inside)
        assert len(links) > 10, "the walk has seen the image"
        assert (rights, found) == ([], [])
        assert writable == ["/var/lib/aisix"]

    def test_nothing_is_compiled_at_start(self, image: Image) -> None:
        ours = image.root / "opt" / "aisix" / "lib"
        (packages,) = ours.glob("python3.*/site-packages")
        (library,) = (image.root / "usr" / "lib").glob("python3.*/asyncio")
        for folder in (packages / "aisix_common", packages / MODULES[image.service], packages / "aiohttp", library):
            sources = set(folder.rglob("*.py"))
            compiled = {p.parent.parent / f"{p.name.split('.')[0]}.py" for p in folder.rglob("*.pyc")}
            assert sources and sources <= compiled

    def test_their_sizes(self, images: Mapping[str, Image], capsys: pytest.CaptureFixture[str]) -> None:
        with capsys.disabled():
            print("\n" + table(list(images.values())))
        assert {service: LARGEST[service] for service in images} == {
            service: max(LARGEST[service], round(image.own_size / 1e6)) for service, image in images.items()
        }

    async def test_a_proxy_with_workers_runs_without_a_shell_on_a_read_only_root(
        self, shop: Workshop, images: Mapping[str, Image], etcd: EtcdServer, etcd_prefix: str, tmp_path: Path
    ) -> None:
        port, metrics = free_port(), free_port()
        config = {
            "etcd": {"endpoints": [etcd.endpoint], "prefix": etcd_prefix},
            "proxy": {"addr": f"127.0.0.1:{port}", "workers": 2},
            "admin": {"enabled": False},
            "observability": {"metrics": {"prometheus": {"addr": f"127.0.0.1:{metrics}"}}},
            "shutdown": {"min_drain_secs": 0},
        }
        async with running(shop, images["proxy"], config, tmp_path) as state:
            await answers(f"http://127.0.0.1:{port}/livez")
            await answers(f"http://127.0.0.1:{port}/readyz")
            await answers(f"http://127.0.0.1:{metrics}/metrics")
            assert (state / "snapshot.cache").exists() or list(state.iterdir())

    async def test_an_admin_runs_with_its_key_in_a_file(
        self, shop: Workshop, images: Mapping[str, Image], etcd: EtcdServer, etcd_prefix: str, tmp_path: Path
    ) -> None:
        port = free_port()
        config = {
            "etcd": {"endpoints": [etcd.endpoint], "prefix": etcd_prefix},
            "proxy": {"addr": "127.0.0.1:3000"},
            "admin": {
                "addr": f"127.0.0.1:{port}",
                "metrics_addr": f"127.0.0.1:{free_port()}",
                "admin_keys": [{"name": "tests", "key_file": "/etc/aisix/admin-key"}],
            },
            "shutdown": {"min_drain_secs": 0},
        }
        async with running(shop, images["admin"], config, tmp_path, {"admin-key": "key-of-the-image-tests"}):
            await answers(f"http://127.0.0.1:{port}/livez")
            await answers(f"http://127.0.0.1:{port}/admin/v1/models", "key-of-the-image-tests")

    async def test_a_cloud_agent_runs_while_the_cloud_cannot_be_reached(
        self, shop: Workshop, images: Mapping[str, Image], etcd: EtcdServer, etcd_prefix: str, tmp_path: Path
    ) -> None:
        port = free_port()
        config = {
            "etcd": {"endpoints": [etcd.endpoint], "prefix": etcd_prefix},
            "proxy": {"addr": "127.0.0.1:3000"},
            "managed": {
                "enabled": True,
                "cp_base_url": f"https://127.0.0.1:{free_port()}",
                "bootstrap": {"token_file": "/etc/aisix/token", "ca_pin": "00" * 32},
                "metrics_addr": f"127.0.0.1:{port}",
            },
            "shutdown": {"min_drain_secs": 0},
        }
        async with running(shop, images["cloud-agent"], config, tmp_path, {"token": "one-time-token"}):
            await answers(f"http://127.0.0.1:{port}/livez")
            await answers(f"http://127.0.0.1:{port}/metrics")


@asynccontextmanager
async def running(
    shop: Workshop, image: Image, config: Mapping[str, Any], folder: Path, files: Mapping[str, str] | None = None
) -> AsyncIterator[Path]:
    """The image with this configuration, its shells covered; yields its state folder, and ends it by SIGTERM."""
    settings, state, covered = folder / "etc", folder / "state", folder / "covered"
    settings.mkdir()
    state.mkdir()
    covered.touch()
    os.chown(state, prepare.UID, prepare.UID)
    for name, text in {"config.yaml": json.dumps(config), **(files or {})}.items():
        (settings / name).write_text(text)
    binds = {"/etc/aisix": settings, "/var/lib/aisix": state}
    shells = [f"/usr/bin/{name}" for name in ("dash", "bash") if (image.root / "usr" / "bin" / name).exists()]
    assert shells, "there is a shell to cover"
    log = folder / "log"
    process = shop.start(image, binds=binds | dict.fromkeys(shells, covered), log=log)
    try:
        yield state
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 30) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        print(log.read_text())


async def answers(url: str, key: str = "") -> None:
    """Wait until it answers 200."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession(headers=headers) as http:

        async def good() -> bool:
            async with http.get(url) as response:
                return response.status == 200

        await until(good, 30)
