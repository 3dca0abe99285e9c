"""Key-value secrets of a real OpenBao, which speaks Vault's API, in every state it can be brought into; and what only a
scripted server can be made to say."""

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web

from aisix_common.resources import SECRET_PROVIDERS, check
from aisix_common.resources.secret_providers import Vault, VaultKubernetes, VaultToken
from aisix_common.secret import Secret
from aisix_proxy.secret_managers.base import Away, Context, Fetched, NoSuchSecret, Refused, Unresolved, Unusable
from aisix_proxy.secret_managers.vault import VaultClient

from .scripted_api import Asked, SetClock, context, reply, scripted_api
from tests.support.openbao import OpenBao

pytestmark = pytest.mark.xdist_group("openbao")

CANARY = "sk-canary-77aa"

Open = Callable[..., VaultClient]


def provider(uri: str, **fields: Any) -> Vault:
    """As it comes out of a row."""
    document = {"manager": "vault", "name": "main", "uri": uri, **fields}
    document.setdefault("auth", {"method": "token", "token": CANARY})
    found = check(SECRET_PROVIDERS, document)
    assert isinstance(found, Vault)
    return found


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    """Makes clients, and closes them."""
    async with AsyncExitStack() as stack:

        def make(uri: str | OpenBao, built_on: Context | None = None, **fields: Any) -> VaultClient:
            if isinstance(uri, OpenBao):
                fields.setdefault("auth", {"method": "token", "token": uri.root_token})
                uri = uri.address
            client = VaultClient(provider(uri, **fields), built_on or context())
            stack.push_async_callback(client.aclose)
            return client

        yield make


@pytest.fixture
def own() -> str:
    """A path or a mount of this test alone."""
    return f"own-{uuid.uuid4().hex[:8]}"


async def refusal(client: VaultClient, *path: str) -> Unresolved:
    """What a fetch ends with. No reason ever holds what must not be seen."""
    with pytest.raises(Unresolved) as raised:
        await client.fetch(path)
    assert CANARY not in str(raised.value)
    return raised.value


VALUES = [
    ("text", "sk-1", "sk-1"),
    ("spaces and more", ' a "b" \\ ü \n', ' a "b" \\ ü \n'),
    ("number", 1234567, "1234567"),
    ("fraction", 1.5, "1.5"),
    ("flag", True, "true"),
    ("object", {"a": [1, None]}, '{"a":[1,null]}'),
]


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_values_are_text_and_everything_else_its_json(
    openbao: OpenBao, opened: Open, own: str, version: str
) -> None:
    openbao.mount(own, "kv", {"version": version[1:]})
    openbao.put("team/openai", {name: value for name, value, _ in VALUES}, mount=own)
    client = opened(openbao, kv_version=version, mount=own)
    for name, _, text in VALUES:
        fetched = await client.fetch(["team", "openai", name])
        assert fetched.value.reveal() == text


async def test_the_customers_example_and_one_below_a_prefix(openbao: OpenBao, opened: Open, own: str) -> None:
    openbao.put(f"{own}/api-key-path", {"my-key": "sk-1"})
    assert (await opened(openbao).fetch([own, "api-key-path", "my-key"])).value.reveal() == "sk-1"
    below = opened(f"{openbao.address}/", prefix=own, auth={"method": "token", "token": openbao.root_token})
    assert (await below.fetch(["api-key-path", "my-key"])).value.reveal() == "sk-1"


@pytest.mark.parametrize("segment", ["a:b", "a+b", "a&b=c", "a;b", "a@b", "a~(b)!*'", "[a]", "$a", '"a"', "a|b^c`{d}"])
async def test_segments_are_taken_as_they_are(openbao: OpenBao, opened: Open, own: str, segment: str) -> None:
    async with scripted_api() as api:
        api.says(200, {"data": {"data": {segment: "sk-1"}}})
        assert (await opened(api.address).fetch([segment, segment])).value.reveal() == "sk-1"
    written = api.asked[0].path.removeprefix("/v1/secret/data/")
    openbao.put(f"{own}/{written}", {"k": "sk-2"})
    assert (await opened(openbao).fetch([own, segment, "k"])).value.reveal() == "sk-2"


async def test_a_lifetime_comes_from_version_1_alone(openbao: OpenBao, opened: Open, own: str) -> None:
    openbao.mount(own)
    openbao.put("short", {"k": "v", "ttl": "90s"}, mount=own)
    fetched = await opened(openbao, kv_version="v1", mount=own).fetch(["short", "k"])
    assert fetched.lifetime == 90
    openbao.put(own, {"k": "v"})
    assert (await opened(openbao).fetch([own, "k"])).lifetime is None


async def test_a_changed_value_is_seen_at_the_next_fetch(openbao: OpenBao, opened: Open, own: str) -> None:
    client = opened(openbao)
    for value in ("old", "new"):
        openbao.put(own, {"k": value})
        assert (await client.fetch([own, "k"])).value.reveal() == value


