"""A session with the Cloud, over real TLS: what its answers and failures become, and which bounds hold."""

import asyncio
import datetime as dt
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from aisix_cloud_agent.cloud.link import CloudError, CloudRefused, CloudUnavailable
from aisix_cloud_agent.cloud.session import (
    SHOWN,
    CertificateRefused,
    CloudSession,
    cloud_address,
    exchange,
    http_client,
    open_session,
    printable,
    refusing_alert,
)
from aisix_cloud_agent.identity.bundle import Bundle
from aisix_cloud_agent.identity.tls import trusting_only
from aisix_common.errors import ConfigurationError
from aisix_common.secret import Secret
from aisix_common.settings.control import Managed

from tests.cloud_agent.rest_cloud import BEAT, DP, RestCloud, expired_identity, identity_of, rest_cloud
from tests.support.cloud import cloud
from tests.support.cloud.endpoints import server_context
from tests.support.cloud.issuer import Issuer
from tests.support.doubles import listening


@asynccontextmanager
async def session(c: RestCloud, bundle: Bundle | None = None) -> AsyncIterator[CloudSession]:
    bundle = bundle or c.issue()
    opened = open_session(c.managed(), bundle, identity_of(bundle))
    try:
        yield opened
    finally:
        await opened.aclose()


async def test_the_calls_arrive_as_ours_with_the_key_id_quoted(tmp_path: Path) -> None:
    async with rest_cloud(tmp_path) as c, session(c) as s:
        await s.heartbeat(BEAT)
        await s.telemetry(b'{"events": []}')
        c.dp.budgets["a&b/ü?"] = {"allow": False, "fail_mode": "closed"}
        assert json.loads(await s.budget("a&b/ü?")) == {"allow": False, "fail_mode": "closed"}
        assert c.front.accepted  # all over one port
        assert s.refused is None
        assert sum(c.front.accepted.values()) == 1  # and one connection


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, CloudRefused),
        (400, CloudRefused),
        (401, CloudRefused),
        (404, CloudRefused),
        (408, CloudUnavailable),
        (425, CloudUnavailable),
        (429, CloudUnavailable),
        (500, CloudUnavailable),
        (503, CloudUnavailable),
    ],
)
async def test_a_status_says_whether_to_come_again(tmp_path: Path, status: int, kind: type[CloudError]) -> None:
    async with rest_cloud(tmp_path) as c, session(c) as s:
        c.troubles.add("/dp/telemetry", status=status)
        with pytest.raises(kind, match=f"answered {status} to POST /dp/telemetry: the Cloud is out of order") as caught:
            await s.telemetry(b"{}")
        assert c.calls("/dp/telemetry") == 1
        if isinstance(caught.value, CloudRefused):
            assert caught.value.status == status


async def test_failures_on_the_way_are_unavailability(tmp_path: Path) -> None:
    async with rest_cloud(tmp_path) as c, session(c) as s:
        c.troubles.add("/dp/heartbeat", lost=True, times=1)
        with pytest.raises(CloudUnavailable):
            await s.heartbeat(BEAT)
        c.front.garble()
        with pytest.raises(CloudUnavailable, match="TLS failed"):
            await s.heartbeat(BEAT)
        await c.front.refuse()
        with pytest.raises(CloudUnavailable, match="POST /dp/heartbeat: Connect call failed"):
            await s.heartbeat(BEAT)
        await c.front.heal()
        await s.heartbeat(BEAT)


async def test_a_revoked_certificate_is_told_as_such(tmp_path: Path) -> None:
    async with rest_cloud(tmp_path) as c:
        bundle = c.issue()
        async with session(c, bundle) as s:
            await s.heartbeat(BEAT)
            c.issuer.revoke(int(identity_of(bundle).serial, 16))
            with pytest.raises(CloudRefused, match="revoked"):
                await s.heartbeat(BEAT)
            assert s.refused is not None
            assert "certificate not accepted" in s.refused


async def test_an_expired_certificate_is_told_as_such_and_nothing_is_lost_by_it(tmp_path: Path) -> None:
    async with rest_cloud(tmp_path) as c:
        bundle = c.issue(lifetime=dt.timedelta(seconds=-5))
        s = open_session(c.managed(), bundle, expired_identity(bundle))
        with pytest.raises(CertificateRefused, match="expired"):
            await s.telemetry(b"{}")
        assert s.refused is not None
        await s.aclose()


async def test_a_server_of_another_authority_is_not_talked_to(tmp_path: Path) -> None:
    async with rest_cloud(tmp_path) as c:
        bundle = c.issue()
        stranger = Issuer(tmp_path / "stranger")
        mine = Bundle(bundle.certificate, bundle.key, stranger.ca)
        s = open_session(c.managed(), mine, identity_of(bundle))
        with pytest.raises(CloudUnavailable, match=r"not trusted .*managed\.cp_ca_cert_file"):
            await s.heartbeat(BEAT)
        assert not c.dp.calls
        assert s.refused is None  # it is theirs, not ours
        await s.aclose()
        helped = c.managed(cp_ca_cert_file=str(c.issuer.ca_file))
        s = open_session(helped, mine, identity_of(bundle))
        await s.heartbeat(BEAT)
        await s.aclose()


