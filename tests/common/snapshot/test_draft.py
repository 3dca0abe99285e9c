"""Snapshots of sealed rows: last good values, rows out of service, and another keyring."""

from collections.abc import Callable

import pytest
from msgspec import json

from aisix_common.resources import EXTERNAL_KINDS, SECRET_PROVIDERS, ProviderKey
from aisix_common.secrets.envelope import NO_KEYRING, Keyring
from aisix_common.snapshot import Pin, Snapshot, apply, build, config_hash, empty, reopened, restore, source_hash
from aisix_common.store.types import KeyValue

from .rows import LATER, MUCH_LATER, NOON, PREFIX, api_key, changes, gone, listing, row
from .sealed import BOTH, CLEAR, IMPOSTOR, NEW, OLD, provider_key, sealed_row, with_unknown

KEY = f"{PREFIX}/provider_keys/k"
HEALTHY = {"k": CLEAR}


def built(*rows: KeyValue, keyring: Keyring = OLD) -> Snapshot:
    return build(listing(*rows), empty(PREFIX), NOON, keyring)


def secrets(snapshot: Snapshot) -> dict[str, str]:
    """What is served, by id."""
    return {id: entry.value.api_key.reveal() for id, entry in snapshot.table(ProviderKey).by_id.items()}


def why(snapshot: Snapshot) -> dict[str, tuple[str, bool]]:
    """Rejected rows: the failure, and whether a last good value is served."""
    return {bad.id: (bad.failure, bad.stale_since is not None) for bad in snapshot.rejected.values()}


def test_what_is_served_is_clear_and_what_is_kept_is_sealed() -> None:
    snapshot = built(sealed := provider_key("k", 1), api_key("a", "h", 2))
    assert secrets(snapshot) == HEALTHY
    assert snapshot.table(ProviderKey).by_id["k"].raw is sealed.value
    assert config_hash(snapshot) == source_hash(snapshot)
    assert CLEAR not in repr(snapshot) + repr(dict(snapshot.table(ProviderKey).by_id))


@pytest.mark.parametrize("keyring", [NO_KEYRING, NEW, IMPOSTOR])
def test_without_the_key_a_row_is_out_of_service(keyring: Keyring) -> None:
    snapshot = built(provider_key("k", 1), provider_key("plain", 2, NO_KEYRING), keyring=keyring)
    assert secrets(snapshot) == {"plain": CLEAR}
    assert why(snapshot) == {"k": ("secret_sealed", False)}
    assert "secrets.keyring" in snapshot.rejected[KEY].message
    after = apply(snapshot, changes(gone("provider_keys/k", 3)), LATER, keyring)
    assert not len(after.rejected)


def test_a_row_that_turns_unreadable_keeps_its_last_good_value() -> None:
    good = built(provider_key("k", 1))
    for after in (
        apply(good, changes(provider_key("k", 2, NEW, created=1, secret="another")), LATER, OLD),
        build(listing(provider_key("k", 2, NEW, created=1, secret="another")), good, LATER, OLD),
    ):
        assert secrets(after) == HEALTHY
        assert why(after) == {"k": ("secret_sealed", True)}
        assert (after.rejected[KEY].stale_since, after.apply_seq) == (LATER, 1)


def test_but_not_that_of_a_row_that_was_deleted() -> None:
    after = apply(built(provider_key("k", 1)), changes(provider_key("k", 3, NEW)), LATER, OLD)
    assert secrets(after) == {}
    assert why(after) == {"k": ("secret_sealed", False)}


def test_a_secret_copied_to_another_row_is_not_used() -> None:
    thief = row("provider_keys/thief", json.encode({**json.decode(provider_key("k", 1).value), "display_name": "t"}), 2)
    snapshot = built(provider_key("k", 1), thief)
    assert secrets(snapshot) == HEALTHY
    assert why(snapshot) == {"thief": ("secret_sealed", False)}


def test_a_second_root_has_its_own_kinds() -> None:
    token = {"method": "token", "token": CLEAR}
    given = {"manager": "vault", "name": "v", "uri": "https://vault.example", "auth": token}
    rows = listing(sealed_row("secret_providers", "1", given, 3, OLD), row("models/m", b"{}", 4))
    start = empty("/ext/aisix", EXTERNAL_KINDS)
    moved = [KeyValue("/ext" + each.key, each.value, 1, 1) for each in rows.rows]
    snapshot = build(listing(*moved), start, NOON, OLD)
    assert list(snapshot.tables) == ["secret_providers"]
    entry = snapshot.table(SECRET_PROVIDERS).by_name["vault/v"]
    assert entry.value.auth.token.reveal() == CLEAR  # type: ignore[union-attr]
    assert why(snapshot) == {"m": ("unknown_kind", False)}
    again = build(listing(*moved), snapshot, LATER, OLD)
    assert again.table(SECRET_PROVIDERS) is snapshot.table(SECRET_PROVIDERS)
    assert why(built(*rows.rows)) == {"1": ("unknown_kind", False), "m": ("schema_failed", False)}


