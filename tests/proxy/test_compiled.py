"""Records live as long as their rows, and one change among many costs next to nothing."""

import time
from dataclasses import replace
from datetime import timedelta

from aisix_common.resources import hash_key
from aisix_common.snapshot import Snapshot, apply
from aisix_common.store.types import Changes, Deleted, KeyValue
from aisix_proxy.compiled import Compiled, CompiledKey, Live
from aisix_proxy.compiled_model import CompiledModel, Defaults

from tests.support.builders import KEY, NOON, api_key, changed, model, provider_key, snapshot_of, standard

DEFAULTS = Defaults(6_000_000, 0)


def compiled(snapshot: Snapshot, previous: Compiled | None = None) -> Compiled:
    return Compiled(snapshot, DEFAULTS, previous)


def key_of(one: Compiled, plaintext: str = KEY) -> CompiledKey:
    key = one.key(hash_key(plaintext))
    assert key is not None
    return key


def model_of(one: Compiled, name: str = "demo-model") -> CompiledModel:
    found = one.model(name)
    assert found is not None
    return found


def test_records_outlive_changes_of_other_rows() -> None:
    snapshot = standard()
    first = compiled(snapshot)
    key, demo = key_of(first), model_of(first)
    second = compiled(changed(snapshot, api_key("sk-2", id="key-2"), model("other")), first)
    assert key_of(second) is key
    assert model_of(second) is demo
    assert key_of(second, "sk-2").id == "key-2"


def test_a_changed_row_gets_a_new_record_and_the_old_one_stays_as_it_was() -> None:
    snapshot = standard()
    first = compiled(snapshot)
    key, demo = key_of(first), model_of(first)
    second = compiled(changed(snapshot, api_key(disabled=True), model(model_name="gpt-5")), first)
    assert key_of(second).disabled
    assert not key.disabled
    assert model_of(second).target is not None
    assert demo.target is not None
    assert (demo.target.model_name, model_of(first).target) == ("gpt-4o", demo.target)


def test_a_changed_provider_key_changes_its_models() -> None:
    snapshot = standard()
    first = compiled(snapshot)
    old = model_of(first).target
    new = model_of(compiled(changed(snapshot, provider_key(api_key="rotated")), first)).target
    assert old is not None
    assert new is not None
    assert (new.credential.reveal(), old.credential.reveal() != "rotated") == ("rotated", True)


def test_remembered_credentials_go_with_any_change() -> None:
    snapshot = standard()
    first = compiled(snapshot)
    first.remember_credential("Bearer x", key_of(first))
    assert first.remembered_credential("Bearer x") is key_of(first)
    assert compiled(snapshot, first).remembered_credential("Bearer x") is None


def test_memories_are_bounded() -> None:
    one = compiled(snapshot_of(provider_key(), model("w-*"), api_key()))
    for n in range(12_000):
        one.remember_credential(f"Bearer {n}", key_of(one))
        if n < 3000:
            model_of(one, f"w-{n}")
            key_of(one).remember(n, n)
    assert len(one._credentials) <= 10_000
    assert len(one._named) <= 1024
    assert len(key_of(one)._cells) <= 256


def test_long_names_are_served_only_where_configured_and_never_remembered() -> None:
    long, wide = "w-" + "x" * 255, "w-" + "\u00e9" * 128
    one = compiled(snapshot_of(provider_key(), model("w-*", model_name="*"), model("y" * 300), api_key()))
    for name in (long, wide, "w-\udcff" + "\u00e9" * 127):
        assert one.model(name) is None
    assert one.model(long[:-1]) is not None
    assert model_of(one, "y" * 300).name == "y" * 300
    assert list(one._named) == [long[:-1]]


def test_the_records_of_one_wildcard_row_share_its_identity() -> None:
    snapshot = snapshot_of(provider_key(), model("w-*", model_name="*"), api_key())
    one = compiled(snapshot)
    first, second = model_of(one, "w-1"), model_of(one, "w-2")
    assert first is not second
    assert first.row is second.row
    assert model_of(compiled(changed(snapshot, model("w-*", model_name="x*"))), "w-1").row is not first.row


def test_exact_names_come_before_wildcards_and_longer_patterns_first() -> None:
    one = compiled(
        snapshot_of(
            provider_key(),
            model("gpt-*", model_name="up-*"),
            model("gpt-4-*", model_name="four-*"),
            model("gpt-4-x", model_name="exact"),
            model("*", model_name="all"),
        )
    )

    def upstream(name: str) -> str:
        target = model_of(one, name).target
        assert target is not None
        return target.model_name

    assert upstream("gpt-4-x") == "exact"
    assert upstream("gpt-4-y") == "four-y"
    assert upstream("gpt-5") == "up-5"
    assert upstream("gpt-") == "up-"
    assert upstream("other") == "all"
    assert model_of(one, "gpt-5").name == "gpt-*", "labels are configured names, never a caller's"
    assert model_of(one, "gpt-5") is model_of(one, "gpt-5")


