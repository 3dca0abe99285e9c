"""The clients of the providers that are known: made when first used, given back when their provider changes or goes.

A client that is replaced ends with the last fetch that uses it. Decides nothing about secrets (that is `cache`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, Final, TypeVar

import msgspec

from aisix_common.errors import ConfigurationError
from aisix_common.logs import Logger
from aisix_common.resources import SECRET_PROVIDERS, Rejected, SecretProvider
from aisix_common.resources.concealed import references_in, with_secrets
from aisix_common.secret import Secret
from aisix_common.secrets.environment import EnvPolicy, NotReadable
from aisix_common.secrets.reference import BadReference, EnvReference, parse

from .base import Away, Context, Fetched, Make, ManagerClient, Unresolved, Unusable
from .resolution import resolve

_Answer = TypeVar("_Answer")
_BLANK: Final = Secret("")
_CLOSE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Making:
    """What clients are made with."""

    makers: Mapping[str, Make]
    context: Context
    environment: EnvPolicy


class Client:
    """The client of one provider, as the provider is now."""

    def __init__(self, provider: SecretProvider, making: Making, log: Logger) -> None:
        self.provider = provider
        self.retired = False
        """Nothing new is asked of it."""
        self._making = making
        self._log = log
        self._made: ManagerClient | None = None
        self._users = 0

    @property
    def manager(self) -> str:
        """Which product it talks to."""
        return self.provider.identity.partition("/")[0]

    @property
    def used(self) -> bool:
        """Whether a call is under way."""
        return self._users > 0

    async def fetch(self, path: Sequence[str]) -> Fetched:
        """As `ManagerClient.fetch`, within the time that one fetch may take. Raises Unresolved and nothing else."""
        return await self._bounded(lambda client: client.fetch(path))

    async def probe(self) -> None:
        """As `ManagerClient.probe`, bounded likewise."""
        await self._bounded(lambda client: client.probe())

    async def aclose(self) -> None:
        """Give back what is held. Idempotent; raises nothing."""
        client, self._made = self._made, None
        if client is None:
            return
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await client.aclose()
        except Exception as error:  # noqa: BLE001 - its sockets go with the process
            self._log.warning("a secret manager's client could not be closed", kind=type(error).__name__)

    async def _bounded(self, call: Callable[[ManagerClient], Awaitable[_Answer]]) -> _Answer:
        seconds, identity = self._making.context.timeout, self.provider.identity
        try:
            with self._in_use() as client:
                async with asyncio.timeout(seconds):
                    return await call(client)
        except Unresolved:
            raise
        except TimeoutError:
            raise Away(f"the manager did not answer within {seconds:g} seconds") from None
        except ConfigurationError as error:
            raise Unusable(f"the provider {identity} cannot be used: {error.problems[0]}") from None
        except (Exception, asyncio.CancelledError) as error:  # whatever a client does, rows must be told of it
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            # Neither message nor traceback: what a library puts into them may hold a secret.
            self._log.error(
                "a secret manager's client failed as it never should",
                provider=identity,
                kind=type(error).__name__,
                where=_last_line(error),
            )
            raise Away("the gateway's client for this manager failed as it never should: see the log") from None

    @contextmanager
    def _in_use(self) -> Iterator[ManagerClient]:
        if self._made is None:
            self._made = self._make()
        self._users += 1
        try:
            yield self._made
        finally:
            self._users -= 1

    def _make(self) -> ManagerClient:
        make = self._making.makers.get(self.manager)
        if make is None:
            raise Unusable(f"this version of the gateway has no client for {self.manager}")
        return make(self._with_own_secrets(), self._making.context)

    def _with_own_secrets(self) -> Any:
        """The provider with its `$env://` references resolved."""
        had: dict[str, Secret] = {}
        references = list(references_in(SECRET_PROVIDERS, self.provider))
        for _, text in references:
            try:
                reference = parse(text)
                if not isinstance(reference, EnvReference):
                    raise BadReference("may refer to $env:// only")
                had[text] = self._making.environment.read(reference, self._making.context.environ)
            except (BadReference, NotReadable) as error:
                raise Unusable(f"the provider {self.provider.identity} cannot be used: {text} {error}") from None
        if not had:
            return self.provider
        made = resolve(SECRET_PROVIDERS, self.provider, references, had.__getitem__)
        if isinstance(made, Rejected):
            raise Unusable(f"the provider {self.provider.identity} cannot be used: {made.message}")
        return made


@dataclass(frozen=True, slots=True)
class Turnover:
    """What another set of providers means for what is known of secrets."""

    names_changed: bool
    """References may lead to other providers now."""
    renewed: Mapping[str, bool]
    """Providers that came, went or were changed; whether it is still the same place that is asked."""


class Clients:
    """The clients of all providers, by `<manager>/<name>`."""

    def __init__(self, making: Making, log: Logger) -> None:
        self._making = making
        self._log = log
        self._clients: dict[str, Client] = {}
        self._retired: list[Client] = []
        self.names: Mapping[str, frozenset[str]] = MappingProxyType({})
        """The names of all providers that each manager has."""

    def get(self, identity: str) -> Client | None:
        """The client of a provider."""
        return self._clients.get(identity)

    def update(self, providers: Mapping[str, SecretProvider]) -> Turnover:
        """Have clients for these providers and no others. Those that did not change keep theirs."""
        renewed: dict[str, bool] = {}
        for identity in self._clients.keys() | providers.keys():
            old, new = self._clients.get(identity), providers.get(identity)
            if old is not None and old.provider == new:
                continue
            renewed[identity] = old is not None and new is not None and same_place(old.provider, new)
            if old is not None:
                old.retired = True
                self._retired.append(self._clients.pop(identity))
            if new is not None:
                self._clients[identity] = Client(new, self._making, self._log)
        names = names_by_manager(self._clients)
        changed, self.names = names != self.names, names
        return Turnover(changed, renewed)

    def idle(self) -> list[Client]:
        """Retired clients that nobody uses any more, each told once: to be closed."""
        if not self._retired:
            return []
        idle = [client for client in self._retired if not client.used]
        self._retired = [client for client in self._retired if client.used]
        return idle

    async def aclose(self) -> None:
        """Close all of them."""
        await asyncio.gather(*(client.aclose() for client in (*self._clients.values(), *self._retired)))


def same_place(one: SecretProvider, other: SecretProvider) -> bool:
    """Whether both ask at the same place, whatever they show there to be let in."""
    return _place(one) == _place(other)


def _place(provider: SecretProvider) -> SecretProvider:
    bare = with_secrets(provider, lambda at, secret: _BLANK)
    return msgspec.structs.replace(bare, auth=None) if "auth" in bare.__struct_fields__ else bare


def names_by_manager(identities: Iterable[str]) -> Mapping[str, frozenset[str]]:
    """The names of all providers that each manager has."""
    found: dict[str, set[str]] = {}
    for identity in identities:
        manager, _, name = identity.partition("/")
        found.setdefault(manager, set()).add(name)
    return {manager: frozenset(names) for manager, names in found.items()}


def _last_line(error: BaseException) -> str:
    """Where an error was raised, as `file:line`."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{PurePath(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