class TestAnotherKeyring:
    def test_what_could_not_be_opened_gets_in(self) -> None:
        before = built(provider_key("k", 1), provider_key("n", 2, NEW), api_key("a", "h", 3))
        assert why(before) == {"n": ("secret_sealed", False)}
        after = reopened(before, LATER, BOTH)
        assert secrets(after) == {"k": CLEAR, "n": CLEAR}
        assert why(after) == {}
        assert (after.apply_seq, after.touched, after.revision) == (2, {"provider_keys": frozenset({"n"})}, 3)
        assert after.table(ProviderKey).by_id["k"] is before.table(ProviderKey).by_id["k"]

    def test_what_does_not_open_any_more_is_served_on_and_told(self) -> None:
        before = built(provider_key("k", 1), provider_key("n", 2, NEW), keyring=BOTH)
        after = reopened(before, LATER, NEW)
        assert secrets(after) == {"k": CLEAR, "n": CLEAR}
        assert why(after) == {"k": ("secret_sealed", True)}
        assert (after.apply_seq, after.touched) == (1, {})
        assert after.rejected[KEY].stale_since == LATER

        listed = build(listing(provider_key("n", 2, NEW)), after, MUCH_LATER, NEW)
        assert secrets(listed) == {"n": CLEAR}, "a deleted row does not live on"

    def test_a_listing_does_not_forget_it(self) -> None:
        rows = listing(provider_key("k", 1))
        after = reopened(build(rows, empty(PREFIX), NOON, OLD), LATER, NEW)
        again = build(rows, after, MUCH_LATER, NEW)
        assert secrets(again) == HEALTHY
        assert why(again) == {"k": ("secret_sealed", True)}
        assert again.rejected[KEY].stale_since == LATER
        assert again.apply_seq == 1

    def test_and_the_key_may_come_back(self) -> None:
        rows = listing(provider_key("k", 1))
        before = build(rows, empty(PREFIX), NOON, OLD)
        told = reopened(before, LATER, NEW)
        for after in (reopened(told, MUCH_LATER, OLD), build(rows, told, MUCH_LATER, OLD)):
            assert secrets(after) == HEALTHY
            assert why(after) == {}
            assert after.table(ProviderKey).by_id["k"] is before.table(ProviderKey).by_id["k"]

    def test_a_bad_row_stays_what_it_is(self) -> None:
        bad = row("provider_keys/k", b'{"display_name":"","api_key":"enc:v1:old:AAAA"}', 2, created=1)
        before = apply(built(provider_key("k", 1)), changes(bad), LATER, OLD)
        for keyring in (OLD, NEW):
            after = reopened(before, MUCH_LATER, keyring)
            assert secrets(after) == HEALTHY
            assert why(after) == {"k": ("schema_failed", True)}
            assert after.rejected[KEY].stale_since == LATER

    def test_after_a_restart_the_row_is_out_of_service(self) -> None:
        told = reopened(built(provider_key("k", 1)), LATER, NEW)
        good = told.table(ProviderKey).by_id["k"]
        pin = Pin(KeyValue(KEY, good.raw, good.create_revision, good.revision), LATER)
        rows = listing(provider_key("k", 1))
        assert secrets(restore(rows, [pin], PREFIX, MUCH_LATER, NEW)) == {}
        again = restore(rows, [pin], PREFIX, MUCH_LATER, BOTH)
        assert secrets(again) == HEALTHY
        assert why(again) == {}


class TestSealedAnew:
    """The same secrets under another key, or under the same with other nonces: bytes differ, content does not."""

    @pytest.mark.parametrize("make", [provider_key, with_unknown])
    @pytest.mark.parametrize("keyring", [OLD, NEW, NO_KEYRING])
    def test_it_is_no_new_content(self, keyring: Keyring, make: Callable[..., KeyValue]) -> None:
        before = built(make("k", 1, OLD), keyring=BOTH)
        anew = make("k", 2, keyring, created=1)
        for after in (apply(before, changes(anew), LATER, BOTH), build(listing(anew), before, LATER, BOTH)):
            assert (after.apply_seq, after.applied_at) == (1, NOON)
            assert after.table(ProviderKey).by_id["k"].raw is anew.value
            assert config_hash(after, BOTH) == config_hash(before, BOTH)

    def test_another_secret_is(self) -> None:
        before = built(provider_key("k", 1))
        after = apply(before, changes(provider_key("k", 2, OLD, created=1, secret="another")), LATER, OLD)
        assert (after.apply_seq, after.applied_at) == (2, LATER)
