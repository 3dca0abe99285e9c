"""The commands that the public documents of the gateway print, run as they are printed.

Only what a reader has to change is changed: `host:port` is that of the gateway under test, and `[...]` is a message.
The admin keys are those of the documents.
"""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.support.etcd import EtcdServer
from tests.support.gateway import ADMIN_KEY, Gateway, running, until
from tests.support.provider import Provider

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("e2e"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="the commands are curl's"),
]

LOCAL_KEY: Final = "admin-local-only-change-me"
DEMO_KEY: Final = "your-strong-admin-key-here"

LIST_MODELS: Final = """
export AISIX_ADMIN_KEY="admin-local-only-change-me"

curl -sS "http://127.0.0.1:3001/admin/v1/models" \\
-H "Authorization: Bearer ${AISIX_ADMIN_KEY}"
"""
CREATE_KEY: Final = """
curl -X POST http://127.0.0.1:3001/aisix/admin/apikeys \\
-H "Authorization: Bearer your-strong-admin-key-here" \\
-H "Content-Type: application/json" \\
-d '{
"key": "my-secret-key",
"allowed_models": ["openai-gpt4-mini"]
}'
"""
CHAT: Final = """
curl http://localhost:3000/v1/chat/completions \\
-H "Authorization: Bearer my-secret-key" \\
-H "Content-Type: application/json" \\
-d '{
"model": "openai-gpt4-mini",
"messages": [...]
}'
"""
NO_MODEL: Final = """
{
"error": {
"message": "Access to model 'openai-gpt4-mini' is forbidden",
"type": "invalid_request_error",
"code": "model_access_forbidden"
}
}
"""
MESSAGES: Final = '[{"role": "user", "content": "hello"}]'
ANOTHER_KEY: Final = CREATE_KEY.replace("my-secret-key", "another-secret-key").replace('"openai-gpt4-mini"', "")


@dataclass(frozen=True, slots=True)
class Shell:
    """A terminal of a reader of the documents."""

    gateway: Gateway

    async def run(self, printed: str) -> tuple[int, Any]:
        """Status and decoded body of the answer that a printed command ends with."""
        proxy, admin, _ = self.gateway.ports
        command = printed.strip().replace("[...]", MESSAGES)
        for host in ("127.0.0.1", "localhost"):
            command = command.replace(f"{host}:3000", f"127.0.0.1:{proxy}").replace(
                f"{host}:3001", f"127.0.0.1:{admin}"
            )
        environment = {**os.environ, "NO_PROXY": "*", "no_proxy": "*"}
        done = await asyncio.to_thread(
            subprocess.run,
            ["bash", "-c", command + " -w '\\n%{http_code}'"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=20,
        )
        body, _, status = done.stdout.rpartition("\n")
        assert status, done.stderr
        return int(status), json.loads(body)

    async def soon(self, printed: str, status: int) -> Any:
        """The body of the answer, once the proxy has heard of what was written and answers `status`."""
        found: list[Any] = []

        async def answered() -> bool:
            now, body = await self.run(printed)
            found.append(body)
            return now == status

        await until(answered)
        return found[-1]


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def shell(etcd: EtcdServer, tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> AsyncIterator[Shell]:
    """A gateway with the admin keys of the documents and the model that they speak of."""
    folder: Path = tmp_path_factory.mktemp("seeds")
    more = {"admin": {"admin_keys": [ADMIN_KEY, LOCAL_KEY, DEMO_KEY]}}
    async with running(folder, etcd.endpoint, "/seeds/aisix", more=more) as gateway:
        base = {"display_name": "openai", "provider": "openai", "api_key": "sk-upstream", "api_base": provider.base}
        key = await gateway.call("POST", "provider_keys", base)
        model = {"display_name": "openai-gpt4-mini", "provider": "openai", "model_name": "gpt-4o-mini"}
        await gateway.call("POST", "models", {**model, "provider_key_id": key["id"]})
        yield Shell(gateway)


async def test_a_minimal_admin_request(shell: Shell) -> None:
    status, models = await shell.run(LIST_MODELS)
    assert status == 200
    assert [entry["value"]["display_name"] for entry in models] == ["openai-gpt4-mini"]


async def test_a_caller_key_from_its_creation_to_its_refusals(shell: Shell) -> None:
    assert (await shell.soon(CHAT, 401))["error"]["message"] == "Invalid API key"
    status, item = await shell.run(CREATE_KEY)
    assert status == 201
    assert item["key"].startswith("/apikeys/"), "the gateway assigned an id"
    assert item["value"]["allowed_models"] == ["openai-gpt4-mini"]

    answer = await shell.soon(CHAT, 200)
    assert answer["object"] == "chat.completion" and "hello" in answer["choices"][0]["message"]["content"]
    bare = CHAT.replace("Bearer my-secret-key", "my-secret-key")
    assert bare != CHAT and (await shell.run(bare))[0] == 200
    missing = CHAT.replace('-H "Authorization: Bearer my-secret-key" \\\n', "")
    assert missing != CHAT
    status, body = await shell.run(missing)
    assert (status, body["error"]["message"]) == (401, "Missing API key in request")

    assert (await shell.run(CREATE_KEY))[0] == 400, "a key must be unique"
    assert (await shell.run(ANOTHER_KEY))[0] == 201
    forbidden = CHAT.replace("my-secret-key", "another-secret-key")
    assert await shell.soon(forbidden, 403) == json.loads(NO_MODEL), "an empty list means no access"


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", ""])
async def test_the_older_dialect_takes_the_admin_key_in_any_of_these_ways(shell: Shell, scheme: str) -> None:
    header = f'-H "Authorization: {scheme}your-strong-admin-key-here"'
    status, listed = await shell.run(f"curl http://127.0.0.1:3001/aisix/admin/apikeys {header}")
    assert status == 200 and listed["total"] == len(listed["list"])
    status, _ = await shell.run(f"curl http://127.0.0.1:3001/admin/v1/api_keys {header}")
    assert (status == 200) == (scheme == "Bearer "), "the current dialect wants `Bearer` to the letter"


async def test_other_admin_keys_are_refused(shell: Shell) -> None:
    for printed in (LIST_MODELS, CREATE_KEY):
        wrong = printed.replace(LOCAL_KEY, "guessed").replace(DEMO_KEY, "guessed")
        assert wrong != printed and (await shell.run(wrong))[0] == 401
