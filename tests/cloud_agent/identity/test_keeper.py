"""The keeper of the identity against a Cloud with real TLS: first certificate, renewal, what does not work, what is
replaced, who leads, and a restart at every point."""

import datetime as dt
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aisix_cloud_agent.cloud.link import CloudRefused
from aisix_cloud_agent.cloud.session import CloudSession
from aisix_cloud_agent.identity.bundle import Bundle
from aisix_cloud_agent.identity.bundle_store import DirectoryStore, NotSaved, Stored
from aisix_cloud_agent.identity.enrollment import Pending
from aisix_cloud_agent.identity.renewal import Alarm
from aisix_common.secret import Secret
from aisix_common.settings.control import Bootstrap, Managed

from tests.cloud_agent.keeping import Kept, keeping, store_of, until
from tests.cloud_agent.rest_cloud import BEAT, ENV, OTHER_ENV, RestCloud, identity_of, rest_cloud

HOUR = dt.timedelta(hours=1)


def with_token(c: RestCloud, token: str | None = None) -> Managed:
    return c.managed(Bootstrap(token=Secret(token or c.token()), ca_pin=c.issuer.pin))


def with_files(c: RestCloud, bundle: Bundle, *, renew: bool = False) -> Managed:
    """Settings that name three files, which are written."""
    folder = c.folder / "given"
    put_files(folder, bundle)
    names: dict[str, Any] = {f"cp_{role}_file": str(folder / role) for role in ("cert", "key", "ca")}
    return c.managed(renew=renew, **names)


def put_files(folder: Path, bundle: Bundle) -> None:
    folder.mkdir(exist_ok=True)
    for role, text in (("cert", bundle.certificate), ("key", bundle.key.reveal()), ("ca", bundle.ca)):
        (folder / role).write_text(text)


async def settled(kept: Kept, store: DirectoryStore) -> None:
    """A heartbeat, and the keeper has noticed."""
    serial = kept.identity.serial
    await kept.beat()

    def good() -> bool:
        found = store.load(kept.clock.now())
        return found is not None and found.identity.serial == serial and store.before(kept.clock.now()) is None

    await until(good)
    await until(lambda: store.load_pending() is None)


async def looks(kept: Kept) -> None:
    """Time for a few looks of the keeper, in which nothing should happen."""
    before = kept.monotonic()
    await until(lambda: kept.monotonic() > before + 0.1)


def passes(kept: Kept, seconds: float) -> bool:
    kept.monotonic.moved += seconds
    return True


# a token


async def test_a_token_becomes_a_certificate_and_is_forgotten(tmp_path: Path) -> None:
    async with rest_cloud(tmp_path) as c:
        token = c.token()
        managed = with_token(c, token)
        store = store_of(managed)
        async with keeping(managed) as kept:
            identity = await kept.first()
            assert identity.env_id == ENV
            stored = store.load(kept.clock.now())
            assert stored is not None
            assert stored.identity == identity
            assert store.load_pending() is not None  # until it has worked
            await settled(kept, store)
            said = kept.everything_said()
            assert token not in said
            assert stored.bundle.key.reveal()[40:80] not in said
            assert kept.keeper.status().serial == identity.serial
            assert kept.metric("aisix_cloud_certificate_expiry_timestamp_seconds") == identity.not_after.timestamp()
        assert c.calls("/dp/enroll") == 1
        async with keeping(managed) as kept:  # a restart asks nobody
            assert (await kept.first()).serial == identity.serial
        assert c.calls("/dp/enroll") == 1


class Cut(DirectoryStore):
    """A folder in which nothing happens any more from some point on, as if the process had been killed there."""

    def __init__(self, managed: Managed, point: str) -> None:
        super().__init__(Path(managed.mtls_dir), Path(managed.dp_id_file))
        self._point = point
        self.dead = False

    def save(self, bundle: Bundle, now: dt.datetime, version: str | None) -> Stored:
        self._at("before save")
        stored = super().save(bundle, now, version)
        self._at("after save")
        return stored

    def save_pending(self, pending: Pending | None) -> None:
        what = "pending" if pending is not None else "forgetting"
        self._at(f"before {what}")
        super().save_pending(pending)
        self._at(f"after {what}")

    def confirm(self, version: str, now: dt.datetime) -> None:
        self._at("before confirm")
        super().confirm(version, now)
        self._at("after confirm")

    def _at(self, point: str) -> None:
        self.dead = self.dead or point == self._point
        if self.dead:
            raise NotSaved("killed here")


POINTS = [f"{when} {what}" for what in ("pending", "save", "confirm", "forgetting") for when in ("before", "after")]