async def test_namespaces(openbao: OpenBao, opened: Open, own: str) -> None:
    openbao.write(f"sys/namespaces/{own}", {})
    openbao.write(f"{own}/sys/mounts/inner", {"type": "kv", "options": {"version": "1"}})
    openbao.write(f"{own}/inner/a", {"k": "inside"})
    client = opened(openbao, kv_version="v1", mount="inner", namespace=own)
    assert (await client.fetch(["a", "k"])).value.reveal() == "inside"
    await client.probe()
    elsewhere = opened(openbao, kv_version="v1", mount="inner", namespace="nowhere")
    assert isinstance(lost := await refusal(elsewhere, "a", "k"), NoSuchSecret)
    assert "namespace" in str(lost)
    with pytest.raises(Unusable, match="namespace"):
        await elsewhere.probe()


@pytest.mark.parametrize(
    ("path", "fields", "kind", "says"),
    [
        (("nothing", "k"), {}, NoSuchSecret, "Vault has nothing at secret/data/nothing"),
        (("here", "other"), {}, NoSuchSecret, "holds no value under"),
        (("here", "null"), {}, NoSuchSecret, "holds no value under"),
        (("here", "empty"), {}, NoSuchSecret, "is empty under"),
        (("deleted", "k"), {}, NoSuchSecret, "the newest version of secret/data/deleted is deleted"),
        (("destroyed", "k"), {}, NoSuchSecret, "is deleted"),
        (("here", "k"), {"mount": "elsewhere"}, NoSuchSecret, "no engine at elsewhere"),
        (("here", "k"), {"kv_version": "v1"}, NoSuchSecret, "set kv_version to v2"),
        (("k",), {}, Unusable, "names no key"),
        (("random", "k"), {"kv_version": "v1", "mount": "sys/tools"}, Unusable, "405"),
        (("here", "k"), {"auth": {"method": "token", "token": CANARY}}, Refused, "refuses the token"),
    ],
)
async def test_what_cannot_be_had(
    openbao: OpenBao,
    opened: Open,
    own: str,
    path: tuple[str, ...],
    fields: dict[str, Any],
    kind: type[Unresolved],
    says: str,
) -> None:
    openbao.put("here", {"k": CANARY, "null": None, "empty": ""})
    for name in ("deleted", "destroyed"):
        openbao.put(name, {"k": CANARY})
    openbao.delete("secret/data/deleted")
    openbao.write("secret/destroy/destroyed", {"versions": list(range(1, 20))})
    refused = await refusal(opened(openbao, **fields), *path)
    assert type(refused) is kind
    assert says in str(refused)


async def test_a_policy_that_does_not_reach_so_far(openbao: OpenBao, opened: Open, own: str) -> None:
    openbao.put(f"{own}/open", {"k": "v"})
    openbao.put(f"{own}/shut", {"k": CANARY})
    openbao.policy(own, f'path "secret/data/{own}/open" {{ capabilities = ["read"] }}')
    client = opened(openbao, auth={"method": "token", "token": openbao.token([own])})
    assert (await client.fetch([own, "open", "k"])).value.reveal() == "v"
    refused = await refusal(client, own, "shut", "k")
    assert isinstance(refused, Refused)
    assert f"they must let it read secret/data/{own}/shut" in str(refused)
    await client.probe()


async def test_a_login_whose_token_was_revoked_is_made_again(openbao: OpenBao, opened: Open, own: str) -> None:
    openbao.put(own, {"k": "v"})
    openbao.policy(own, f'path "secret/data/{own}" {{ capabilities = ["read"] }}')
    role_id, secret_id = openbao.approle("proxy", [own], mount=own)
    clock = SetClock()
    auth = {"method": "approle", "role_id": role_id, "secret_id": secret_id, "mount": own}
    client = opened(openbao, context(clock=clock), auth=auth)
    assert (await client.fetch([own, "k"])).value.reveal() == "v"
    await client.probe()
    openbao.write(f"sys/leases/revoke-prefix/auth/{own}/login", {"sync": True})
    clock.move(11)
    assert (await client.fetch([own, "k"])).value.reveal() == "v"
    assert isinstance(refused := await refusal(client, "other", "k"), Refused)
    assert "the login's policies" in str(refused)


async def test_sealed_stopped_and_gone(fresh_openbao: OpenBao, opened: Open) -> None:
    fresh_openbao.put("a", {"k": "v"})
    client = opened(fresh_openbao, context(timeout=0.2))
    assert (await client.fetch(["a", "k"])).value.reveal() == "v"

    fresh_openbao.seal()
    await _away(client, "Vault is sealed")
    fresh_openbao.unseal()
    assert (await client.fetch(["a", "k"])).value.reveal() == "v"

    fresh_openbao.stop()
    await _away(client, "did not answer within 0.2 s")
    fresh_openbao.resume()
    assert (await client.fetch(["a", "k"])).value.reveal() == "v"

    fresh_openbao.kill()
    await _away(client, "connection refused")


async def _away(client: VaultClient, says: str) -> None:
    refused = await refusal(client, "a", "k")
    assert isinstance(refused, Away)
    assert says in str(refused)
    with pytest.raises(Away, match=says):
        await client.probe()


