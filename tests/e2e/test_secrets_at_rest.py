"""No secret lies in clear anywhere: etcd with its files, the proxies' caches, the log, answers, exports."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import pytest

from aisix_admin.masks import secret_paths
from aisix_common.resources import ALL_KINDS, BY_NAME

from tests.support.etcd import EtcdServer
from tests.support.gateway import ADMIN_KEY, CALLER_KEY, Gateway, aisix, running, until
from tests.support.openbao import OpenBao
from tests.support.provider import Provider

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("e2e")]

MARK: Final = "canary-"
"""What each planted secret begins with, and nothing else holds."""
FROM_ENV, FROM_BAO = "canary-from-env", "canary-from-bao"
OLDER: Final = {"provider": "openai", "model": "gpt-4o", "key": "canary-older-dialect"}
API7: Final = "canary-api7-token"


@dataclass(frozen=True, slots=True)
class Planted:
    """A document of which some fields begin with MARK."""

    kind: str
    document: Mapping[str, Any]


AWS_KEYS: Final = {"kind": "static", "access_key_id": "canary-bed-id", "secret_access_key": "canary-bed-key"}
ALIYUN: Final = {"region": "cn-shanghai", "access_key_id": "canary-ali-id", "access_key_secret": "canary-ali-key"}
BEDROCK: Final = {
    "guardrail_id": "g",
    "guardrail_version": "1",
    "region": "us-east-1",
    "latency_mode": {"kind": "serial"},
}
OTHER_CLUSTER: Final = {"apiserver": "https://k.example.com", "token": "canary-k8s-token"}
VAULT: Final = {"manager": "vault", "uri": "https://vault.example.com"}
APPROLE: Final = {"method": "approle", "role_id": "r", "secret_id": "canary-secret-id"}
AWS: Final = {
    "access_key_id": "canary-aws-id",
    "secret_access_key": "canary-aws-key",
    "session_token": "canary-session",
}
AZURE: Final = {"tenant_id": "t", "client_id": "c", "client_secret": "canary-azure"}
GUARDRAILS: Final[Mapping[str, Mapping[str, Any]]] = {
    "bedrock": {**BEDROCK, "aws_credentials": AWS_KEYS},
    "azure_content_safety": {"endpoint": "https://a.example.com", "api_key": "canary-azure-safety"},
    "azure_content_safety_text_moderation": {"endpoint": "https://a.example.com", "api_key": "canary-azure-text"},
    "aliyun_text_moderation": ALIYUN,
    "aliyun_ai_guardrail": ALIYUN,
    "lakera": {"api_key": "canary-lakera"},
    "openai_moderation": {"api_key": "canary-moderation"},
}
PROVIDERS: Final[Sequence[Mapping[str, Any]]] = (
    {**VAULT, "name": "token", "auth": {"method": "token", "token": "canary-vault-token"}},
    {**VAULT, "name": "role", "auth": APPROLE},
    {"manager": "aws", "name": "main", **AWS},
    {"manager": "azure", "name": "main", "vault_url": "https://v.vault.azure.net", **AZURE},
    {"manager": "gcp", "name": "main", "project_id": "p", "service_account": "canary-gcp-key"},
    {"manager": "kubernetes", "name": "other", "namespaces": ["*"], "names": ["*"], **OTHER_CLUSTER},
)
PLANTED: Final = (
    Planted(
        "provider_keys",
        {
            "display_name": "planted",
            "api_key": "canary-provider-key",
            "request": {
                "default_headers": {"x-team": "canary-header"},
                "default_body_fields": {"user": {"deep": ["canary-body-1", {"er": "canary-body-2"}]}, "n": 3},
            },
        },
    ),
    *(Planted("guardrails", {"name": kind, "kind": kind, **more}) for kind, more in GUARDRAILS.items()),
    Planted(
        "observability_exporters",
        {
            "name": "otlp",
            "kind": "otlp_http",
            "endpoint": "https://otlp.example.com/v1/logs",
            "headers": {"authorization": "canary-otlp-1", "x-other": "canary-otlp-2"},
        },
    ),
    Planted(
        "mcp_servers",
        {"name": "files", "url": "https://m.example.com", "auth_type": "bearer", "secret": "canary-mcp"},
    ),
    Planted(
        "a2a_agents",
        {"name": "agent", "url": "https://a.example.com", "auth_type": "api_key", "secret": "canary-agent"},
    ),
    *(Planted("secret_providers", document) for document in PROVIDERS),
)


def canaries(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(dotted path, text) of all that was planted in a document."""
    if isinstance(value, str) and value.startswith(MARK):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from canaries(item, f"{path}.{key}".removeprefix("."))
    elif isinstance(value, list):
        for item in value:
            yield from canaries(item, f"{path}.[]")