@pytest.mark.parametrize("point", POINTS)
async def test_whatever_point_of_an_enrolment_is_the_last_the_next_start_goes_on(tmp_path: Path, point: str) -> None:
    async with rest_cloud(tmp_path) as c:
        managed = with_token(c)
        cut = Cut(managed, point)
        async with keeping(managed, cut) as kept:
            if point.split()[1] in ("confirm", "forgetting"):
                await kept.first()
                await kept.beat()
            await until(lambda: cut.dead)
        async with keeping(managed) as kept:
            await kept.first()
            await settled(kept, store_of(managed))
        assert len(c.enrolment.issued) == 1, "the token was used with one key"


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
async def test_whatever_point_of_a_renewal_is_the_last_the_next_start_goes_on(tmp_path: Path, point: str) -> None:
    async with rest_cloud(tmp_path) as c:
        first = c.issue(lifetime=3 * HOUR)
        managed = with_files(c, first, renew=True)
        store_of(managed).save(first, dt.datetime.now(dt.UTC), None)
        cut = Cut(managed, point)
        async with keeping(managed, cut) as kept:
            await kept.first()
            kept.clock.moved = 2.1 * HOUR
            if point.split()[1] in ("confirm", "forgetting"):
                await until(lambda: c.enrolment.issued)
                await until(lambda: kept.identity.serial != identity_of(first).serial)
                await kept.beat()
            await until(lambda: cut.dead)
        async with keeping(managed) as kept:
            kept.clock.moved = 2.1 * HOUR
            await kept.first()
            await until(lambda: kept.identity.serial != identity_of(first).serial)
            await settled(kept, store_of(managed))


@pytest.mark.parametrize("trouble", [{"lost": True}, {"status": 503}, {"garbage": True}], ids=str)
async def test_an_answer_that_is_lost_is_asked_for_again_with_the_same_key(
    tmp_path: Path, trouble: dict[str, object]
) -> None:
    async with rest_cloud(tmp_path) as c:
        managed = with_token(c)
        c.troubles.add("/dp/enroll", times=1, **trouble)  # type: ignore[arg-type]
        async with keeping(managed) as kept:
            await until(lambda: c.calls("/dp/enroll") == 1)
            await until(lambda: "trouble with enrolment" in kept.events())
            pending = store_of(managed).load_pending()
            assert pending is not None
            kept.monotonic.moved += 2
            await kept.first()
            stored = store_of(managed).load(kept.clock.now())
            assert stored is not None
            assert stored.bundle.key == pending.key_pem
            assert "no more trouble with enrolment" in kept.events()
        assert len(c.enrolment.issued) == 1


async def test_a_spent_token_is_left_until_there_is_another(tmp_path: Path) -> None:
    async with rest_cloud(tmp_path) as c:
        path = tmp_path / "token"
        managed = c.managed(Bootstrap(token_file=str(path), ca_file=str(c.issuer.ca_file)))
        async with keeping(managed) as kept:
            await until(lambda: "trouble with the token" in kept.events())
            path.write_text("enrol-canary-spent\n")
            await until(lambda: kept.metric("aisix_cloud_certificate_alarm") == Alarm.EXPIRED)
            kept.monotonic.moved += 10_000
            await looks(kept)
            assert c.calls("/dp/enroll") == 1
            assert "new token" in kept.keeper.status().last_refusal
            path.write_text(c.token())
            await kept.first()
            await until(lambda: kept.metric("aisix_cloud_certificate_alarm") == Alarm.NONE)
            assert "canary" not in kept.everything_said()


async def test_a_wrong_pin_sends_nothing_and_is_told_once(tmp_path: Path) -> None:
    async with rest_cloud(tmp_path) as c:
        managed = with_token(c)
        wrong = replace_bootstrap(managed, "0" * 64)
        async with keeping(wrong) as kept:
            for _ in range(3):
                kept.monotonic.moved += 4000
                await failed_again(kept)
            await until(lambda: "ca_pin" in kept.keeper.status().last_refusal)
            assert kept.events().count("trouble with enrolment") == 1
        assert not c.dp.calls


def replace_bootstrap(managed: Managed, pin: str) -> Managed:
    return msgspec.structs.replace(managed, bootstrap=msgspec.structs.replace(managed.bootstrap, ca_pin=pin))


async def failed_again(kept: Kept) -> None:
    before = kept.keeper.status().last_refusal_at
    await until(lambda: kept.keeper.status().last_refusal_at != before)


async def shows(kept: Kept, level: Alarm) -> None:
    await until(lambda: kept.metric("aisix_cloud_certificate_alarm") == level)


async def refused(kept: Kept, says: str) -> None:
    await until(lambda: says in kept.keeper.status().last_refusal)


