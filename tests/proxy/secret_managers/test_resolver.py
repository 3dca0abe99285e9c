"""Snapshots with references in, snapshots with secrets out: with a scripted manager, on a clock that jumps."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import pytest

from aisix_common.resources import EXTERNAL_KINDS, ApiKey, ProviderKey, SecretProvider, hash_key
from aisix_common.snapshot import Snapshot, build, empty
from aisix_common.store.types import KeyValue, Listing
from aisix_common.tasks import TaskOwner
from aisix_proxy.secret_managers.base import Away, NoSuchSecret, Refused
from aisix_proxy.secret_managers.cache import Timing
from aisix_proxy.secret_managers.resolver import START_SECONDS, Resolver, Setup, path_of

from .scripted import Manager, making, vault
from tests.common.sources.support import Log, SetClock
from tests.support.builders import NOON, Row, api_key, changed, provider_key, snapshot_of

pytestmark = pytest.mark.looptime

TIMING: Final = Timing(refresh=100, retry=4, stale_max=300, timeout=5)
REF: Final = "$secret://vault/v/a/k"
FETCHING: Final = "/api_key is being fetched"


def external(*providers: Mapping[str, Any], bad: int = 0) -> Snapshot:
    rows = [
        KeyValue(f"/ext/aisix/secret_providers/{n}", json.dumps(document).encode(), n + 1, n + 1)
        for n, document in enumerate(providers)
    ]
    rows += [KeyValue(f"/ext/aisix/secret_providers/bad-{n}", b"{}", 90 + n, 90 + n) for n in range(bad)]
    return build(Listing(tuple(rows), 100), empty("/ext/aisix", EXTERNAL_KINDS), NOON)


def row(name: str = "v", **fields: Any) -> dict[str, Any]:
    document = {"manager": "vault", "name": name, "uri": "http://127.0.0.1:9"}
    return document | {"auth": {"method": "token", "token": "t"}} | fields


class Stage:
    """A resolver at work, and what came out of it."""

    def __init__(
        self,
        secrets: Mapping[str, str | BaseException] | None = None,
        *,
        configured: tuple[SecretProvider, ...] = (),
        environ: Mapping[str, str] | None = None,
        timing: Timing = TIMING,
    ) -> None:
        self.manager = Manager(dict(secrets or {}), delay=0.01)
        self.log = Log()
        self.published: list[Snapshot] = []
        self.told: list[tuple[str, str, float]] = []
        self.ready = 0
        self.failing = False
        setup = Setup(
            timing=timing,
            making=making(self.manager, environ, timing.timeout),
            configured=configured,
            clock=SetClock(),
            random=lambda: 0.0,
            log=self.log.log,
            tell=lambda *told: self.told.append(told),
        )
        self.resolver = Resolver("/aisix", setup, self.publish, self.on_ready)

    def publish(self, snapshot: Snapshot) -> None:
        if self.failing:
            raise ValueError("a mistake")
        self.published.append(snapshot)

    def on_ready(self) -> None:
        self.ready += 1

    @asynccontextmanager
    async def playing(self, *providers: Mapping[str, Any]) -> AsyncIterator["Stage"]:
        """With the providers known; without any, they are still to come."""
        async with TaskOwner() as tasks:
            if providers:
                self.resolver.providers(external(*providers))
            tasks.spawn(self.resolver.run(), name="resolver")
            yield self
        await self.resolver.aclose()

    def feed(self, *rows: Row) -> None:
        self.resolver.base(changed(self._base, *rows) if self.published else snapshot_of(*rows))

    @property
    def _base(self) -> Snapshot:
        base = self.resolver._base
        assert base is not None
        return base

    def secret(self, id: str = "pk-1") -> str | None:
        """What is served for a provider key; None: it is out of service."""
        entry = self.published[-1].table(ProviderKey).by_id.get(id)
        return None if entry is None else entry.value.api_key.reveal()

    def why(self, key: str = "provider_keys/pk-1") -> str | None:
        """Why a row is out of service."""
        found = self.published[-1].rejected.get(f"/aisix/{key}")
        return None if found is None else found.message


async def test_without_references_a_snapshot_passes_through() -> None:
    stage = Stage()
    snapshot = snapshot_of(provider_key(), api_key())
    stage.resolver.base(snapshot)
    assert stage.published == [snapshot]
    assert stage.ready == 1
    async with stage.playing():
        await asyncio.sleep(START_SECONDS + 100)
        after = changed(snapshot, provider_key(api_key="sk-2"))
        stage.resolver.base(after)
        assert stage.published == [snapshot, after]
    assert (stage.ready, stage.manager.made) == (1, [])
    assert dict(stage.resolver.counts()) == {"pending": 0, "good": 0, "stale": 0, "failed": 0}


async def test_a_row_is_served_once_its_secret_is_there() -> None:
    async with Stage({"v/a/k": "sk-1\n"}).playing(row()) as stage:
        stage.feed(provider_key(api_key=REF), api_key())
        assert (stage.secret(), stage.why(), stage.ready) == (None, FETCHING, 0)
        assert stage.published[-1].table(ApiKey).by_id["key-1"], "other rows do not wait"
        await asyncio.sleep(0.2)
        assert (stage.secret(), stage.why(), stage.ready) == ("sk-1", None, 1)
        assert stage.published[-1].touched == {"provider_keys": frozenset({"pk-1"})}
        assert [told[:2] for told in stage.told] == [("vault", "ok")]
        stage.feed(provider_key(api_key="plain"))
        assert stage.secret() == "plain"
        assert sum(stage.resolver.counts().values()) == 0
        await asyncio.sleep(1000)
        assert stage.manager.asked == ["v/a/k"], "what nobody needs is not fetched"


async def test_the_customers_example_is_a_caller_key_that_is_rotated_in_its_manager() -> None:
    reference = "$secret://vault/api-key-path/my-key"
    async with Stage({"v/api-key-path/my-key": "sk-caller-1"}).playing(row()) as stage:
        stage.feed(api_key(key_hash=reference))
        await asyncio.sleep(0.2)

        def opens(text: str) -> bool:
            return hash_key(text) in stage.published[-1].table(ApiKey).by_name

        assert opens("sk-caller-1")
        assert not opens(reference)
        stage.manager.secrets["v/api-key-path/my-key"] = "sk-caller-2"
        await asyncio.sleep(100)
        assert opens("sk-caller-2")
        assert not opens("sk-caller-1")
        stage.manager.secrets["v/api-key-path/my-key"] = "short"
        await asyncio.sleep(100)
        assert len(stage.published[-1].table(ApiKey).by_name) == 0
        assert stage.why("api_keys/key-1") == "/key_hash leads to a key that does not have 8 to 4096 characters"


@pytest.mark.parametrize("trouble", [Away("is sealed"), Refused("403")])
async def test_a_manager_that_is_away(trouble: Away | Refused) -> None:
    async with Stage({"v/a/k": "sk-1"}).playing(row()) as stage:
        stage.feed(provider_key(api_key=REF))
        await asyncio.sleep(1)
        stage.manager.trouble = trouble
        await asyncio.sleep(200)
        assert (stage.secret(), stage.why()) == ("sk-1", None)
        (told,) = stage.resolver.report().troubles
        assert (told.reference, told.state, told.reason) == (REF, "stale", str(trouble))
        await asyncio.sleep(200)
        assert stage.secret() is None
        assert (stage.why() or "").startswith(f"/api_key {trouble}")
        stage.manager.trouble = None
        await asyncio.sleep(61)
        assert (stage.secret(), stage.why()) == ("sk-1", None)
    said = [line["event"].split(":")[0] for line in stage.log.lines]
    assert said == ["secrets cannot be fetched", "secrets are not to be had", "secrets are had again"]


async def test_a_secret_that_is_gone_is_out_at_once() -> None:
    async with Stage({"v/a/k": "sk-1"}).playing(row()) as stage:
        stage.feed(provider_key(api_key=REF))
        await asyncio.sleep(1)
        del stage.manager.secrets["v/a/k"]
        await asyncio.sleep(100)
        assert (stage.secret(), stage.why()) == (None, "/api_key there is no secret v/a/k")


async def test_what_was_never_had_is_out_and_asked_for_again() -> None:
    async with Stage().playing(row()) as stage:
        stage.manager.trouble = Away("no route")
        stage.feed(provider_key(api_key=REF))
        await asyncio.sleep(1)
        assert (stage.secret(), stage.why(), stage.ready) == (None, "/api_key no route", 1)
        stage.manager.trouble, stage.manager.secrets["v/a/k"] = None, "sk-1"
        await asyncio.sleep(5)
        assert stage.secret() == "sk-1"


async def test_while_a_changed_reference_is_fetched_the_row_is_served_as_before() -> None:
    async with Stage({"v/a/k": "sk-1", "v/b/k": "sk-2"}).playing(row()) as stage:
        stage.feed(provider_key(api_key=REF))
        await asyncio.sleep(1)
        stage.manager.delay = 3
        stage.feed(provider_key(api_key="$secret://vault/v/b/k"))
        assert (stage.secret(), stage.why()) == ("sk-1", None)
        await asyncio.sleep(4)
        assert stage.secret() == "sk-2"
        stage.manager.delay = 3600
        stage.feed(provider_key(api_key="$secret://vault/v/c/k"))
        await asyncio.sleep(4.9)
        assert stage.secret() == "sk-2"
        await asyncio.sleep(0.3)
        assert stage.secret() is None, "but no longer than a fetch may take"


async def test_a_key_that_is_disabled_does_not_wait_for_its_changed_reference() -> None:
    other = REF.replace("/k", "/slow")
    stage = Stage({"v/a/k": "caller-key-1", "v/a/slow": "caller-key-2"})
    async with stage.playing(row()):
        stage.feed(("api_keys", "key-1", {"key_hash": REF, "allowed_models": ["*"]}))
        await asyncio.sleep(1)
        served = stage.published[-1].table(ApiKey).by_id
        assert "key-1" in served
        stage.feed(("api_keys", "key-1", {"key_hash": other, "allowed_models": ["*"], "disabled": True}))
        assert "key-1" not in stage.published[-1].table(ApiKey).by_id
        await asyncio.sleep(1)
        assert stage.published[-1].table(ApiKey).by_id["key-1"].value.disabled


async def test_a_row_made_anew_is_another_row() -> None:
    async with Stage({"v/a/k": "sk-1", "v/b/k": "sk-2"}).playing(row()) as stage:
        stage.feed(provider_key(api_key=REF))
        await asyncio.sleep(1)
        value = json.dumps(provider_key(api_key="$secret://vault/v/b/k")[2]).encode()
        anew = KeyValue("/aisix/provider_keys/pk-1", value, 50, 50)
        stage.resolver.base(build(Listing((anew,), 50), stage._base, NOON))
        assert (stage.secret(), stage.why()) == (None, FETCHING)
        await asyncio.sleep(1)
        assert stage.secret() == "sk-2"


async def test_a_provider_that_is_changed_is_asked_at_once() -> None:
    async with Stage({"v/a/k": "sk-1"}).playing(row()) as stage:
        stage.feed(provider_key(api_key=REF))
        await asyncio.sleep(1)
        stage.manager.secrets["v/a/k"] = "sk-2"
        stage.resolver.providers(external(row(uri="http://127.0.0.1:10")))
        assert stage.secret() == "sk-1"
        await asyncio.sleep(0.2)
        assert stage.secret() == "sk-2"
        assert [provider.uri for provider in stage.manager.made] == ["http://127.0.0.1:9", "http://127.0.0.1:10"]
        assert [provider.uri for provider in stage.manager.closed] == ["http://127.0.0.1:9"]


@pytest.mark.parametrize(
    ("change", "served"), [({"auth": {"method": "token", "token": "t2"}}, "sk-1"), ({"mount": "other"}, None)]
)
async def test_a_changed_provider_that_is_away(change: dict[str, Any], served: str | None) -> None:
    async with Stage({"v/a/k": "sk-1"}).playing(row()) as stage:
        stage.feed(provider_key(api_key=REF))
        await asyncio.sleep(1)
        stage.manager.trouble = Away("no route")
        stage.resolver.providers(external(row(**change)))
        await asyncio.sleep(1)
        assert stage.secret() == served, "what was had elsewhere says nothing of the new place"


async def test_a_provider_that_is_gone() -> None:
    async with Stage({"v/a/k": "sk-1"}).playing(row()) as stage:
        stage.feed(provider_key(api_key=REF))
        await asyncio.sleep(1)
        stage.resolver.providers(external(bad=2))
        await asyncio.sleep(0.1)
        why = stage.why()
        assert stage.secret() is None
        assert why is not None
        assert "no secret conf: there is no vault provider" in why
        assert "2 rows of secret_providers are out of service" in why
        stage.manager.secrets["v/a/k"] = "sk-2"
        stage.resolver.providers(external(row()))
        await asyncio.sleep(0.2)
        assert stage.secret() == "sk-2", "nothing is remembered of a provider that was gone"


@pytest.mark.parametrize(
    ("text", "providers", "asked", "said"),
    [
        ("$secret://vault/v/a/k", ["v", "w"], "v/a/k", None),
        ("$SECRET://vault/v/a/k", ["v", "w"], "v/a/k", None),
        ("$secret://vault/a/k", ["v"], "v/a/k", None),
        ("$secret://vault/a/k", ["default", "w"], "default/a/k", None),
        ("$secret://vault/a/k", ["v", "w"], None, "/api_key no secret conf: its first segment is no vault provider"),
        ("$secret://aws/a/k", ["v"], None, "/api_key no secret conf: there is no aws provider"),
        ("$secret://nothing/a/k", ["v"], None, "/api_key names no secret manager that is known here"),
        ("$secret://", ["v"], None, "/api_key error format: no secret manager"),
        ("$secret://vault/v/a/../k", ["v"], None, "/api_key error format"),
        ("$env://AISIX_SECRET_K", ["v"], None, None),
        ("$ENV://AISIX_SECRET_J/key", ["v"], None, None),
        ("$env://AISIX_SECRET_NONE", ["v"], None, "/api_key names a variable that is not set"),
        ("$env://HOME", ["v"], None, "/api_key names a variable that secrets.env_allow does not offer"),
        ("$env://AISIX_ADMIN__KEY", ["v"], None, "/api_key names a variable of the gateway's own configuration"),
    ],
)
async def test_where_references_lead(text: str, providers: list[str], asked: str | None, said: str | None) -> None:
    secrets = {f"{name}/a/k": "sk-1" for name in ("v", "w", "default")}
    environ = {"AISIX_SECRET_K": "sk-1", "AISIX_SECRET_J": '{"key":"sk-1"}', "HOME": "/root", "AISIX_ADMIN__KEY": "k"}
    async with Stage(secrets, environ=environ).playing(*(row(name) for name in providers)) as stage:
        stage.feed(provider_key(api_key=text))
        await asyncio.sleep(1)
        assert stage.manager.asked == ([asked] if asked else [])
        assert stage.secret() == (None if said else "sk-1")
        assert (stage.why() or "").startswith(said or "")
        assert stage.resolver.counts()["failed"] == bool(said)


async def test_providers_that_are_not_read_yet_are_waited_for() -> None:
    async with Stage({"v/a/k": "sk-1"}).playing() as stage:
        stage.feed(provider_key(api_key=REF))
        await asyncio.sleep(1)
        assert (stage.why(), stage.ready) == (FETCHING, 0)
        stage.resolver.providers(external(row()))
        await asyncio.sleep(0.2)
        assert (stage.secret(), stage.ready) == ("sk-1", 1)


async def test_but_not_for_ever_and_those_of_the_file_are_there() -> None:
    async with Stage({"v/a/k": "sk-1"}, configured=(vault(),)).playing() as stage:
        stage.feed(provider_key(api_key=REF), provider_key("pk-2", api_key="$secret://vault/w/a/k", display_name="b"))
        await asyncio.sleep(START_SECONDS - 0.1)
        assert stage.ready == 0
        await asyncio.sleep(0.3)
        assert (stage.ready, stage.secret()) == (1, "sk-1")
        assert stage.secret("pk-2") is None
        assert "were not read from etcd yet" in (stage.why("provider_keys/pk-2") or "")
        stage.manager.secrets["w/a/k"] = "sk-2"
        stage.resolver.providers(external(row("w"), row("v", uri="http://127.0.0.1:10")))
        await asyncio.sleep(0.2)
        assert (stage.secret(), stage.secret("pk-2")) == ("sk-1", "sk-2")
        assert {provider.uri for provider in stage.manager.made} == {"http://127.0.0.1:9"}, "the file's word counts"


async def test_a_provider_that_is_out_of_service_is_not_made_up_for_by_the_only_other_one() -> None:
    wrong = {"v/w/a/k": "sk-of-another-provider"}
    async with Stage(wrong).playing(row(), row("w", uri="no url")) as stage:
        stage.feed(provider_key(api_key="$secret://vault/w/a/k"))
        await asyncio.sleep(0.2)
        assert (stage.secret(), stage.manager.asked) == (None, [])
        assert "provider vault/w, which is out of service" in (stage.why() or "")
        stage.resolver.providers(external(row()))
        await asyncio.sleep(0.2)
        assert stage.secret() == wrong["v/w/a/k"], "there is no such provider: it is the short form"


async def test_why_a_provider_may_be_missing_is_told_for_as_long_as_it_is_so() -> None:
    async with Stage().playing() as stage:
        stage.feed(provider_key(api_key=REF))
        told = []
        for providers in (external(bad=2), external(bad=1), external()):
            stage.resolver.providers(providers)
            await asyncio.sleep(0.2)
            told.append((stage.why() or "").partition("(")[2].partition(" of")[0])
        assert told == ["2 rows", "1 rows", ""]


async def test_a_start_does_not_wait_for_a_manager_that_hangs() -> None:
    async with Stage({"v/a/k": "sk-1"}, timing=replace(TIMING, timeout=60)).playing(row()) as stage:
        stage.manager.delay = 3600
        stage.feed(provider_key(api_key=REF))
        await asyncio.sleep(START_SECONDS - 0.1)
        assert stage.ready == 0
        await asyncio.sleep(0.2)
        assert (stage.ready, stage.why()) == (1, FETCHING)


async def test_outcomes_are_served_together() -> None:
    many = 100
    secrets = {f"v/{n}/k": f"sk-{n}" for n in range(many)}
    async with Stage(secrets).playing(row()) as stage:
        rows = [provider_key(f"pk-{n}", display_name=f"{n}", api_key=f"$secret://vault/v/{n}/k") for n in range(many)]
        stage.feed(*rows)
        await asyncio.sleep(1)
        assert all(stage.secret(f"pk-{n}") == f"sk-{n}" for n in range(many))
        assert len(stage.published) <= 8
        before = len(stage.published)
        await asyncio.sleep(950)
        assert len(stage.published) == before, "what is fetched again and is the same changes nothing"


async def test_one_secret_of_many_rows_is_fetched_once() -> None:
    async with Stage({"v/a/k": "sk-1"}).playing(row()) as stage:
        stage.feed(*(provider_key(f"pk-{n}", display_name=f"{n}", api_key=REF) for n in range(1200)))
        await asyncio.sleep(1)
        assert stage.manager.asked == ["v/a/k"]
        assert all(stage.secret(f"pk-{n}") == "sk-1" for n in range(1200))


async def test_a_consumer_that_fails_gets_the_next_one_whole() -> None:
    async with Stage({"v/a/k": "sk-1"}).playing(row()) as stage:
        stage.feed(provider_key(api_key=REF))
        stage.failing = True
        await asyncio.sleep(1)
        assert stage.log.said("a new configuration could not be put to use")
        assert (stage.secret(), stage.ready) == (None, 0)
        stage.failing = False
        stage.feed(api_key())
        assert (stage.secret(), stage.published[-1].touched, stage.ready) == ("sk-1", None, 1)


async def test_one_key_of_two_rows_is_the_older_ones() -> None:
    async with Stage({"v/a/k": "sk-caller-1"}).playing(row()) as stage:
        stage.feed(api_key("sk-caller-1", "plain"), api_key(id="referring", key_hash=REF))
        await asyncio.sleep(1)
        table = stage.published[-1].table(ApiKey)
        assert len(table.by_name) == 1
        assert sorted(shadowed for shadowed, _ in table.shadowed()) == ["referring"]


async def test_a_manager_names_the_lifetime_of_a_secret() -> None:
    async with Stage({"v/a/k": "sk-1"}).playing(row()) as stage:
        stage.manager.lifetime = 10
        stage.feed(provider_key(api_key=REF))
        await asyncio.sleep(1)
        stage.manager.secrets["v/a/k"] = "sk-2"
        await asyncio.sleep(10)
        assert stage.secret() == "sk-2"


async def test_no_secret_is_told_of() -> None:
    async with Stage({"v/a/k": "sk-canary\nx", "v/b/k": NoSuchSecret("no")}).playing(row()) as stage:
        stage.feed(provider_key(api_key=REF), provider_key("pk-2", display_name="b", api_key="$secret://vault/v/b/k"))
        await asyncio.sleep(10)
        told = (stage.resolver.report(), stage.log.lines, list(stage.published[-1].rejected.values()), stage.why())
        assert "canary" not in repr(told)


def test_the_path_of_a_reference() -> None:
    assert path_of("$secret://vault/v/a/b/k") == ("a", "b", "k")
