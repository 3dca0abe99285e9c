"""The Cloud as a process: `python -m tests.support.cloud --port N --folder F`.

Prints one line of JSON once it can be used: `url` and `endpoint` (managed.cp_base_url, cp_etcd_endpoint), `ca_file`,
`ca_pin`, `environments` (two of {env_id, token, token_file}; a token that was not used is given again), `etcd`
(endpoint and the files of root, past the front), `control` (see control.py), `folder` and `pid`. Ends at SIGTERM and
SIGINT, and when the process that started it is gone.
"""

import argparse
import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from aisix_common.processes import ORPHANED, hold_lifeline

from .control import control
from .standin import Cloud, cloud
from tests.support.doubles import listening

LOOK_SECONDS: Final = 0.2


def description(running: Cloud, control_port: int) -> Mapping[str, Any]:
    """What is printed."""
    ca, certificate, key = running.root_files
    return {
        "url": running.url,
        "endpoint": running.endpoint,
        "ca_file": str(running.issuer.ca_file),
        "ca_pin": running.issuer.pin,
        "environments": [_environment(running, env_id) for env_id in (running.a, running.b)],
        "etcd": {"endpoint": running.etcd.endpoint, "ca": str(ca), "certificate": str(certificate), "key": str(key)},
        "control": f"http://127.0.0.1:{control_port}",
        "folder": str(running.folder),
        "pid": os.getpid(),
    }


def _environment(running: Cloud, env_id: str) -> Mapping[str, str]:
    unused = [
        token for token, known in running.enrolment.tokens.items() if known["env_id"] == env_id and "key" not in known
    ]
    token = unused[0] if unused else running.token(env_id)
    path = running.folder / f"token-{env_id}"
    path.touch(0o600)
    path.write_text(token)
    return {"env_id": env_id, "token": token, "token_file": str(path)}


async def serve(folder: Path, port: int) -> None:
    """Run until told to end."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with cloud(folder, port=port) as running, listening(control(running)) as control_port:
        print(json.dumps(description(running, control_port)), flush=True)
        await ended.wait()


def _end_with(parent: int) -> None:
    """End this process, and with it etcd, once the parent is another one."""
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(ORPHANED)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.cloud", description="A stand-in for AISIX Cloud.")
    parser.add_argument(
        "--folder", type=Path, required=True, help="where it keeps everything; used again if it is there"
    )
    parser.add_argument("--port", type=int, default=0, help="the port for gateways; 0 (the default): any")
    options = parser.parse_args()
    if not hold_lifeline(os.environ):
        threading.Thread(target=_end_with, args=(os.getppid(),), name="lifeline", daemon=True).start()
    asyncio.run(serve(options.folder, options.port))


if __name__ == "__main__":
    main()