# renewal


async def test_a_certificate_is_renewed_and_the_old_session_stays_until_the_new_one_has_worked(tmp_path: Path) -> None:
    async with rest_cloud(tmp_path) as c:
        first = c.issue(lifetime=3 * HOUR)
        managed = with_files(c, first, renew=True)
        store = store_of(managed)
        async with keeping(managed) as kept:
            old = await kept.first()
            await settled(kept, store)
            session = kept.opened[0]
            kept.clock.moved = 1.8 * HOUR
            await looks(kept)
            assert not c.enrolment.issued  # two thirds are two hours
            kept.clock.moved = 2.1 * HOUR
            await until(lambda: kept.identity.serial != old.serial)
            assert kept.identity.same_as(old)
            assert kept.identity.key_hash != old.key_hash
            before = store.before(kept.clock.now())
            assert before is not None
            assert before.identity.serial == old.serial
            await session.heartbeat(BEAT)  # it goes on
            await settled(kept, store)
            assert kept.metric("aisix_cloud_renewals_total", "renewed") == 1
            assert c.calls("/dp/rotate-cert") == 1
            await until(lambda: closed(session))
            assert not closed(kept.opened[1])


def closed(session: object) -> bool:
    assert isinstance(session, CloudSession)
    return session.closed


async def test_a_renewal_that_fails_is_tried_again_and_alarms_rise(tmp_path: Path) -> None:
    async with rest_cloud(tmp_path) as c:
        first = c.issue(lifetime=3 * HOUR)
        managed = with_files(c, first, renew=True)
        async with keeping(managed) as kept:
            await kept.first()
            await settled(kept, store_of(managed))
            c.troubles.add("/dp/rotate-cert", status=503)
            for level, hours in zip(Alarm, (2.1, 2.5, 2.9, 3.1), strict=True):
                kept.clock.moved = hours * HOUR
                kept.monotonic.moved += 4000
                if level is not Alarm.EXPIRED:
                    await failed_again(kept)
                await shows(kept, level)
            told = [e for e in kept.events() if e.startswith("the certificate of the Cloud link")]
            assert len(told) == 3
            assert kept.events().count("trouble with renewal") == 1
            assert kept.metric("aisix_cloud_renewals_total", "failed") >= 3
            kept.clock.moved = 2.9 * HOUR
            c.troubles.clear()
            kept.monotonic.moved += 4000
            await until(lambda: kept.metric("aisix_cloud_renewals_total", "renewed") == 1)


async def test_nothing_is_renewed_unless_it_is_asked_for(tmp_path: Path) -> None:
    async with rest_cloud(tmp_path) as c:
        managed = with_files(c, c.issue(lifetime=3 * HOUR))
        async with keeping(managed) as kept:
            await kept.first()
            await settled(kept, store_of(managed))
            kept.clock.moved = 2.9 * HOUR
            await until(lambda: kept.metric("aisix_cloud_certificate_alarm") == Alarm.URGENT)
            assert c.calls("/dp/rotate-cert") == 0


@pytest.mark.parametrize("how", ["revoked", "silent"])
async def test_a_new_certificate_that_does_not_work_is_left_for_the_one_before(tmp_path: Path, how: str) -> None:
    async with rest_cloud(tmp_path) as c:
        first = c.issue(lifetime=3 * HOUR)
        managed = with_files(c, first, renew=True)
        store = store_of(managed)
        async with keeping(managed) as kept:
            old = await kept.first()
            await settled(kept, store)
            kept.clock.moved = 2.1 * HOUR
            await until(lambda: kept.identity.serial != old.serial)
            new = kept.identity
            if how == "revoked":
                c.issuer.revoke(int(new.serial, 16))
                with pytest.raises(CloudRefused):
                    await kept.beat()
            await until(lambda: passes(kept, 1) and kept.identity.serial == old.serial)
            await until(lambda: kept.metric("aisix_cloud_renewals_total", "refused") == 1)
            await kept.beat()
            assert new.serial in kept.keeper.status().last_refusal
            await looks(kept)
            assert kept.identity.serial == old.serial  # not at once again
            assert c.calls("/dp/rotate-cert") == 1
            kept.monotonic.moved += 4000
            await until(lambda: kept.identity.serial != old.serial)
            if how == "revoked":  # another one
                assert c.calls("/dp/rotate-cert") == 2
                assert kept.identity.key_hash != new.key_hash
            else:  # the same again
                assert kept.identity.serial == new.serial
            await settled(kept, store)
            await until(lambda: "no more trouble with a new certificate" in kept.events())


