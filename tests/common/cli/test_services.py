"""The real table of services: who runs when, and who is told the Cloud's secrets."""

import json
from pathlib import Path

import pytest

from aisix_common.cli.services import SERVICES

from tests.common.cli.conftest import command
from tests.common.settings.documents import loaded
from tests.support.child_modules import Programs

MANAGED = "managed: {enabled: true, cp_base_url: 'https://cloud.example', bootstrap: {ca_pin: p}}\n"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["proxy", "admin"]),
        ("managed: {cp_base_url: 'https://cloud.example'}\n", ["proxy", "admin"]),
        (MANAGED, ["proxy", "cloud-agent"]),
    ],
)
def test_who_runs(text: str, names: list[str]) -> None:
    settings = loaded(text).settings
    assert [service.name for service in SERVICES if service.wanted(settings)] == names


def test_only_the_cloud_agent_may_end_by_itself() -> None:
    assert [service.name for service in SERVICES if service.restarts] == ["cloud-agent"]


TELLS = """
import json
from aisix_common.settings import load
managed = load(sys.argv[2], os.environ).settings.managed
secrets = [secret.reveal() for secret in (managed.cp_key_pem, managed.bootstrap.token) if secret is not None]
note(json.dumps([NAME, secrets, sorted(name for name, text in os.environ.items() if "canary" in text)]))
if NAME == "agent":
    time.sleep(60)
while len(open(os.path.join(folder, "events")).readlines()) < 2:
    time.sleep(0.01)
sys.exit(9)
"""


@pytest.mark.parametrize("place", ["environment", "file"])
def test_the_clouds_secrets_are_the_agents_alone(tmp_path: Path, place: str) -> None:
    programs = Programs(tmp_path)
    programs.write("aisix_proxy", f"NAME = 'proxy'\n{TELLS}")
    programs.write("aisix_cloud_agent", f"NAME = 'agent'\n{TELLS}")
    inline = ", cp_key_pem: canary-key, bootstrap: {token: canary-token, ca_pin: p}" if place == "file" else ""
    config = tmp_path / "config.yaml"
    config.write_text(
        'proxy: {addr: "127.0.0.1:0"}\netcd: {endpoints: ["http://127.0.0.1:1"]}\n'
        f"secrets: {{local_key_file: {tmp_path / 'keyring.key'}}}\n"
        f"managed: {{enabled: true, cp_base_url: 'https://cloud.example'{inline}}}\n"
    )
    environ = {name: text for name, text in programs.environ.items() if name in ("PYTHONPATH", "TEST_FOLDER")}
    if place == "environment":
        environ |= {"aisix_managed__cp_key_pem": "canary-key", "AISIX_MANAGED__BOOTSTRAP__TOKEN": "canary-token"}
        environ |= {"AISIX_MANAGED__BOOTSTRAP__CA_PIN": "p"}
    run = command("--config", str(config), **environ)
    assert run.returncode == 9, run.stdout + run.stderr
    told = {name: (secrets, variables) for name, secrets, variables in map(json.loads, programs.events())}
    assert told["proxy"] == ([], [])
    assert told["agent"][0] == ["canary-key", "canary-token"]
    assert "starts proxy, cloud-agent with" in run.stdout
    assert "no admin API, no playground" in run.stdout
    assert ("stands in the configuration file" in run.stdout) is (place == "file")
    assert "canary" not in run.stdout + run.stderr