async def test_every_secret_field_has_a_canary() -> None:
    for kind in ALL_KINDS:
        planted = [path for each in PLANTED if each.kind == kind.name for path, _ in canaries(each.document)]
        for field in secret_paths(kind.struct):
            assert any(fnmatchcase(path, field) for path in planted), f"{kind.name}: {field}"


@pytest.mark.slow  # everything that a gateway leaves is looked through
@pytest.mark.timeout(90)
async def test_nothing_lies_in_clear(
    fresh_etcd: EtcdServer, provider: Provider, openbao: OpenBao, tmp_path: Path
) -> None:
    """On a machine of its own: the key is the one that `aisix` made."""
    openbao.put("at-rest/openai", {"key": FROM_BAO})
    more = {"observability": {"log_level": "debug"}}
    async with running(
        tmp_path, fresh_etcd.endpoint, more=more, environ={"AISIX_SECRET_UPSTREAM": FROM_ENV}
    ) as gateway:
        await plant(gateway)
        values = await serve(gateway, provider, openbao)
        await edit_all(gateway)
        pages = await all_pages(gateway)
        assert MARK not in pages and openbao.root_token not in pages
        assert "enc:v1:" not in pages
    assert gateway.process.returncode == 0
    log = gateway.log.read_text()
    assert '"level":"debug"' in log.replace(" ", "")
    assert MARK not in log and openbao.root_token not in log

    for name in ("snapshot.cache", "snapshot.cache.ext"):
        cached = (tmp_path / name).read_bytes()
        assert b'"sealer":"aes-256-gcm"' in cached and b"planted" not in cached
        assert MARK.encode() not in cached and openbao.root_token.encode() not in cached
    nothing_in_etcd(fresh_etcd, openbao.root_token)

    config = str(tmp_path / "config.yaml")
    code, said, _ = await aisix("secrets", "status", "--config", config, "--json")
    status = json.loads(said)
    assert (code, status["clear"]["values"], list(status["keys"])) == (0, 0, ["local"])
    # With the demo's key, the older dialect's, API7's and OpenBao's token.
    assert status["keys"]["local"]["values"] == values + 4
    await exports(fresh_etcd, config, tmp_path)
    await the_search_finds_what_is_in_clear(fresh_etcd, config)


async def plant(gateway: Gateway) -> None:
    """Everything in one set, and through the two other dialects."""
    members = [{"kind": each.kind, "id": f"planted-{n}", "value": each.document} for n, each in enumerate(PLANTED)]
    for action in ("created", "unchanged"):
        written = await gateway.call("POST", "apply?wait=10s", {"resources": members})
        assert written["applied"]["instances"] == 1
        assert {each["action"] for each in written["results"]} == {action}
    older = {
        "name": "older",
        "model": f"{OLDER['provider']}/{OLDER['model']}",
        "provider_config": {"api_key": OLDER["key"]},
    }
    assert (await other_dialect(gateway, "PUT", "/aisix/admin/models/older", older))[0] == 201
    vault = {"uri": "https://vault.example.com", "prefix": "kv/apisix", "token": API7}
    status, said = await other_dialect(gateway, "PUT", "/apisix/admin/secret_providers/vault/api7", vault)
    assert status in (200, 201), said


async def serve(gateway: Gateway, provider: Provider, openbao: OpenBao) -> int:
    """Models whose keys are stored, in the environment and in the manager are called; the number of planted values."""
    await gateway.serve(provider.base)
    auth = {"method": "token", "token": openbao.root_token}
    bao = {"manager": "vault", "name": "bao", "uri": openbao.address, "auth": auth}
    made = await gateway.call("POST", "secret_providers?wait=10s", bao)
    assert made["applied"]["instances"] == 1
    tested = await gateway.call("POST", f"secret_providers/{made['id']}/test", {"path": "at-rest/openai/key"})
    assert tested["ok"], tested
    references = {"env": "$env://AISIX_SECRET_UPSTREAM", "bao": "$secret://vault/bao/at-rest/openai/key"}
    for name, reference in references.items():
        key = {"display_name": name, "api_key": reference, "api_base": provider.base}
        id = (await gateway.call("POST", "provider_keys", key))["id"]
        model = {"display_name": name, "provider": "openai", "model_name": "m", "provider_key_id": id}
        await gateway.call("POST", "models", model)
    await gateway.call("PATCH", f"api_keys/{gateway.ids['api_key']}?wait=10s", {"allowed_models": ["*"]})

    for name in ("demo-model", *references):

        async def answered(name: str = name) -> bool:
            return (await gateway.chat("hello", model=name))[0] == 200

        await until(answered)
        # A provider that tells everybody what it was sent.
        status, told = await gateway.chat("oh [[status=401 echo_auth code=bad]]", model=name)
        assert status != 200 and MARK not in json.dumps(told)
    sent = {request.headers.get("authorization") for request in provider.requests}
    assert {f"Bearer {FROM_ENV}", f"Bearer {FROM_BAO}"} <= sent, "references are followed"
    return sum(len(list(canaries(each.document))) for each in PLANTED)