SCRIPTED = [
    (307, b"", Away, "which is not followed: give the address of the active node"),
    (301, b"", Away, "redirect (301)"),
    (400, {"errors": [f"Upgrading from non-versioned to versioned data {CANARY}"]}, Away, "is being upgraded"),
    (400, {"errors": [CANARY]}, Unusable, "does not take a request"),
    (401, {"errors": [CANARY]}, Away, "fails (401)"),
    (403, b"<html>who are you", Away, "is not Vault's API"),
    (403, {"message": "who are you"}, Away, "is not Vault's API"),
    (404, b"<html>nothing here", Away, "is not Vault's API"),
    (404, {"message": "no route"}, Away, "is not Vault's API"),
    (412, {"errors": []}, Away, "caught up"),
    (429, {"errors": []}, Away, "throttles"),
    (472, {"errors": []}, Away, "disaster-recovery"),
    (473, {"errors": []}, Away, "standby"),
    (500, {"errors": [CANARY]}, Away, "fails (500)"),
    (502, b"<html>bad gateway", Away, "fails (502)"),
    (503, {"errors": ["Vault is sealed"]}, Away, "is sealed: unseal it"),
    (503, b"busy", Away, "fails (503)"),
    (200, b"<html>welcome", Away, "is not Vault's API"),
    (200, {"data": [CANARY]}, Away, "is not Vault's API"),
    (200, {"data": {"data": {"k": "x" * (1 << 20)}}}, Away, "more than 1 MiB"),
    (200, {"data": {"data": None}}, NoSuchSecret, "no value"),
    (200, {}, NoSuchSecret, "no value"),
]


@pytest.mark.parametrize(("status", "body", "kind", "says"), SCRIPTED)
async def test_statuses(opened: Open, status: int, body: object, kind: type[Unresolved], says: str) -> None:
    async with scripted_api() as api:
        api.says(status, body, {"Location": "http://127.0.0.1:9/"})
        refused = await refusal(opened(api.address), "a", "k")
    assert type(refused) is kind
    assert says in str(refused)
    assert len(api.asked) == 1


async def test_a_number_keeps_all_of_its_digits(opened: Open) -> None:
    async with scripted_api() as api:
        api.says(200, b'{"data": {"data": {"k": 12345678901234567890.10}}}')
        assert (await opened(api.address).fetch(["a", "k"])).value.reveal() == "12345678901234567890.10"


async def test_what_is_sent(opened: Open) -> None:
    async with scripted_api() as api:
        api.says(200, {"data": {"k": "v"}, "lease_duration": 60})
        client = opened(f"{api.address}/below/", kv_version="v1", mount="kv/old", prefix="p/q", namespace="team/a")
        assert await client.fetch(["x", "k"]) == Fetched(Secret("v"), 60)
    [asked] = api.asked
    assert (asked.method, asked.path, asked.body) == ("GET", "/below/v1/kv/old/p/q/x", b"")
    sent = {name: asked.headers[name] for name in ("X-Vault-Token", "X-Vault-Namespace", "X-Vault-Request")}
    assert sent == {"X-Vault-Token": CANARY, "X-Vault-Namespace": "team/a", "X-Vault-Request": "true"}


async def test_probing_tells_a_good_token_from_a_bad_one(openbao: OpenBao, opened: Open) -> None:
    await opened(openbao).probe()
    with pytest.raises(Refused, match="refuses the token"):
        await opened(openbao, auth={"method": "token", "token": CANARY}).probe()


async def test_a_login_is_proof_enough_where_no_policy_lets_a_token_look_itself_up(opened: Open) -> None:
    async with scripted_api() as api:
        clock = SetClock()
        client = opened(api.address, context(clock=clock), auth={"method": "approle", "role_id": "r", "secret_id": "s"})

        async def answer(asked: Asked) -> web.StreamResponse:
            if asked.path.endswith("/login"):
                return reply(200, {"auth": {"client_token": f"t{len(api.asked)}", "lease_duration": 3600}})
            return reply(403, {"errors": ["permission denied"]})

        api.answer = answer
        await client.probe()
        clock.move(60)
        await client.probe()
    assert [path for path in api.paths if "login" in path] == ["POST /v1/auth/approle/login"] * 2


@pytest.mark.parametrize(
    ("uri", "hosts", "good"),
    [
        ("https://vault.vault.svc:8200", ("*.svc",), True),
        ("https://VAULT.vault.SVC.:8200", ("*.svc",), True),
        ("https://vault.example.com", ("*.svc", "vault.example.com"), True),
        ("https://vault.svc.example.com", ("*.svc",), False),
        ("https://evil.example.com/vault.svc", ("*.svc",), False),
        ("https://10.0.0.1", (), False),
    ],
)
def test_the_pods_token_goes_where_the_operator_lets_it(uri: str, hosts: tuple[str, ...], good: bool) -> None:
    provider = Vault("main", uri, VaultKubernetes("gateway"))
    if good:
        VaultClient(provider, context(service_account_hosts=hosts))
        return
    with pytest.raises(Unusable, match=r"secrets\.service_account_hosts"):
        VaultClient(provider, context(service_account_hosts=hosts))
    VaultClient(Vault("main", uri, VaultToken(Secret("t"))), context(service_account_hosts=hosts))
