"""Stored secrets through the whole admin, on a real etcd: nothing in clear, whatever is called, and whoever writes."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pytest

from aisix_common.resources import ALL_KINDS
from aisix_common.secret import MASK
from aisix_common.secrets.canary import canary_row
from aisix_common.secrets.envelope import NO_KEYRING, Keyring, key_id_of
from aisix_common.settings import Secrets
from aisix_common.settings.control import SecretProvider
from aisix_common.store.client import EtcdClient
from aisix_common.store.types import Compare, Operation, TransactionResult

from tests.support.admin import KEYRING, RunningAdmin, running_admin
from tests.support.counting import Counting
from tests.support.documents import CANARIES, SET
from tests.support.etcd import EtcdServer

VAULT_TOKEN = "hvs-canary-vault-token-77b0"
VAULT = {
    "manager": "vault",
    "name": "main",
    "uri": "https://vault.example.com",
    "auth": {"method": "token", "token": VAULT_TOKEN},
}
CALLER_KEY = "sk-canary-caller-key-1b7d"
PLANTED = (*CANARIES, VAULT_TOKEN, CALLER_KEY)
PROVIDER = {"display_name": "p", "api_key": "canary-first", "request": {"default_headers": {"x": "canary-header"}}}
OTHERS = Keyring([("theirs", bytes(32))])


async def dump(admin: RunningAdmin) -> dict[str, bytes]:
    """Every row under all roots."""
    found = [await admin.etcd.range(f"{root}{admin.prefix}/") for root in ("", "/ext", "/run")]
    return {row.key: row.value for each in found for row in each.rows}


async def nothing_in_clear(admin: RunningAdmin) -> None:
    rows = await dump(admin)
    for canary in PLANTED:
        holding = [key for key, value in rows.items() if canary.encode() in value]
        assert not holding, f"{canary} in {holding}"
        assert canary not in admin.logged


async def done(admin: RunningAdmin, method: str, path: str, body: object = None) -> Any:
    status, answer = await admin.call(method, path, body)
    assert status == 200, (method, path, answer)
    return answer


async def test_nothing_lies_in_clear_whatever_is_called(admin: RunningAdmin) -> None:
    members = [{"kind": "secret_providers", "id": "secret_providers-1", "value": VAULT}, *(each.member for each in SET)]
    await done(admin, "POST", "/apply", {"resources": members})
    await nothing_in_clear(admin)
    changes: dict[str, Mapping[str, Any]] = {each.kind: each.changed for each in SET}
    changes["secret_providers"] = {"kv_version": "v1"}
    for kind in ALL_KINDS:
        path = f"/{kind.name}/{kind.name}-1"
        first = await admin.opened(kind.name, f"{kind.name}-1")
        patched = await done(admin, "PATCH", path, changes[kind.name])
        shown = await done(admin, "GET", path)
        assert shown == patched and not any(canary in json.dumps(shown) for canary in PLANTED)
        await done(admin, "PUT", path, shown["value"])
        await done(admin, "POST", f"{path}/rollback", {"version": 1})
        assert await admin.opened(kind.name, f"{kind.name}-1") == first, "its secrets are those it had"
    await nothing_in_clear(admin)

    again = await done(admin, "POST", "/apply", {"resources": members})
    assert {each["action"] for each in again["results"]} == {"unchanged"}, "what is sealed is what was sent"
    exported = await done(admin, "GET", "/export")
    assert not any(canary in json.dumps(exported) for canary in PLANTED)
    await done(admin, "POST", "/api_keys/api_keys-1/rotate", {"overlap_seconds": 60})
    await done(admin, "PATCH", "/api_keys/api_keys-1", {"key": CALLER_KEY})
    for member in reversed(members):
        await done(admin, "DELETE", f"/{member['kind']}/{member['id']}")
    for member in members:
        also = {} if member["kind"] == "api_keys" else {"set": member["value"]}
        await done(admin, "POST", f"/{member['kind']}/{member['id']}/restore", also)
    await nothing_in_clear(admin)
    await done(admin, "DELETE", "/a2a_agents/a2a_agents-1?purge=true")
    await nothing_in_clear(admin)


async def test_the_audit_of_what_stays_the_same(admin: RunningAdmin) -> None:
    entry = await admin.create("provider_keys", PROVIDER)
    path = f"/provider_keys/{entry['id']}"
    await done(admin, "PUT", path, {**PROVIDER, "strip_headers": ["cookie"]})
    await done(admin, "PUT", path, {**PROVIDER, "api_key": "canary-second", "strip_headers": ["cookie"]})
    versions = (await done(admin, "GET", f"{path}/history"))["versions"]
    assert [each["changed"] for each in versions[:2]] == [["/api_key"], ["/strip_headers"]]


async def test_another_keyring_writes_nothing(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with (
        running_admin(etcd.endpoint, etcd_prefix) as admin,
        running_admin(etcd.endpoint, etcd_prefix, keyring=OTHERS) as stranger,
    ):
        entry = await admin.create("provider_keys", PROVIDER)
        path, before = f"/provider_keys/{entry['id']}", await dump(admin)
        for method, at, body in (
            ("POST", "/provider_keys", {**PROVIDER, "display_name": "q"}),
            ("PUT", path, {**PROVIDER, "api_key": "canary-second"}),
            ("PATCH", path, {"api_key": "canary-second"}),
            ("POST", "/apply", {"resources": [{"kind": "secret_providers", "value": VAULT}]}),
        ):
            status, answer = await stranger.call(method, at, body)
            assert status == 409 and 'key "test"' in answer["error_msg"], answer
        assert await dump(admin) == before

        # Whoever cannot open the secrets still keeps them: nothing is opened on the way.
        assert await done(stranger, "GET", path) == entry
        sealed = json.loads(before[f"{etcd_prefix}{path}"])
        whole = {**entry["value"], "strip_headers": ["y"]}
        for method, sent in (("PATCH", {"strip_headers": ["x"]}), ("PUT", whole)):
            await done(stranger, method, path, sent)
            row = json.loads((await dump(admin))[f"{etcd_prefix}{path}"])
            assert (row["api_key"], row["request"]) == (sealed["api_key"], sealed["request"])
        await done(stranger, "POST", f"{path}/rollback", {"version": 1})
        assert (await admin.opened("provider_keys", entry["id"]))["api_key"] == "canary-first"
        assert (await stranger.call("PUT", path, {**entry["value"], "api_base": "https://e.example"}))[0] == 400
        await done(stranger, "DELETE", path)


async def test_of_two_first_writers_one_decides_the_keyring(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with (
        running_admin(etcd.endpoint, etcd_prefix) as one,
        running_admin(etcd.endpoint, etcd_prefix, keyring=OTHERS) as other,
    ):
        sent = [(each, {**PROVIDER, "display_name": f"{each.url}-{n}"}) for n in range(3) for each in (one, other)]
        answers = await asyncio.gather(*(each.call("POST", "/provider_keys", document) for each, document in sent))
        assert sorted(status for status, _ in answers) == [200] * 3 + [409] * 3
        rows = await dump(one)
        used = {
            key_id_of(json.loads(value)["api_key"])
            for key, value in rows.items()
            if key.startswith(f"{etcd_prefix}/provider_keys/")
        }
        assert used == {json.loads(rows[f"/run{etcd_prefix}/keyring"])["key"]}


class Interrupted(Counting):
    """Before its first transaction something else happens."""

    def __init__(self, client: EtcdClient, first: Callable[[EtcdClient], Any]) -> None:
        super().__init__(client)
        self._first: Callable[[EtcdClient], Any] | None = first

    async def txn(
        self, compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation] = ()
    ) -> TransactionResult:
        if self._first is not None:
            first, self._first = self._first, None
            await first(self._client)
        return await super().txn(compare, success, failure)


@pytest.mark.parametrize("keyring", [OTHERS, KEYRING])
async def test_a_canary_that_comes_between_look_and_commit(
    etcd: EtcdServer, etcd_prefix: str, keyring: Keyring
) -> None:
    def via(client: EtcdClient) -> Interrupted:
        return Interrupted(client, lambda real: real.put(f"/run{etcd_prefix}/keyring", canary_row(keyring)))

    async with running_admin(etcd.endpoint, etcd_prefix, via=via) as admin:
        status, answer = await admin.call("POST", "/provider_keys", PROVIDER)
        assert status == (200 if keyring is KEYRING else 409), answer
        assert ((await admin.etcd.range(f"{etcd_prefix}/")).rows != ()) is (keyring is KEYRING)


async def test_a_keyring_that_is_rotated_while_running(etcd: EtcdServer, etcd_prefix: str) -> None:
    older, newer = ("k1", b"1" * 32), ("k2", b"2" * 32)
    rings = [Keyring([older])]
    async with running_admin(etcd.endpoint, etcd_prefix, keyring=lambda: rings[-1]) as admin:
        entry = await admin.create("provider_keys", PROVIDER)
        path, key = f"/provider_keys/{entry['id']}", f"{etcd_prefix}/provider_keys/{entry['id']}"

        async def used() -> tuple[str, str]:
            row = json.loads((await dump(admin))[key])
            return key_id_of(row["api_key"]), key_id_of(row["request"]["default_headers"]["x"])

        assert await used() == ("k1", "k1")
        rings.append(Keyring([newer, older]))
        await done(admin, "PATCH", path, {"strip_headers": []})
        assert await used() == ("k1", "k1"), "what is kept is not opened"
        await done(admin, "PATCH", path, {"api_key": "canary-second"})
        assert await used() == ("k2", "k1")
        await admin.create("provider_keys", {**PROVIDER, "display_name": "q"})
        rings.append(Keyring([newer]))
        assert (await done(admin, "GET", path))["value"]["api_key"] == MASK
        await done(admin, "PATCH", path, {"strip_headers": ["x"]})
        assert await used() == ("k2", "k1"), "its key is gone, and it is kept for the day it comes back"
        status, answer = await admin.call("PATCH", path, {"api_key": "canary-third"})
        assert status == 409 and 'key "k1", which is not in this service' in answer["error_msg"]


async def test_without_a_keyring(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with running_admin(etcd.endpoint, etcd_prefix, keyring=NO_KEYRING) as admin:
        status, answer = await admin.call("POST", "/provider_keys", PROVIDER)
        assert status == 409 and "secrets.keyring" in answer["error_msg"] and "canary" not in json.dumps(answer)
        assert [each["path"] for each in answer["errors"]] == ["/api_key", "/request/default_headers/x"]
        assert await dump(admin) == {}
        entry = await admin.create("provider_keys", {"display_name": "p", "api_key": "$env://AISIX_SECRET_P"})
        assert entry["value"]["api_key"] == "$env://AISIX_SECRET_P"
        await admin.create("api_keys", {"allowed_models": ["*"]})
    allowed = Secrets(allow_plaintext=True)
    async with running_admin(etcd.endpoint, etcd_prefix, keyring=NO_KEYRING, secrets=allowed) as admin:
        entry = await admin.create("provider_keys", {**PROVIDER, "display_name": "q"})
        key = f"{etcd_prefix}/provider_keys/{entry['id']}"
        assert b"canary-first" in (await dump(admin))[key]
    async with running_admin(etcd.endpoint, etcd_prefix) as admin:
        await done(admin, "PATCH", f"/provider_keys/{entry['id']}", {"strip_headers": []})
        assert b"canary" not in (await dump(admin))[key], "the first edit with a keyring encrypts it"


async def test_a_provider_that_is_used_stays(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with running_admin(etcd.endpoint, etcd_prefix) as admin:
        provider = await admin.create("secret_providers", VAULT)
        at = f"/secret_providers/{provider['id']}"
        caller = await admin.create("api_keys", {"key": "$secret://vault/main/callers/one", "allowed_models": []})
        entry = await admin.create("provider_keys", {**PROVIDER, "api_key": "$secret://vault/main/kv/p"})
        for method, body in (("DELETE", None), ("PATCH", {"name": "other"})):
            status, answer = await admin.call(method, at, body)
            assert status == 409 and f"api_keys {caller['id']}" in answer["error_msg"], answer
            assert f"provider_keys {entry['id']}" in answer["error_msg"]
        await done(admin, "PATCH", at, {"kv_version": "v1"})
        await done(admin, "DELETE", f"/api_keys/{caller['id']}")
        await done(admin, "PATCH", f"/provider_keys/{entry['id']}", {"api_key": "canary-second"})
        await done(admin, "DELETE", at)
        back = {"api_key": "$secret://vault/main/kv/p"}
        status, answer = await admin.call("PATCH", f"/provider_keys/{entry['id']}", back)
        assert status == 400 and answer["errors"][0]["path"] == "/api_key"


def _there(known: Callable[[str], object], id: str) -> bool:
    return known(id) is not None


async def test_references_and_their_provider_take_turns(etcd: EtcdServer, etcd_prefix: str) -> None:
    """Two admins: whichever comes second sees the other, although they write under different roots."""
    async with running_admin(etcd.endpoint, etcd_prefix) as one, running_admin(etcd.endpoint, etcd_prefix) as other:
        for n in range(6):
            provider = await one.create("secret_providers", {**VAULT, "name": f"v{n}"})
            sent = {**PROVIDER, "display_name": f"p{n}", "api_key": f"$secret://vault/v{n}/kv/p"}
            follower, known = other.services.follower, partial(other.services.follower.index.get, "secret_providers")
            async with asyncio.timeout(5):
                await follower.until(partial(_there, known, provider["id"]))
            (made, _), (gone, _) = await asyncio.gather(
                other.call("POST", "/provider_keys", sent), one.call("DELETE", f"/secret_providers/{provider['id']}")
            )
            assert (made, gone) in ((200, 409), (400, 200)), "never a reference to nothing"


async def test_providers_of_the_configuration_are_there(etcd: EtcdServer, etcd_prefix: str) -> None:
    configured = Secrets(providers=(SecretProvider(id="static", manager="aws"),))
    async with running_admin(etcd.endpoint, etcd_prefix, secrets=configured) as admin:
        entry = await admin.create("provider_keys", {**PROVIDER, "api_key": "$secret://aws/static/team/key"})
        assert entry["value"]["api_key"] == "$secret://aws/static/team/key"
        row = await admin.create("secret_providers", {"manager": "aws", "name": "static"})
        await done(admin, "DELETE", f"/secret_providers/{row['id']}")
        assert (await admin.call("GET", "/secret_providers"))[1] == [], "those of the configuration are no rows"
