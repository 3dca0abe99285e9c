"""The official SDK with a caller key that lies in OpenBao, as does the provider's: both versions of its engine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
import openai
import pytest

from tests.support.gateway import Gateway, until
from tests.support.openbao import OpenBao
from tests.support.provider import Provider

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("e2e")]

SAID: Final = [{"role": "user", "content": "hello"}]


def sdk(gateway: Gateway, key: str) -> Any:
    """Without retries of its own. Typed as Any: messages are plain dicts, as in most people's scripts."""
    http = httpx2.AsyncClient(trust_env=False)
    return openai.AsyncOpenAI(api_key=key, base_url=f"{gateway.proxy}/v1", max_retries=0, http_client=http)


@asynccontextmanager
async def added(gateway: Gateway, *rows: tuple[str, dict[str, Any]]) -> AsyncIterator[None]:
    """Rows through the admin API, one after the other, and gone again: the gateway is shared. `{}` in a text is the id
    of the row before."""
    made: list[tuple[str, str]] = []
    try:
        for kind, document in rows:
            last = made[-1][1] if made else ""
            filled = {name: last if value == "{}" else value for name, value in document.items()}
            made.append((kind, (await gateway.call("POST", kind, filled))["id"]))
        yield
    finally:
        for kind, id in reversed(made):
            await gateway.call("DELETE", f"{kind}/{id}")


@pytest.mark.parametrize("version", ["v2", "v1"])
async def test_both_keys_in_openbao(gateway: Gateway, provider: Provider, openbao: OpenBao, version: str) -> None:
    mount, name = f"sdk-{version}", f"bao-{version}"
    openbao.mount(mount, "kv", {"version": version[1:]})
    openbao.put("callers/blue", {"key": f"sk-caller-{name}"}, mount)
    openbao.put("openai", {"api_key": f"sk-upstream-{name}", "other": "x"}, mount)
    path = f"{mount}/data/*" if version == "v2" else f"{mount}/*"
    openbao.policy(name, f'path "{path}" {{ capabilities = ["read"] }}')
    auth = {"method": "token", "token": openbao.token([name])}
    manager = {
        "manager": "vault",
        "name": name,
        "uri": openbao.address,
        "mount": mount,
        "kv_version": version,
        "auth": auth,
    }
    model = {"display_name": name, "provider": "openai", "model_name": "gpt-4o", "provider_key_id": "{}"}
    secret = {"display_name": name, "api_key": f"$secret://vault/{name}/openai/api_key", "api_base": provider.base}
    caller = {"key": f"$secret://vault/{name}/callers/blue/key", "allowed_models": [name]}
    rows = (("secret_providers", manager), ("provider_keys", secret), ("models", model), ("api_keys", caller))
    async with added(gateway, *rows), sdk(gateway, f"sk-caller-{name}") as client:

        async def served() -> bool:
            return (await gateway.chat("ready?", model=name, key=f"sk-caller-{name}"))[0] == 200

        await until(served)
        answer = await client.chat.completions.create(model=name, messages=SAID)
        assert "You said: hello" in answer.choices[0].message.content
        assert provider.requests[-1].headers["authorization"] == f"Bearer sk-upstream-{name}"
        stream = await client.chat.completions.create(model=name, messages=SAID, stream=True)
        assert "hello" in "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert [each.id async for each in client.models.list()] == [name]
        for key in (caller["key"], f"sk-upstream-{name}"):
            async with sdk(gateway, str(key)) as stranger:
                with pytest.raises(openai.AuthenticationError):
                    await stranger.chat.completions.create(model=name, messages=SAID)