async def edit_all(gateway: Gateway) -> None:
    """Each planted row is written back as it is shown, changed, gone and back again."""
    for n, each in enumerate(PLANTED):
        path = f"{each.kind}/planted-{n}"
        shown = (await gateway.call("GET", path))["value"]
        await gateway.call("PUT", path, shown)
        if each.kind != "secret_providers":
            change = {"strip_headers": ["cookie"]} if each.kind == "provider_keys" else {"enabled": False}
            await gateway.call("PATCH", path, change)
    await gateway.call("POST", "provider_keys/planted-0/rollback", {"version": 1})
    await gateway.call("DELETE", "provider_keys/planted-0")
    await gateway.call("POST", "provider_keys/planted-0/restore", {"set": PLANTED[0].document})
    refused = {**PLANTED[0].document, "nonsense": 1, "api_base": "canary-no-url"}
    told = await gateway.call("PUT", "provider_keys/planted-0", refused, expect=400)
    assert MARK not in json.dumps(told)
    rotated = await gateway.call("POST", f"api_keys/{gateway.ids['api_key']}/rotate", {"overlap_seconds": 60})
    assert rotated["plaintext"] != CALLER_KEY


async def all_pages(gateway: Gateway) -> str:
    """All that can be read over HTTP."""
    pages = [await gateway.text(path) for path in ("/metrics", "/status/config", "/status/models", "/status/ready")]
    paths = ["audit?limit=1000", "export", "instances", "health", "models/status"]
    for kind in ALL_KINDS:
        rows = await gateway.call("GET", kind.name)
        paths += [f"{kind.name}?limit=1000", *(f"{kind.name}/{row['id']}" for row in rows)]
        paths += [f"{kind.name}/{row['id']}/history" for row in rows]
    paths += ["provider_keys/planted-0/history/diff?from=1&to=2"]
    pages += [json.dumps(await gateway.call("GET", path)) for path in paths]
    older = ("/aisix/admin/models", "/aisix/admin/apikeys", "/apisix/admin/secret_providers")
    pages += [(await other_dialect(gateway, "GET", path))[1] for path in older]
    assert "planted-0" in "".join(pages) and "***" in "".join(pages)
    return "\n".join(pages)


async def other_dialect(gateway: Gateway, method: str, path: str, body: object = None) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with gateway.http.request(method, gateway.admin + path, json=body, headers=headers) as answer:
        return answer.status, await answer.text()


def nothing_in_etcd(etcd: EtcdServer, *others: str) -> None:
    """Neither under any key nor in any file, older revisions and log included."""
    dump = etcd.ctl("get", "", "--prefix")
    assert dump.count("enc:v1:") > len(PLANTED) and "/run/aisix/history/provider_keys/planted-0" in dump
    files = [path.read_bytes() for path in (etcd.log.parent / "data").rglob("*") if path.is_file()]
    assert any(b"planted-0" in data for data in files)
    for text in (MARK, CALLER_KEY, ADMIN_KEY, *others):
        assert text not in dump
        assert not any(text.encode() in data for data in files), text


async def exports(etcd: EtcdServer, config: str, folder: Path) -> None:
    """Exports hold what was planted when they are asked to, and only then."""
    command, revealed = ("export", "--etcd", etcd.endpoint), folder / "revealed.yaml"
    unasked, opened, keyless, written = await asyncio.gather(
        aisix(*command),
        aisix(*command, "--config", config),
        aisix(*command, "--reveal-secrets"),
        aisix(*command, "--config", config, "--reveal-secrets", "-o", str(revealed)),
    )
    for _, text, said in (unasked, opened, keyless):
        assert "planted" in text and MARK not in text + said
    assert MARK not in written[2]
    assert revealed.stat().st_mode & 0o777 == 0o600
    text = revealed.read_text()
    stored = [each.document for each in PLANTED if not BY_NAME[each.kind].external]
    there = [secret for document in stored for _, secret in canaries(document)]
    assert not [each for each in (*there, OLDER["key"]) if each not in text], "so the search would have found them"
    assert FROM_ENV not in text and FROM_BAO not in text, "references stay what they are"


async def the_search_finds_what_is_in_clear(etcd: EtcdServer, config: str) -> None:
    """What another writer left in clear is told of, found by the same search, and gone after a reencryption."""
    etcd.ctl("put", "/aisix/provider_keys/foreign", '{"display_name": "foreign", "api_key": "canary-foreign"}')
    with pytest.raises(AssertionError):
        nothing_in_etcd(etcd)
    code, _, said = await aisix("secrets", "reencrypt", "--config", config)
    assert code == 0 and re.search(r"encrypted anew: 1 row", said), said
    assert MARK not in etcd.ctl("get", "", "--prefix")
