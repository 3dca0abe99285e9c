"""AWS for tests: moto's server (Secrets Manager, STS, ...) in a process of its own, on loopback. All methods are
synchronous and take a few milliseconds.

    with MotoAws(tmp_path) as aws:
        aws.endpoint, aws.region                   # "http://127.0.0.1:34567", "us-east-1"
        aws.access_key_id, aws.secret_access_key
        aws.environ                                # both and the region, as the default chain finds them: AWS_*
        aws.put_secret("team/openai", "sk-1")      # made or given a new version; text or bytes; returns its ARN
        aws.delete_secret("team/openai")           # at once, without the days of grace
        aws.call("PutSecretValue", {...})          # anything else of Secrets Manager
        aws.stop() / aws.resume() / aws.kill()     # SIGSTOP / SIGCONT / SIGKILL

Fixture in tests/conftest.py: `moto_aws` (one for the session; never stop it, use names of your own).

What moto does not do: it takes any credentials, checks no signature, never throttles, and
AssumeRoleWithWebIdentity reads no token. A process and not moto's thread: both are ready after 0.7 s and take 80 MB,
but the process leaves no boto3 in the tests and can hang and die.
"""

import atexit
import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

START_SECONDS: Final = 30.0
CALL_SECONDS: Final = 10.0
_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class AwsRefused(Exception):
    """The service answered with an error; `code` is AWS's name for it."""

    def __init__(self, code: str, said: str) -> None:
        super().__init__(f"{code}: {said}")
        self.code = code


class MotoAws:
    """One server process; `folder` holds its log and is its home."""

    region: Final = "us-east-1"
    access_key_id: Final = "AKIAMOTOTESTS0000000"
    secret_access_key: Final = "moto-secret-access-key"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.log = folder / "moto.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def endpoint(self) -> str:
        """The URL for every service."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environ(self) -> Mapping[str, str]:
        """What the default chain of the AWS libraries reads."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_DEFAULT_REGION": self.region,
        }

    def start(self) -> None:
        """Start it, with nothing in it, and wait until it answers. Raises RuntimeError with the end of its log."""
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self._folder), "PYTHONUNBUFFERED": "1"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, cwd=self._folder
            )
        atexit.register(self.kill)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            if listening := re.search(r"Running on http://127\.0\.0\.1:(\d+)", self.log.read_text(errors="replace")):
                self.port = int(listening[1])
                return
            time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"moto did not start:\n{self.log.read_text(errors='replace')[-3000:]}")

    def put_secret(self, name: str, value: str | bytes) -> str:
        """Make the secret, or give it a new current version; returns its ARN."""
        content = (
            {"SecretString": value}
            if isinstance(value, str)
            else {"SecretBinary": base64.b64encode(value).decode("ascii")}
        )
        try:
            answer = self.call("CreateSecret", {"Name": name, **content})
        except AwsRefused as refused:
            if refused.code != "ResourceExistsException":
                raise
            answer = self.call("PutSecretValue", {"SecretId": name, **content})
        return str(answer["ARN"])

    def delete_secret(self, name: str) -> None:
        """Delete it at once. Raises AwsRefused."""
        self.call("DeleteSecret", {"SecretId": name, "ForceDeleteWithoutRecovery": True})

    def call(self, operation: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Call an operation of Secrets Manager; its answer. Raises AwsRefused."""
        scope = f"20260101/{self.region}/secretsmanager/aws4_request"
        request = urllib.request.Request(
            self.endpoint,
            data=json.dumps(wanted).encode(),
            headers={
                "X-Amz-Target": f"secretsmanager.{operation}",
                "Content-Type": "application/x-amz-json-1.1",
                # moto reads the service and the region from it, and looks at no signature.
                "Authorization": f"AWS4-HMAC-SHA256 Credential={self.access_key_id}/{scope}, Signature=none",
            },
        )
        try:
            with _DIRECT.open(request, timeout=CALL_SECONDS) as answer:
                document: dict[str, Any] = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            refusal = json.loads(error.read())
            raise AwsRefused(refusal["__type"].rpartition("#")[2], refusal.get("message", "")) from None
        return document

    def stop(self) -> None:
        """SIGSTOP, and wait until it stands: connections stay open, nothing answers."""
        os.kill(self._running.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self._running.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self._running.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, then wait. Harmless when it is not running. `start` takes the same port, with nothing in it."""
        atexit.unregister(self.kill)
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None, "moto is not running"
        return self.process
