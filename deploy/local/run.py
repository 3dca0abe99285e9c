"""`make run`: etcd, the gateway and a demo provider on this machine, a curl that answers, one Ctrl-C for all.

Changes nothing outside `.run/` in the work tree. Ports: 3000 proxy, 3001 admin, 9090 metrics, as in the documents;
AISIX_RUN_PORTS=proxy,admin,metrics chooses others (0 is not possible: the printed curl has to name them).
"""

import os
import secrets
from pathlib import Path

import aiohttp

from aisix_common.resources.api_keys import hash_key

from .demo import DEMO_KEY, DEMO_MODEL, Admin, load
from .launch import Launch, StartFailed, chosen_ports, curl, run, say, serve, write_config

COMMAND = "make run"
FOLDER = Path(".run")


def admin_key() -> str:
    """The admin key of this work tree: made once, readable by its owner only."""
    path = FOLDER / "admin.key"
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write("admin-" + secrets.token_hex(16))
    return path.read_text().strip()


def config_file(ports: tuple[int, int, int], etcd: str, key: str) -> Path:
    """The config.yaml of this run."""
    proxy, admin, metrics = ports
    config = {
        "etcd": {"endpoints": [etcd]},
        "proxy": {"addr": f"127.0.0.1:{proxy}"},
        "admin": {
            "addr": f"127.0.0.1:{admin}",
            "admin_keys": [key],
            "playground_proxy_url": f"http://127.0.0.1:{proxy}",
        },
        "observability": {"log_format": "text", "metrics": {"prometheus": {"addr": f"127.0.0.1:{metrics}"}}},
        "managed": {"snapshot_cache_path": str(FOLDER / "snapshot.cache")},
        "secrets": {"local_key_file": str(FOLDER / "keyring.key")},
        "shutdown": {"min_drain_secs": 0},
    }
    return write_config(FOLDER / "config.yaml", config)


async def start(launch: Launch, ports: tuple[int, int, int], key: str) -> None:
    """etcd, the demo provider, the gateway, and what it serves; says so when all of them answer."""
    proxy, admin, metrics = (f"http://127.0.0.1:{port}" for port in ports)
    etcd = await launch.etcd(COMMAND, FOLDER / "etcd")
    provider = await launch.provider()
    await launch.aisix(config_file(ports, etcd, key), {"the admin": admin, "the proxy": proxy})
    try:
        openai_key = os.environ.get("OPENAI_API_KEY")
        models = await load(Admin(launch.http, admin), provider, hash_key(DEMO_KEY), openai_key)
    except (aiohttp.ClientError, RuntimeError, TimeoutError) as error:
        raise StartFailed(f"the demo resources could not be loaded: {error or 'no answer in time'}") from error
    await launch.serves(proxy, models)
    say("\nThe gateway is ready.\n")
    for model in models:
        whom = "the demo model" if model == DEMO_MODEL else f"OpenAI's {model} (your OPENAI_API_KEY pays)"
        say(f"Ask {whom} something:\n\n{curl(ports[0], model)}\n")
    say(f'Admin API:  curl -sS {admin}/admin/v1/models -H "Authorization: Bearer $(cat {FOLDER}/admin.key)"')
    say(f"API docs:   {admin}/admin/docs")
    say(f"Metrics:    curl -sS {metrics}/metrics")
    say("Ctrl-C stops everything.\n")


async def serving() -> int:
    """Everything, until Ctrl-C; the exit code."""
    ports = chosen_ports("3000,3001,9090", ("proxy", "admin", "metrics"))
    key = admin_key()
    return await serve(lambda launch: start(launch, ports, key), {"Authorization": f"Bearer {key}"})


def main() -> int:
    """Returns the exit code."""
    return run(COMMAND, FOLDER, serving)
