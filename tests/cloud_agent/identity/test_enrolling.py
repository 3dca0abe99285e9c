"""The calls by which a certificate is got, over real TLS: who is sent the token, and what failures become."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from aisix_cloud_agent.cloud.link import CloudUnavailable
from aisix_cloud_agent.cloud.session import open_session
from aisix_cloud_agent.identity.bundle_store import Stored
from aisix_cloud_agent.identity.enrolling import Trust, enroll, read_trust, rotate
from aisix_cloud_agent.identity.enrollment import NotEnrolled, new_pending
from aisix_cloud_agent.identity.pin import read_pin
from aisix_common.clock import SYSTEM_CLOCK
from aisix_common.errors import AisixError, ConfigurationError
from aisix_common.secret import Secret
from aisix_common.settings.control import Bootstrap, Managed

from tests.cloud_agent.rest_cloud import DP, ENV, RestCloud, identity_of, rest_cloud
from tests.support.cloud.endpoints import server_context
from tests.support.cloud.issuer import Issuer
from tests.support.doubles import listening

PENDING = new_pending()


def by_file(c: RestCloud) -> Trust:
    return read_trust(c.managed(Bootstrap(ca_file=str(c.issuer.ca_file))))


def by_pin(c: RestCloud) -> Trust:
    return read_trust(c.managed(Bootstrap(ca_pin=c.issuer.pin)))


@pytest.mark.parametrize("trust", [by_file, by_pin])
async def test_a_token_gives_a_bundle_and_the_same_key_the_same_one_again(tmp_path: Path, trust: object) -> None:
    async with rest_cloud(tmp_path) as c:
        assert callable(trust)
        token = Secret(c.token())
        c.troubles.add("/dp/enroll", lost=True, times=1)
        with pytest.raises(CloudUnavailable):
            await enroll(c.url, token, PENDING, trust(c), SYSTEM_CLOCK)
        bundle = await enroll(c.url, token, PENDING, trust(c), SYSTEM_CLOCK)
        assert identity_of(bundle).env_id == ENV
        assert len(c.enrolment.issued) == 1
        with pytest.raises(NotEnrolled, match="409") as caught:
            await enroll(c.url, token, new_pending(), trust(c), SYSTEM_CLOCK)
        assert not caught.value.again


async def test_the_token_goes_to_nobody_whom_pin_or_file_do_not_name(tmp_path: Path) -> None:
    stranger = Issuer(tmp_path / "stranger")
    async with rest_cloud(tmp_path) as c:
        token = Secret(c.token())
        with pytest.raises(NotEnrolled, match=r"ca_pin") as pinned:
            await enroll(c.url, token, PENDING, Trust(None, read_pin(stranger.pin)), SYSTEM_CLOCK)
        assert pinned.value.again
        with pytest.raises(CloudUnavailable, match="not trusted"):
            await enroll(c.url, token, PENDING, Trust(stranger.ca, None), SYSTEM_CLOCK)
        assert not c.dp.calls


async def test_an_authority_that_is_only_shown_does_not_help_who_was_not_signed_by_it(tmp_path: Path) -> None:
    """Whoever stands between can present the pinned certificate, which is public, but has no leaf of it."""
    real, between = Issuer(tmp_path / "real"), Issuer(tmp_path / "between")
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(await request.text())
        return web.Response()

    app = web.Application()
    app.router.add_post("/dp/enroll", answer)
    certificate, key = between.server(tmp_path, "server")
    certificate.write_text(certificate.read_text() + real.ca)
    async with listening(app, server_context(between, (certificate, key))) as port:
        with pytest.raises(CloudUnavailable, match="not trusted"):
            await enroll(
                f"https://127.0.0.1:{port}", Secret("t"), PENDING, Trust(None, read_pin(real.pin)), SYSTEM_CLOCK
            )
    assert asked == []


@pytest.mark.parametrize(
    ("trouble", "kind", "says"),
    [
        ({"status": 401}, NotEnrolled, "new token"),
        ({"status": 404}, NotEnrolled, "check managed.bootstrap.url"),
        ({"status": 302}, NotEnrolled, "not followed"),
        ({"status": 503}, NotEnrolled, "cannot answer now"),
        ({"garbage": True}, NotEnrolled, "not JSON"),
        ({"lost": True}, CloudUnavailable, "did not answer POST /dp/enroll"),
    ],
    ids=["401", "404", "302", "503", "garbage", "lost"],
)
async def test_what_goes_wrong_says_what_to_do_and_holds_no_secret(
    tmp_path: Path, trouble: dict[str, object], kind: type[AisixError], says: str
) -> None:
    async with rest_cloud(tmp_path) as c:
        token = c.token()
        c.troubles.add("/dp/enroll", **trouble)  # type: ignore[arg-type]
        with pytest.raises(kind, match=says) as caught:
            await enroll(c.url, Secret(token), PENDING, by_pin(c), SYSTEM_CLOCK)
        for secret in (token, PENDING.key_pem.reveal()):
            assert secret not in repr(caught.value)


@pytest.mark.looptime
async def test_a_server_that_says_nothing_is_left_after_fifteen_seconds() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    before = asyncio.get_running_loop().time()
    with pytest.raises(CloudUnavailable, match="15 s"):
        await enroll(f"https://127.0.0.1:{port}", Secret("t"), PENDING, Trust(None, b"x" * 32), SYSTEM_CLOCK)
    assert asyncio.get_running_loop().time() - before == pytest.approx(15, abs=0.5)
    server.close()


async def test_a_rotation_goes_over_the_certificate_before(tmp_path: Path) -> None:
    async with rest_cloud(tmp_path) as c:
        bundle = c.issue()
        identity = identity_of(bundle)
        session = open_session(c.managed(), bundle, identity)
        before = Stored(bundle, identity, "v")
        pending = new_pending(identity)
        new = await rotate(session, c.url, pending, before, SYSTEM_CLOCK)
        assert identity_of(new).same_as(identity)
        assert identity_of(new).serial != identity.serial
        assert new.key == pending.key_pem
        c.troubles.add("/dp/rotate-cert", status=503)
        with pytest.raises(NotEnrolled, match="503"):
            await rotate(session, c.url, pending, before, SYSTEM_CLOCK)
        stranger = Stored(bundle, identity_of(c.issue(dp_id="dp-8")), "v")
        c.troubles.clear()
        with pytest.raises(NotEnrolled, match=f"data plane {DP}"):
            await rotate(session, c.url, pending, stranger, SYSTEM_CLOCK)
        await session.aclose()


async def test_a_pause_that_is_asked_for_reaches_whoever_calls_again(tmp_path: Path) -> None:
    issuer = Issuer(tmp_path / "authority")

    async def busy(request: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "77"})

    app = web.Application()
    app.router.add_post("/dp/enroll", busy)
    async with listening(app, server_context(issuer, issuer.server(tmp_path, "server"))) as port:
        with pytest.raises(CloudUnavailable) as caught:
            await enroll(f"https://127.0.0.1:{port}", Secret("t"), PENDING, Trust(issuer.ca, None), SYSTEM_CLOCK)
    assert caught.value.retry_after == 77


def test_whom_to_trust_must_be_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ca_pin or ca_file"):
        read_trust(Managed())
    with pytest.raises(ConfigurationError, match=r"managed\.bootstrap\.ca_file: .* cannot be read"):
        read_trust(Managed(bootstrap=Bootstrap(ca_file=str(tmp_path / "gone"))))
    with pytest.raises(ConfigurationError, match=r"managed\.bootstrap\.ca_pin"):
        read_trust(Managed(bootstrap=Bootstrap(ca_pin="abc")))
