"""The demo resources of `make run`, put in place through the admin API as any operator would."""

from dataclasses import dataclass
from typing import Any

import aiohttp

DEMO_KEY = "sk-aisix-demo"
"""The caller key of the printed curls. It opens the models that `load` puts in place, and no others."""

DEMO_MODEL = "demo-model"


@dataclass(frozen=True)
class Admin:
    """A session with the admin API."""

    session: aiohttp.ClientSession
    url: str

    async def upsert(self, kind: str, name_field: str, document: dict[str, Any]) -> str:
        """Create the resource, or replace the one of the same name. Returns its id."""
        existing = await self._call("GET", kind)
        for entry in existing:
            if entry["value"].get(name_field) == document[name_field]:
                await self._call("PUT", f"{kind}/{entry['id']}", document)
                return str(entry["id"])
        return str((await self._call("POST", kind, document))["id"])

    async def _call(self, method: str, path: str, document: dict[str, Any] | None = None) -> Any:
        async with self.session.request(method, f"{self.url}/admin/v1/{path}", json=document) as response:
            body = await response.json()
            if response.status != 200:
                raise RuntimeError(f"{method} {path}: {response.status} {body.get('error_msg')}")
            return body


async def load(admin: Admin, provider_base: str, key_hash: str, openai_key: str | None) -> list[str]:
    """Put the demo provider, its model and the demo caller key in place; a real OpenAI model where a key is given.

    Returns the names of the models.
    """
    models = [await _model(admin, "demo", DEMO_MODEL, provider_base, "not-a-real-key")]
    if openai_key:
        models.append(await _model(admin, "openai", "gpt-4o-mini", None, openai_key))
    await admin.upsert("api_keys", "key_hash", {"key_hash": key_hash, "display_name": "demo", "allowed_models": models})
    return models


async def _model(admin: Admin, provider: str, model: str, base: str | None, key: str) -> str:
    name = f"make-run-{provider}"  # not a name that a developer would give to a key of their own
    provider_key: dict[str, Any] = {"display_name": name, "adapter": "openai", "provider": provider, "api_key": key}
    if base is not None:
        provider_key["api_base"] = base
    key_id = await admin.upsert("provider_keys", "display_name", provider_key)
    await admin.upsert(
        "models",
        "display_name",
        {"display_name": model, "provider": provider, "model_name": model, "provider_key_id": key_id},
    )
    return model
