"""Which bundle of several is used, and what may take its place. The stores' tests show it over their places."""

from functools import partial

import pytest

from aisix_cloud_agent.identity.bundle import Bundle
from aisix_cloud_agent.identity.candidates import (
    GOOD,
    ChangedMeanwhile,
    Kept,
    KeptId,
    Survey,
    joined,
    parted,
    pending_of,
    pending_text,
    survey,
    version_of,
)
from aisix_cloud_agent.identity.enrollment import new_pending
from aisix_cloud_agent.identity.identity import BundleRefused, Identity, identify

from tests.cloud_agent.issuing import DP, ENV, NOW, OTHER_ENV, URIS, bundle

OLD, NEW, NEWEST = bundle(days=(-30, 60)), bundle(days=(-20, 70)), bundle(days=(-10, 80))
FOREIGN = bundle([f"x-aisix://env/{OTHER_ENV}", URIS[1]], days=(-5, 85))


def kept(env_id: str = "", dp_id: str = "") -> Kept:
    return Kept(KeptId(env_id, "env_id", "empty it"), KeptId(dp_id, "dp_id", "empty it"))


OURS = kept(ENV, DP)


def look(*found: Bundle | None, ids: Kept = OURS, in_force: Bundle | None = None) -> Survey:
    """A store whose places hold these: "" and GOOD."""
    places = dict(zip(("", GOOD), found, strict=False))
    readers = {place: partial(_given, held) for place, held in places.items()}
    running = identity(in_force) if in_force is not None else None
    return survey(readers, lambda place: place or "files", ids, NOW, running)


def identity(given: Bundle) -> Identity:
    return identify(given.certificate, given.key, given.ca, NOW)


def _given(held: Bundle | None) -> Bundle | None:
    return held


@pytest.mark.parametrize(
    ("found", "newest", "before"),
    [
        ((), None, None),
        ((None, None), None, None),
        ((NEW, OLD), NEW, OLD),
        ((OLD, NEW), NEW, None),
        ((NEW, NEW), NEW, None),
        ((FOREIGN, OLD), OLD, None),
        ((None, OLD), OLD, None),
    ],
    ids=["no-places", "nothing", "new", "older-files", "confirmed", "foreign-files", "good-alone"],
)
def test_the_newest_sound_one_and_the_one_before(
    found: tuple[Bundle | None, ...], newest: Bundle | None, before: Bundle | None
) -> None:
    seen = look(*found)
    chosen, last = seen.chosen(), seen.before()
    assert (chosen and chosen.bundle, last and last.bundle) == (newest, before)
    if newest is not None:
        assert chosen is not None and chosen.version == version_of(newest) and bool(chosen.notes) == (FOREIGN in found)


def test_nothing_that_can_be_used_is_an_error_with_every_reason() -> None:
    with pytest.raises(BundleRefused, match=r"files: the certificate is that of environment .*empty it") as caught:
        look(FOREIGN).chosen()
    assert len(caught.value.reasons) == 1
    with pytest.raises(BundleRefused, match="it is older"):
        look(OLD, in_force=NEW).chosen()
    with pytest.raises(BundleRefused, match="this gateway runs as"):
        look(FOREIGN, ids=kept(), in_force=NEW).chosen()


def test_what_may_take_its_place() -> None:
    seen, newest = look(NEW, OLD), identity(NEWEST)
    found = seen.replaced_by(newest, version_of(NEW), "the store")
    assert found is not None and found.bundle == NEW
    assert look().replaced_by(newest, None, "the store") is None
    for version in (None, version_of(OLD)):
        with pytest.raises(ChangedMeanwhile, match="the store was changed meanwhile"):
            seen.replaced_by(newest, version, "the store")
    with pytest.raises(BundleRefused, match="it is older"):
        seen.replaced_by(identity(OLD), version_of(NEW), "the store")


@pytest.mark.parametrize("damaged", [b"", b"[]", b'{"certificate": 1}', b"[" * 100_000, b'{"key": "K-canary"'])
def test_documents(damaged: bytes) -> None:
    pending = new_pending()
    assert parted(joined(NEW).encode()) == NEW
    assert pending_of(pending_text(pending).encode()) == pending
    assert pending_of(damaged) is None
    with pytest.raises(BundleRefused, match="is damaged") as caught:
        parted(damaged)
    assert caught.value.__context__ is None
