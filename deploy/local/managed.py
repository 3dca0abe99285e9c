"""`make run-managed`: a gateway that is managed from a stand-in for AISIX Cloud, from nothing but a one-time token.

    stand-in Cloud <--- mTLS --- cloud agent ---> etcd <--- proxy <--- your curl

Changes nothing outside `.run/managed` in the work tree; what the stand-in was told is there at the next start. Ports:
3000 proxy, 9092 cloud agent (metrics and status), 9090 metrics; AISIX_RUN_PORTS=proxy,agent,metrics chooses others.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from aisix_common.resources.api_keys import hash_key

from .demo import DEMO_KEY, DEMO_MODEL
from .launch import Launch, StartFailed, chosen_ports, curl, run, say, serve, write_config

COMMAND = "make run-managed"
FOLDER = Path(".run/managed")
OTHER_MODEL = "changed-model"
"""What the second command calls the model."""


@dataclass(frozen=True)
class Cloud:
    """The stand-in, as it describes itself (tests/support/cloud)."""

    url: str
    pin: str
    env_id: str
    token_file: str
    control: str

    @classmethod
    def announced(cls, line: str) -> "Cloud":
        """From the line it prints. Raises StartFailed for anything else, which is shown by then no more."""
        try:
            told = json.loads(line)
            first = told["environments"][0]
            return cls(told["url"], told["ca_pin"], first["env_id"], first["token_file"], told["control"])
        except (ValueError, LookupError, TypeError) as error:
            raise StartFailed(f"the stand-in Cloud printed no description of itself but: {line.strip()}") from error

    def row(self, kind: str, id: str) -> str:
        """Where a resource of our environment is put."""
        return f"{self.control}/rows/{self.env_id}/{kind}/{id}"


def model(name: str) -> Mapping[str, Any]:
    """The demo model under that name."""
    return {"display_name": name, "provider": "demo", "model_name": DEMO_MODEL, "provider_key_id": "demo"}


def rows(provider: str) -> Mapping[tuple[str, str], Mapping[str, Any]]:
    """What the Cloud holds, by kind and id: the demo provider at this address, its model, and the demo caller key."""
    key = {"display_name": "demo", "adapter": "openai", "provider": "demo", "api_key": "none", "api_base": provider}
    return {
        ("provider_keys", "demo"): key,
        ("models", "demo"): model(DEMO_MODEL),
        ("api_keys", "demo"): {"display_name": "demo", "key_hash": hash_key(DEMO_KEY), "allowed_models": ["*"]},
    }


def config_file(ports: tuple[int, int, int], etcd: str, cloud: Cloud) -> Path:
    """The config.yaml of this run."""
    proxy, agent, metrics = ports
    config = {
        "etcd": {"endpoints": [etcd]},
        "proxy": {"addr": f"127.0.0.1:{proxy}"},
        "observability": {"log_format": "text", "metrics": {"prometheus": {"addr": f"127.0.0.1:{metrics}"}}},
        "managed": {
            "enabled": True,
            "cp_base_url": cloud.url,
            "bootstrap": {"token_file": cloud.token_file, "ca_pin": cloud.pin},
            "metrics_addr": f"127.0.0.1:{agent}",
            "heartbeat_interval_secs": 5,
            "mtls_dir": str(FOLDER / "mtls"),
            "dp_id_file": str(FOLDER / "dp_id"),
            "snapshot_cache_path": str(FOLDER / "snapshot.cache"),
            "usage": {"folder": str(FOLDER / "usage")},
        },
        "secrets": {"local_key_file": str(FOLDER / "keyring.key")},
        "shutdown": {"min_drain_secs": 0},
    }
    return write_config(FOLDER / "config.yaml", config)


async def start(launch: Launch, ports: tuple[int, int, int]) -> None:
    """The stand-in and what it holds, etcd, the demo provider, the gateway; says so when the model is served."""
    provider = await launch.provider()
    cloud = await _cloud(launch)
    try:
        for (kind, id), document in rows(provider).items():
            async with launch.http.put(cloud.row(kind, id), json=document) as response:
                response.raise_for_status()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise StartFailed(f"the stand-in Cloud did not take the demo resources: {error or 'no answer'}") from error
    etcd = await launch.etcd(COMMAND, FOLDER / "etcd")
    proxy, agent, metrics = (f"http://127.0.0.1:{port}" for port in ports)
    await launch.aisix(config_file(ports, etcd, cloud), {"the proxy": proxy})
    await launch.serves(proxy, [DEMO_MODEL])
    say("\nThe gateway has its certificate and its configuration from the stand-in Cloud.\n")
    say(f"Ask the demo model something:\n\n{curl(ports[0], DEMO_MODEL)}\n")
    body = json.dumps(model(OTHER_MODEL))
    say(f"Rename the model in the Cloud:\n\ncurl -sS -X PUT {cloud.row('models', 'demo')} -d '{body}'\n")
    say(f"and ask it by its new name; the old one is gone:\n\n{curl(ports[0], OTHER_MODEL)}\n")
    say(f"The Cloud:    curl -sS {cloud.control}/state      heartbeats, calls, how many usage events")
    say(f"              curl -sS {cloud.control}/events     the usage events")
    say(f"Cloud agent:  curl -sS {agent}/status/cloud   and {agent}/metrics")
    say(f"Metrics:      curl -sS {metrics}/metrics")
    say("Ctrl-C stops everything.\n")


async def _cloud(launch: Launch) -> Cloud:
    command = (sys.executable, "-m", "tests.support.cloud", "--folder", str(FOLDER / "cloud"))
    process = await launch.spawn("cloud", *command, announces=True)

    async def announced() -> bool:
        return process.announced.done()

    await launch.until("the stand-in Cloud", announced)
    return Cloud.announced(process.announced.result())


async def serving() -> int:
    """Everything, until Ctrl-C; the exit code."""
    ports = chosen_ports("3000,9092,9090", ("proxy", "agent", "metrics"))
    return await serve(lambda launch: start(launch, ports))


def main() -> int:
    """Returns the exit code."""
    return run(COMMAND, FOLDER, serving)