async def test_etcd_is_reached_on_the_same_port_with_the_same_certificate(tmp_path: Path) -> None:
    async with cloud(tmp_path / "cloud") as c:
        issued = c.issue(c.a, dp_id=DP)
        bundle = Bundle(issued.certificate, Secret(issued.key), issued.ca)
        s = open_session(Managed(enabled=True, cp_base_url=c.url), bundle, identity_of(bundle))
        await c.put(c.a, "models", "m-1", {"name": "m"})
        assert [row.key for row in (await s.etcd.range(f"/aisix/{c.a}/")).rows] == [f"/aisix/{c.a}/models/m-1"]
        await s.heartbeat(BEAT)
        await s.aclose()


async def _answer(tmp_path: Path, handler: object, *, seconds: float = 5.0) -> tuple[int, int, int | None]:
    """Status, size and Retry-After of what a server answers."""
    issuer = Issuer(tmp_path / "authority")
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", handler)  # type: ignore[arg-type]
    async with listening(app, server_context(issuer, issuer.server(tmp_path, "server"))) as port:
        async with http_client(trusting_only(issuer.ca, "ca")) as http:
            url = f"https://127.0.0.1:{port}/dp/x"
            answer = await exchange(http, "POST", url, b"{}", seconds=seconds, most=1000)
            return answer.status, len(answer.body), answer.retry_after


async def test_an_endless_answer_is_cut_and_nothing_is_unpacked_or_followed(tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    async def endless(request: web.Request) -> web.StreamResponse:
        asked.append((request.path, request.headers["User-Agent"]))
        assert "Cookie" not in request.headers
        assert request.headers["Accept-Encoding"] == "identity"
        response = web.StreamResponse(
            status=307, headers={"Location": "/elsewhere", "Content-Encoding": "gzip", "Set-Cookie": "a=b"}
        )
        await response.prepare(request)
        while True:
            await response.write(b"x" * 999)

    assert await _answer(tmp_path, endless) == (307, 1001, None)
    assert [path for path, _ in asked] == ["/dp/x"]
    assert asked[0][1].startswith("aisix-dp/")


async def test_silence_ends_with_the_deadline(tmp_path: Path) -> None:
    async def silent(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    with pytest.raises(CloudUnavailable, match=r"no answer within 0\.05 s"):
        await _answer(tmp_path, silent, seconds=0.05)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "99999999999999"}, 86_400),
        ({"Retry-After": "soon"}, None),
        ({"Date": "Wed, 21 Oct 2026 07:28:00 GMT", "Retry-After": "Wed, 21 Oct 2026 07:29:00 GMT"}, 60),
        ({"Date": "Wed, 21 Oct 2026 07:28:00 GMT", "Retry-After": "Wed, 21 Oct 2026 07:20:00 GMT"}, 0),
    ],
)
async def test_the_pause_that_is_asked_for(tmp_path: Path, headers: dict[str, str], seconds: int | None) -> None:
    async def busy(request: web.Request) -> web.Response:
        return web.Response(status=503, headers=headers)

    assert await _answer(tmp_path, busy) == (503, 0, seconds)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"cp_base_url": "https://cloud.test"}, ("https://cloud.test", "cloud.test", "cloud.test:443")),
        ({"cp_base_url": "https://cloud.test:8443/x"}, ("https://cloud.test:8443/x", "cloud.test", "cloud.test:8443")),
        ({"cp_base_url": "https://[::1]:1"}, ("https://[::1]:1", "::1", "[::1]:1")),
        (
            {"cp_base_url": "https://cloud.test", "cp_etcd_endpoint": "etcd.test:2379"},
            ("https://cloud.test", "etcd.test", "etcd.test:2379"),
        ),
        (
            {"cp_base_url": "https://cloud.test", "cp_etcd_endpoint": "etcd.test"},
            ("https://cloud.test", "etcd.test", "etcd.test:443"),
        ),
    ],
)
def test_where_the_cloud_is(settings: dict[str, str], expected: tuple[str, str, str]) -> None:
    assert cloud_address(Managed(**settings)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "managed.cp_base_url"),
        ({"cp_base_url": "http://cloud.test"}, "managed.cp_base_url"),
        ({"cp_base_url": "https://cloud.test", "cp_etcd_endpoint": "https://cloud.test"}, "managed.cp_etcd_endpoint"),
        ({"cp_base_url": "https://cloud.test", "cp_etcd_endpoint": "cloud.test:x"}, "managed.cp_etcd_endpoint"),
    ],
)
def test_an_address_that_is_none_is_named(settings: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        cloud_address(Managed(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"", "(nothing readable)"),
        (b"\x00\x1b[31m red\r\nline", "[31m red line"),
        ("grüß".encode(), "grüß"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"here: -----BEGIN PRIVATE KEY-----\nMIG", "here:"),
        (b"x" * 5000, "x" * SHOWN),
    ],
)
def test_what_is_shown_of_an_answer(body: bytes, shown: str) -> None:
    assert printable(body) == shown


def test_no_error_of_ours_takes_the_servers_certificate_for_our_own() -> None:
    theirs = ssl.SSLError(1, "[SSL: SSLV3_ALERT_CERTIFICATE_EXPIRED] ...")
    theirs.reason = "SSLV3_ALERT_CERTIFICATE_EXPIRED"
    assert refusing_alert(theirs) == "SSLV3_ALERT_CERTIFICATE_EXPIRED"
    ours = ssl.SSLCertVerificationError(1, "...")
    ours.reason = "CERTIFICATE_VERIFY_FAILED"
    assert refusing_alert(ours) is None