def test_a_model_nobody_configured() -> None:
    assert compiled(standard()).model("nope") is None


def test_a_provider_key_that_is_out_of_service_is_told_from_one_that_is_not_there() -> None:
    def problem(one: Compiled) -> tuple[int, str]:
        found = model_of(one).problem
        assert found is not None
        return found.status, found.summary

    rows = (model(), api_key())
    without = snapshot_of(*rows)
    first = compiled(without)
    assert problem(first) == (400, "provider_key_id names no provider key")
    bad = KeyValue("/aisix/provider_keys/pk-1", b"{}", 20, 20)
    out = compiled(apply(without, Changes((bad,), 20), NOON), first)
    assert problem(out) == (503, "its provider key is out of service")
    gone = compiled(apply(out.snapshot, Changes((Deleted(bad.key, 21),), 21), NOON), out)
    assert problem(gone) == (400, "provider_key_id names no provider key")
    good = compiled(changed(gone.snapshot, provider_key()), gone)
    assert model_of(good).problem is None


def test_problems_are_listed() -> None:
    one = compiled(snapshot_of(provider_key(), model("good"), model("bad", provider_key_id="gone"), api_key()))
    assert [record.name for record, _ in one.problems()] == ["bad"]


def test_one_change_among_many_holds_the_loop_for_less_than_five_milliseconds() -> None:
    keys = [api_key(f"sk-{n}", id=f"k{n}", previous_keys=[former(f"sk-old-{n}")][n % 2 :]) for n in range(20_000)]
    models = [model(f"m{n}") for n in range(5_000)]
    snapshot = snapshot_of(provider_key(), *models, *keys)
    live = Live(snapshot, DEFAULTS)
    for n in range(0, 5_000, 5):
        assert live.compiled.model(f"m{n}")
        assert live.compiled.key(hash_key(f"sk-{n}"))
    best = 1.0
    for n in range(3):
        after = changed(snapshot, api_key("sk-new", id=f"new-{n}"), model(f"new-{n}"))
        begun = time.perf_counter()
        live.apply(after)
        best = min(best, time.perf_counter() - begun)
    assert best < 0.005


def former(plaintext: str, seconds: float = 60) -> dict[str, str]:
    return {"hash": hash_key(plaintext), "until": (NOON + timedelta(seconds=seconds)).isoformat()}


def test_a_rotated_key_is_the_same_key_until_its_overlap_ends() -> None:
    one = compiled(snapshot_of(api_key("sk-new", previous_keys=[former("sk-old"), former("sk-older", 0)])))
    assert one.former_key(hash_key("sk-old"), NOON) is key_of(one, "sk-new")
    assert one.former_key(hash_key("sk-old"), NOON + timedelta(seconds=60)) is key_of(one, "sk-new")
    assert one.former_key(hash_key("sk-old"), NOON + timedelta(seconds=60, microseconds=1)) is None
    assert one.former_key(hash_key("sk-older"), NOON) is key_of(one, "sk-new")
    assert one.former_key(hash_key("sk-new"), NOON) is None
    assert one.key(hash_key("sk-old")) is None


def test_former_keys_follow_changes() -> None:
    snapshot = snapshot_of(api_key("sk-a", id="a", previous_keys=[former("sk-x")]), api_key("sk-b", id="b"))
    first = compiled(snapshot)

    def holder(one: Compiled, plaintext: str = "sk-x") -> str:
        key = one.former_key(hash_key(plaintext), NOON)
        return "" if key is None else key.id

    both = changed(snapshot, api_key("sk-b", id="b", previous_keys=[former("sk-x"), former("sk-y")]))
    second = compiled(both, first)
    assert (holder(first), holder(first, "sk-y")) == ("a", "")
    assert (holder(second), holder(second, "sk-y")) == ("a", "b"), "of two rows the first, by id where they are as old"
    without = changed(both, api_key("sk-a", id="a"))
    third = compiled(without, second)
    assert (holder(third), holder(third, "sk-y")) == ("b", "b")
    other = changed(without, model("m"))
    fourth = compiled(other, third)
    assert fourth._former is third._former, "a change of other kinds costs nothing"
    afresh = compiled(replace(changed(other, api_key("sk-b", id="b")), touched=None), fourth)
    assert (holder(afresh), holder(afresh, "sk-y")) == ("", "")
    assert not afresh._former, "nothing is left behind"
