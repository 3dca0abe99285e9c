"""The command line: what it takes, what it refuses, what it tells its services."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aisix_common.version import VERSION

from tests.common.cli.conftest import Gateway, command


def test_version_and_help() -> None:
    version = command("--version")
    assert (version.returncode, version.stdout) == (0, f"aisix {VERSION}\n")
    shown = command("--help")
    assert shown.returncode == 0
    assert "--config" in shown.stdout
    assert "aisix validate --resources FILE" in shown.stdout
    assert "aisix export --etcd" in shown.stdout
    assert "aisix secrets COMMAND" in shown.stdout


@pytest.mark.parametrize("arguments", [(), ("--confi", "x"), ("validates",), ("--config",)])
def test_a_wrong_command_line_is_2(arguments: tuple[str, ...]) -> None:
    assert command(*arguments).returncode == 2


def test_a_missing_file_is_1(tmp_path: Path) -> None:
    for run in (command("-c", str(tmp_path / "no.yaml")), command(AISIX_CONFIG=str(tmp_path / "no.yaml"))):
        assert run.returncode == 1
        head = "Error: config load failed: failed to load configuration: build:"
        assert run.stderr.startswith(head)
        assert "No such file" in run.stderr


def test_every_problem_has_a_line(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("proxy: {addr: localhost:3000, worker: 2}\nadmin: {admin_keys: [s3cr3t]}\n")
    run = command("-c", str(config), AISIX_PROXY__ADRR="x")
    assert run.returncode == 1
    assert run.stderr.splitlines()[0].endswith("configuration: 4 problems")
    assert sorted(line.strip().split(":")[0] for line in run.stderr.splitlines()[1:]) == [
        "AISIX_PROXY__ADRR",
        "etcd.endpoints",
        "proxy.addr",
        "proxy.worker",
    ]


def test_tls_files_are_looked_at_before_anything_starts(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        'proxy: {addr: "127.0.0.1:0", tls: {cert_file: no.crt, key_file: no.key}}\n'
        "etcd: {endpoints: [a]}\nadmin: {admin_keys: [k]}\nupstream: {tls: {ca_file: no.ca}}\n"
    )
    run = command("-c", str(config))
    assert (run.returncode, run.stdout) == (1, "")
    assert [line.strip().split(":")[0] for line in run.stderr.splitlines()[1:]] == [
        "proxy.tls.cert_file",
        "proxy.tls.key_file",
        "upstream.tls.ca_file",
    ]


def test_the_supervisor_imports_little() -> None:
    code = "import sys, aisix_common.cli.__main__; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    imported = set(run.stdout.split())
    assert (
        not {"grpc", "aiohttp", "asyncio", "structlog", "prometheus_client", "aisix_common.resources", "cryptography"}
        & imported
    )


REPORTING = """
import json
names = ("AISIX_ADMIN__METRICS_ADDR", "aisix_admin__metrics_addr", "AISIX_SUPERVISED", "AISIX_PROXY__WORKERS")
note(json.dumps([NAME, sys.argv[1:], {name: os.environ[name] for name in names if name in os.environ}]))
if NAME == "proxy":
    time.sleep(60)
while len(open(os.path.join(folder, "events")).readlines()) < EXPECTED:
    time.sleep(0.01)
"""


def test_what_services_are_told(gateway: Gateway) -> None:
    for name in ("proxy", "admin"):
        gateway.programs.write(f"fake_{name}", f"NAME, EXPECTED = {name!r}, 2\n{REPORTING}")
    gateway.environ |= {"aisix_admin__metrics_addr": "127.0.0.1:9", "AISIX_PROXY__WORKERS": "3"}
    gateway.start()
    gateway.end()
    told = {name: (arguments, environ) for name, arguments, environ in map(json.loads, gateway.programs.events())}
    arguments = ["--config", str(gateway.config)]
    assert told["admin"] == (
        arguments,
        {"AISIX_ADMIN__METRICS_ADDR": "", "AISIX_SUPERVISED": "1", "AISIX_PROXY__WORKERS": "3"},
    )
    assert told["proxy"] == (
        arguments,
        {"aisix_admin__metrics_addr": "127.0.0.1:9", "AISIX_SUPERVISED": "1", "AISIX_PROXY__WORKERS": "3"},
    )


def test_no_admin_where_it_is_disabled(gateway: Gateway) -> None:
    gateway.environ |= {"AISIX_ADMIN__ENABLED": "false"}
    gateway.programs.write("fake_proxy", "sys.exit(9)")
    gateway.start()
    code, shown = gateway.end()
    assert code == 9
    assert "starts proxy with" in shown


def test_the_file_may_come_from_the_environment_and_without_its_extension(gateway: Gateway) -> None:
    gateway.programs.write("fake_proxy", "note(' '.join(sys.argv[1:])); sys.exit(9)")
    gateway.environ |= {"AISIX_ADMIN__ENABLED": "false", "AISIX_CONFIG": str(gateway.config.with_suffix(""))}
    gateway.start([])
    assert gateway.end()[0] == 9
    assert gateway.programs.events() == [f"--config {gateway.config}"]


def test_warnings_are_shown_once_and_loudly(gateway: Gateway) -> None:
    gateway.environ |= {"AISIX_ADMIN__ADMIN_KEYS": "admin", "AISIX_SUPERVISED": "1"}
    gateway.environ |= {"AISIX_OBSERVABILITY__LOG_LEVEL": "error"}
    loads = "from aisix_common.settings import load\nassert load(sys.argv[2], os.environ).warnings == ()\nsys.exit(9)"
    gateway.programs.write("fake_proxy", loads)
    gateway.programs.write("fake_admin", loads)
    gateway.start()
    code, shown = gateway.end()
    assert code == 9
    assert shown.count("SECURITY: admin.admin_keys") == 1


def test_a_closed_output_is_no_reason_to_fail(gateway: Gateway) -> None:
    gateway.environ |= {"AISIX_ADMIN__ENABLED": "false"}
    stat = "note(str([os.path.samestat(os.fstat(fd), os.stat(os.devnull)) for fd in range(3)])); sys.exit(9)"
    gateway.programs.write("fake_proxy", stat)
    command = (sys.executable, str(gateway.programs.folder / "launcher.py"), "--config", str(gateway.config))
    shell = ["/bin/sh", "-c", 'exec "$@" >&- 2>&-', "sh", *command]
    assert subprocess.run(shell, env=gateway.environ, timeout=30, check=False).returncode == 9
    assert gateway.programs.events() == ["[True, True, True]"]
