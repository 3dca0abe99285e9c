"""Around every request: credentials, refusals in one envelope, ids, and what is noted."""

import asyncio
import gzip
import json
from collections.abc import Mapping

import pytest

from tests.support.admin import ADMIN_KEY, SECOND_KEY, RunningAdmin, running_admin
from tests.support.etcd import EtcdServer

JSON = {"Authorization": f"Bearer {ADMIN_KEY}", "Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("headers", "welcome"),
    [
        ({"Authorization": f"Bearer {ADMIN_KEY}"}, True),
        ({"Authorization": f"Bearer {SECOND_KEY}"}, True),
        ({"Authorization": f"Bearer   {ADMIN_KEY}  "}, True),
        ({"x-api-key": ADMIN_KEY}, True),
        ({"X-API-KEY": f" {ADMIN_KEY} "}, True),
        ({"Authorization": f"Bearer {ADMIN_KEY}", "x-api-key": "wrong"}, True),
        ({}, False),
        ({"Authorization": ""}, False),
        ({"Authorization": "Bearer"}, False),
        ({"Authorization": "Bearer "}, False),
        ({"Authorization": f"bearer {ADMIN_KEY}"}, False),
        ({"Authorization": ADMIN_KEY}, False),
        ({"Authorization": f"Basic {ADMIN_KEY}"}, False),
        ({"Authorization": f"Bearer {ADMIN_KEY}x"}, False),
        ({"Authorization": f"Bearer {ADMIN_KEY[:-1]}"}, False),
        ({"Authorization": "Bearer ' OR 1=1 --"}, False),
        ({"Authorization": "Bearer schlüssel"}, False),
        ({"Authorization": "Bearer $env://AISIX_SECRET_X"}, False),
        ({"Authorization": "Bearer", "x-api-key": ADMIN_KEY}, False),
        ({"Authorization": "Basic x", "x-api-key": ADMIN_KEY}, False),
        ({"x-api-key": ""}, False),
        ({"x-api-key": "wrong"}, False),
        ({"Authorization": "Bearer " + "k" * 7000}, False),
    ],
)
async def test_who_gets_in(admin: RunningAdmin, headers: Mapping[str, str], welcome: bool) -> None:
    answer = await admin.send("GET", "/models", headers=headers)
    assert answer.status == (200 if welcome else 401)
    if not welcome:
        assert answer.json["error_msg"] == "missing or malformed admin authorization"
        assert "www-authenticate" not in answer.headers
        for value in headers.values():
            assert not value.strip() or value.encode() not in answer.body


async def raw(admin: RunningAdmin, request: str) -> tuple[bytes, bytes]:
    """Send `request` as it is; status line and the rest of the answer."""
    host, port = admin.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request.encode("latin-1"))
    try:
        async with asyncio.timeout(10):
            return await reader.readline(), await reader.read()
    finally:
        writer.close()


async def test_a_body_that_does_not_come(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with running_admin(etcd.endpoint, etcd_prefix, body_seconds=0.1) as admin:
        head = f"POST /admin/v1/models HTTP/1.1\r\nHost: x\r\nx-api-key: {ADMIN_KEY}\r\n"
        host, port = admin.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write((head + "Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{").encode())
        async with asyncio.timeout(10):
            assert b" 408 " in await reader.readline()
        writer.transport.abort()


async def test_two_authorization_headers_are_none(admin: RunningAdmin) -> None:
    head = f"GET /admin/v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"
    status, _ = await raw(admin, head + "Authorization: Bearer other\r\nConnection: close\r\n\r\n")
    assert b" 401 " in status


@pytest.mark.parametrize(
    "request_text",
    [
        "BREW /admin/v1/models?canary-bytes HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nAuthorization: Bearer canary-bytes\0\r\n\r\n",
        "GET / HTTP/1.1\r\nAuthorization Bearer canary-bytes\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\nx: canary-bytes\r\n\r\n",
        "GET /" + "canary-bytes" * 1000 + " HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_cannot_be_parsed_is_not_repeated(
    admin: RunningAdmin, caplog: pytest.LogCaptureFixture, request_text: str
) -> None:
    status, rest = await raw(admin, request_text)
    assert b" 400 " in status
    assert b"Server: AISIX/" in rest and b"error_msg" in rest
    assert b"canary-bytes" not in rest
    assert "canary-bytes" not in caplog.text + admin.logged
    assert "could not be read" in admin.logged


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/admin/openapi.json"])
async def test_what_is_open_to_all(admin: RunningAdmin, path: str) -> None:
    assert (await admin.send("GET", path, headers={})).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/nothing", 404, None),
        ("GET", "/models/", 404, None),
        ("POST", "/models/x/rotate", 404, None),
        ("GET", "/secrets", 404, None),
        ("GET", "/api_keys/x/rotate", 405, "POST"),
        ("PATCH", "/models", 405, "GET,HEAD,POST"),
        ("DELETE", "/models", 405, "GET,HEAD,POST"),
        ("POST", "/models/x", 405, "DELETE,GET,HEAD,PATCH,PUT"),
        ("POST", "/livez", 405, "GET,HEAD"),
        ("OPTIONS", "/models", 405, "GET,HEAD,POST"),
        ("PROPFIND", "/models", 405, "GET,HEAD,POST"),
    ],
)
async def test_paths_and_methods(admin: RunningAdmin, method: str, path: str, status: int, allow: str | None) -> None:
    answer = await admin.send(method, path, headers={})
    assert answer.status == status, "decided before the credential"
    assert answer.headers.get("Allow") == allow
    assert set(answer.json) == {"error_msg", "errors"}


