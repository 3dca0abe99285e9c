"""A secret manager that is a script: what it holds, how long it takes, and what was asked of it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from aisix_common.clock import SYSTEM_CLOCK
from aisix_common.resources import SECRET_PROVIDERS, SecretProvider, check
from aisix_common.secret import Secret
from aisix_common.secrets.environment import EnvPolicy
from aisix_proxy.secret_managers.base import Context, Fetched, ManagerClient, NoSuchSecret, Unresolved
from aisix_proxy.secret_managers.clients import Making


@dataclass
class Manager:
    """All secrets of one product, by provider and path: `secrets["v/a/k"]`. An Unresolved in place of a secret is
    raised."""

    secrets: dict[str, str | BaseException] = field(default_factory=dict)
    lifetime: float | None = None
    delay: float = 0.0
    trouble: Unresolved | None = None
    """Raised for everything, while it is set."""
    asked: list[str] = field(default_factory=list)
    made: list[Any] = field(default_factory=list)
    closed: list[Any] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    def make(self, provider: Any, context: Context) -> ManagerClient:
        """The maker of its clients."""
        self.made.append(provider)
        return _Client(self, provider)


class _Client:
    def __init__(self, manager: Manager, provider: Any) -> None:
        self._manager = manager
        self._provider = provider

    async def fetch(self, path: Sequence[str]) -> Fetched:
        manager = self._manager
        name = f"{self._provider.name}/{'/'.join(path)}"
        manager.asked.append(name)
        await self._wait()
        found = manager.secrets.get(name)
        if found is None:
            raise NoSuchSecret(f"there is no secret {name}")
        if isinstance(found, BaseException):
            raise found
        return Fetched(Secret(found), manager.lifetime)

    async def probe(self) -> None:
        await self._wait()

    async def aclose(self) -> None:
        self._manager.closed.append(self._provider)

    async def _wait(self) -> None:
        manager = self._manager
        manager.at_once += 1
        manager.most_at_once = max(manager.most_at_once, manager.at_once)
        try:
            await asyncio.sleep(manager.delay)
        finally:
            manager.at_once -= 1
        if manager.trouble is not None:
            raise manager.trouble


def no_session(ca_pem: str | None) -> NoReturn:
    raise AssertionError("a script opens no session")


def vault(name: str = "v", **fields: Any) -> SecretProvider:
    document = {
        "manager": "vault",
        "name": name,
        "uri": "http://127.0.0.1:9",
        "auth": {"method": "token", "token": "t"},
    }
    return check(SECRET_PROVIDERS, document | fields)


def making(manager: Manager, environ: Mapping[str, str] | None = None, timeout: float = 5.0) -> Making:
    """Clients of `manager` for every Vault provider."""
    open_session: Any = no_session
    context = Context(open_session, environ or {}, SYSTEM_CLOCK, timeout)
    return Making({"vault": manager.make}, context, EnvPolicy(["AISIX_SECRET_*"], []))