async def test_one_that_was_only_silent_is_tried_at_once_where_the_one_before_is_refused(tmp_path: Path) -> None:
    async with rest_cloud(tmp_path) as c:
        managed = with_files(c, c.issue(lifetime=3 * HOUR), renew=True)
        async with keeping(managed) as kept:
            old = await kept.first()
            await settled(kept, store_of(managed))
            kept.clock.moved = 2.1 * HOUR
            await until(lambda: kept.identity.serial != old.serial)
            new = kept.identity
            await until(lambda: passes(kept, 1) and kept.identity.serial == old.serial)
            c.issuer.revoke(int(old.serial, 16))
            with pytest.raises(CloudRefused):
                await kept.beat()
            await until(lambda: kept.identity.serial == new.serial)
            await settled(kept, store_of(managed))


# what is replaced


async def test_files_that_are_replaced_are_taken_up_and_what_must_not_be_is_refused(tmp_path: Path) -> None:
    async with rest_cloud(tmp_path) as c:
        older, first, newer = (c.issue(age=dt.timedelta(seconds=age)) for age in (90, 60, 0))
        managed = with_files(c, first)
        given = tmp_path / "given"
        async with keeping(managed) as kept:
            old = await kept.first()
            await settled(kept, store_of(managed))
            for bad, says in (
                (c.issue(OTHER_ENV), OTHER_ENV),
                (replace(newer, key=first.key), "the key is not the certificate's"),
                (replace(newer, ca="x"), "the CA is not PEM"),
            ):
                put_files(given, bad)
                await refused(kept, says)
            put_files(given, older)
            await looks(kept)
            assert kept.identity.serial == old.serial
            os.remove(given / "key")
            await until(lambda: "cp_key_file" in kept.keeper.status().last_refusal)
            put_files(given, newer)
            await until(lambda: kept.identity.serial == identity_of(newer).serial)
            await settled(kept, store_of(managed))


async def test_a_bundle_that_is_copied_into_the_store_is_taken_up(tmp_path: Path) -> None:
    async with rest_cloud(tmp_path) as c:
        first = c.issue(age=HOUR)
        managed = c.managed()
        store = store_of(managed)
        store.save(first, dt.datetime.now(dt.UTC), None)
        async with keeping(managed) as kept:
            await kept.first()
            await settled(kept, store)
            foreign = c.issue(OTHER_ENV)
            (Path(managed.mtls_dir) / "client.crt").write_text(foreign.certificate)
            await refused(kept, "the key is not the certificate's")
            assert kept.identity.serial == identity_of(first).serial
            newer = c.issue()
            for name, text in (("client.crt", newer.certificate), ("client.key", newer.key.reveal())):
                (Path(managed.mtls_dir) / name).write_text(text)
            await until(lambda: kept.identity.serial == identity_of(newer).serial)


async def test_settings_that_are_older_than_what_was_renewed_do_not_count(tmp_path: Path) -> None:
    async with rest_cloud(tmp_path) as c:
        first = c.issue(age=HOUR)
        managed = with_files(c, first)
        store = store_of(managed)
        now = dt.datetime.now(dt.UTC)
        kept_one = c.issue()
        store.save(kept_one, now, None)
        async with keeping(managed) as kept:
            assert (await kept.first()).serial == identity_of(kept_one).serial


# two of them


async def test_who_follows_waits_takes_up_what_the_leader_keeps_and_takes_over(tmp_path: Path) -> None:
    async with rest_cloud(tmp_path) as c:
        managed = with_token(c)
        store = store_of(managed)
        async with keeping(managed, leads=False) as follower:
            await looks(follower)
            assert not c.dp.calls
            async with keeping(managed) as leader:
                identity = await leader.first()
                assert (await follower.first()).serial == identity.serial
                await settled(leader, store)
                c.enrolment.lifetime = 72 * HOUR  # of the next one, which must not be due at once
                leader.clock.moved = follower.clock.moved = 17 * HOUR
                await until(lambda: leader.identity.serial != identity.serial)
                await until(lambda: follower.identity.serial == leader.identity.serial)
                await settled(leader, store)
            assert c.calls("/dp/rotate-cert") == 1
            follower.leads[0] = True
            await follower.beat()
            follower.clock.moved = 34 * HOUR
        assert c.calls("/dp/enroll") == 1


async def test_who_follows_writes_nothing(tmp_path: Path) -> None:
    async with rest_cloud(tmp_path) as c:
        managed = with_files(c, c.issue())
        async with keeping(managed, leads=False) as kept:
            await kept.first()
            await kept.beat()
            await looks(kept)
            assert not Path(managed.mtls_dir).exists()
            kept.leads[0] = True
            await settled(kept, store_of(managed))