async def test_head_answers_like_get(admin: RunningAdmin) -> None:
    answer = await admin.send("HEAD", "/models")
    assert answer.status == 200 and answer.body == b""


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, b"{}", 415),
        ({"Content-Type": "text/plain"}, b"{}", 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"{}", 415),
        ({"Content-Type": "application/json; charset=utf-8"}, b"{}", 400),
        ({"Content-Type": "application/json"}, b"", 400),
        ({"Content-Type": "application/json"}, b"{", 400),
        ({"Content-Type": "application/json"}, b"[]", 400),
        ({"Content-Type": "application/json"}, b'{"display_name": NaN}', 400),
        ({"Content-Type": "application/json"}, b'{"display_name":"a","display_name":"b"}', 400),
        ({"Content-Type": "application/json"}, b"\xff\xfe", 400),
        ({"Content-Type": "application/json"}, b'{"a":' * 2000 + b"1" + b"}" * 2000, 400),
        ({"Content-Type": "application/json"}, b'"' + b"x" * (2 * 1024 * 1024) + b'"', 413),
        (
            {"Content-Type": "application/json", "Content-Encoding": "gzip"},
            gzip.compress(b" " * 3_000_000, mtime=0),
            415,
        ),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_bodies(admin: RunningAdmin, method: str, headers: Mapping[str, str], body: bytes, status: int) -> None:
    path = "/models" if method == "POST" else "/models/any"
    if method == "PUT":
        await admin.etcd.put(f"{admin.prefix}/models/any", b"{}")
    sent = {"Authorization": f"Bearer {ADMIN_KEY}", **headers}
    answer = await admin.send(method, path, body, headers=sent)
    assert answer.status == status, answer.body
    assert set(answer.json) == {"error_msg", "errors"}
    assert answer.headers["Content-Type"] == "application/json"


async def test_a_document_etcd_would_not_take(admin: RunningAdmin) -> None:
    body = json.dumps({"allowed_models": ["x" * 1000] * 1500}).encode()
    assert (await admin.send("POST", "/api_keys", body, headers=JSON)).status == 413


async def test_every_answer_says_who_and_which(admin: RunningAdmin) -> None:
    for method, path, headers in (("GET", "/models", JSON), ("GET", "/models", {}), ("GET", "/nothing", {})):
        answer = await admin.send(method, path, headers=headers)
        assert answer.headers["Server"].startswith("AISIX/")
        assert len(answer.headers["x-aisix-request-id"]) == 36
    answer = await admin.send("GET", "/models", headers={**JSON, "x-aisix-request-id": "mine-1"})
    assert answer.headers["x-aisix-request-id"] == "mine-1"
    answer = await admin.send("GET", "/models", headers={**JSON, "x-aisix-request-id": "with space"})
    assert answer.headers["x-aisix-request-id"] != "with space"


async def test_what_is_noted_of_a_request(admin: RunningAdmin) -> None:
    headers = {"Authorization": f"Bearer {SECOND_KEY}", "x-aisix-request-id": "note-1"}
    await admin.send("GET", "/models/some-id?token=canary-query", headers=headers)
    line = next(line for line in admin.lines.entries if line.get("request_id") == "note-1")
    assert (line["route"], line["status"], line["admin_key"]) == ("/admin/v1/models/{id}", 404, "key-2")
    assert "canary-query" not in admin.logged
    series = 'aisix_admin_requests_total{method="GET",route="/admin/v1/models/{id}",status="404"} 1.0'
    assert series in admin.scraped


async def test_labels_do_not_grow_with_what_clients_send(admin: RunningAdmin) -> None:
    for n in range(20):
        await admin.send(("PROPFIND", "LOCK", "REPORT")[n % 3], f"/path-{n}", headers={})
        await admin.send("GET", f"/models/{n}")
    assert "path-1" not in admin.scraped and "PROPFIND" not in admin.scraped
    assert admin.scraped.count("aisix_admin_requests_total{") == 2
