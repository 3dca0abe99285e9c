"""The Cloud's rows become the local ones: whole, once, sealed, in order, and by nobody who has lost the lead."""

import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import json

from aisix_cloud_agent.projection.comparing import opened
from aisix_cloud_agent.projection.layout import Layout, Spot
from aisix_cloud_agent.projection.markers import Fence
from aisix_cloud_agent.projection.planning import (
    NO_KEY,
    TOO_LARGE,
    ForeignEnvironment,
    Plan,
    Rules,
    Unfinished,
    local_keys,
    one_by_one,
    plan_changes,
    plan_listing,
)
from aisix_cloud_agent.projection.sealing import WITHHELD, presented
from aisix_cloud_agent.projection.shrink import ShrinkGuard, Suspicious
from aisix_common.managed.projected import Marker, epoch_key, marker_row, projection_key
from aisix_common.secrets.canary import canary_key
from aisix_common.secrets.envelope import NO_KEYRING, Keyring
from aisix_common.store.types import Changes, Delete, Deleted, KeyValue, Listing, Put

from tests.cloud_agent.local_etcd import ENV, KEYRING, LAYOUT, OTHER_ENV, LocalEtcd, Store, cloud_key

RULES = Rules(LAYOUT, KEYRING)
KEY = {"display_name": "k", "api_key": "sk-canary"}
CALLER = {"key_hash": "h", "allowed_models": ["*"]}


class World:
    """A Cloud, a local etcd, and what the agent does with them."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.cloud = Store()
        self.local = LocalEtcd()
        self.rules = rules

    def rows(self, kind: str, count: int, document: Any = CALLER) -> None:
        """Several rows of a kind in the Cloud."""
        for n in range(count):
            self.cloud.put(cloud_key(kind, f"{n:04}"), document)

    def listing(self, confirmed: str = "") -> Any:
        """What is planned of everything."""
        return plan_listing(self.cloud.listing(), self.local.listing(), self.local.standing, self.rules, confirmed)

    def changes(self, *events: KeyValue | Deleted) -> Any:
        """What is planned of events of one revision."""
        changes = Changes(events, events[-1].mod_revision)
        there = {key: row for key in local_keys(changes, LAYOUT) if (row := self.local.rows.get(key))}
        return plan_changes(changes, there, self.local.standing, self.rules)

    def sync(self) -> list[int]:
        """Project everything, whatever it takes away; the operations of each transaction."""
        plan = self.listing()
        if isinstance(plan, Suspicious):
            plan = self.listing(plan.digest)
        return [len(step.operations) for step in self.local.run(plan)]

    def check(self) -> None:
        """The local rows are the Cloud's."""
        wanted = {}
        for key, row in self.cloud.rows.items():
            spot = LAYOUT.spot(key)
            if isinstance(spot, Spot):
                wanted[spot.key] = opened(spot, presented(row.value), KEYRING)
        stored = self.local.projected()
        kinds = {key: key.removeprefix("/ext").split("/", 3)[2:] for key in stored}
        assert {key: opened(Spot(key, *kinds[key]), raw, KEYRING) for key, raw in stored.items()} == wanted
        assert b"sk-canary" not in b"".join(stored.values())
        marker = self.local.standing.marker
        assert marker is not None
        assert marker.state == "done"


def test_from_nothing() -> None:
    world = World()
    world.cloud.put(cloud_key("provider_keys", "p"), KEY)
    world.cloud.put(cloud_key("api_keys", "a"), CALLER)
    world.cloud.put(cloud_key("secret_providers", "v"), {"manager": "gcp", "name": "g", "project_id": "p"})
    world.cloud.put(cloud_key("future_kind", "f"), b'{ "x": 1.0 }')
    assert world.sync() == [4]
    world.check()
    assert sorted(world.local.projected()) == [
        "/aisix/api_keys/a",
        "/aisix/future_kind/f",
        "/aisix/provider_keys/p",
        "/ext/aisix/secret_providers/v",
    ]
    assert world.local.rows["/aisix/future_kind/f"].value == b'{ "x": 1.0 }'
    assert world.local.marker == Marker(ENV, world.cloud.revision, "done")


def test_nothing_unchanged_is_written() -> None:
    world = World()
    world.rows("provider_keys", 20, KEY)
    world.sync()
    revision = world.local.revision
    assert world.sync() == []
    assert world.local.revision == revision
    world.cloud.put(cloud_key("provider_keys", "0003"), {**KEY, "api_key": "sk-canary-2"})
    assert world.sync() == [1]
    world.check()


def test_a_write_that_says_the_same_moves_only_the_revision() -> None:
    world = World()
    world.rows("provider_keys", 1, KEY)
    world.sync()
    row = world.local.rows["/aisix/provider_keys/0000"]
    (step,) = world.local.run(world.changes(world.cloud.put(cloud_key("provider_keys", "0000"), KEY)))
    assert step.operations == ()
    assert world.local.rows["/aisix/provider_keys/0000"] == row
    assert world.local.marker == Marker(ENV, world.cloud.revision, "done")


def test_the_environment_can_stay_in_the_keys() -> None:
    kept = Layout(ENV, f"/aisix/{ENV}", f"/ext/aisix/{ENV}")
    world = World(Rules(kept, KEYRING))
    world.rows("api_keys", 1)
    world.local.put(f"/aisix/{OTHER_ENV}/api_keys/x", CALLER)
    world.sync()
    assert sorted(world.local.projected()) == [f"/aisix/{ENV}/api_keys/0000", f"/aisix/{OTHER_ENV}/api_keys/x"]


def test_what_was_changed_here_is_put_right() -> None:
    world = World()
    world.rows("api_keys", 20)
    world.sync()
    world.local.put("/aisix/api_keys/0001", {"key_hash": "planted"})
    world.local.put("/aisix/api_keys/planted", CALLER)
    world.local.put("/aisix/stray", b"")
    world.local.delete("/aisix/api_keys/0002")
    assert world.sync() == [4]
    world.check()


# -- what is not projected


def refused(plan: Plan) -> dict[str, str]:
    return {each.key: each.reason for each in plan.refused}


def test_rows_of_another_environment_are_never_projected() -> None:
    world = World()
    world.rows("api_keys", 1)
    foreign = [cloud_key("api_keys", "b", OTHER_ENV), f"/aisix/{ENV}/{OTHER_ENV}/api_keys/b", "/aisix/api_keys/b"]
    events = [world.cloud.put(key, CALLER) for key in foreign]
    plan = world.listing()
    assert set(refused(plan)) == set(foreign)
    world.local.run(plan)
    assert list(world.local.projected()) == ["/aisix/api_keys/0000"]
    for event in events:
        plan = world.changes(event)
        assert set(refused(plan)) == {event.key}
        assert plan.puts == plan.deletes == 0
    gone = world.changes(Deleted("/aisix/api_keys/0000", 99))
    assert (gone.deletes, len(gone.refused)) == (0, 1)


def test_without_a_keyring_no_secret_is_written_and_revocations_go_on() -> None:
    world = World()
    world.rows("provider_keys", 2, KEY)
    world.rows("api_keys", 2)
    world.sync()
    world.rules = Rules(LAYOUT, NO_KEYRING)
    before = world.local.projected()
    world.cloud.put(cloud_key("provider_keys", "0000"), {**KEY, "api_key": "sk-canary-2"})
    world.cloud.delete(cloud_key("api_keys", "0001"))
    plan = world.listing()
    assert refused(plan) == {cloud_key("provider_keys", f"000{n}"): NO_KEY for n in range(2)}
    world.local.run(plan)
    del before["/aisix/api_keys/0001"]
    assert world.local.projected() == before, "what was projected before stays"


@pytest.mark.parametrize("raw", [json.encode(KEY), b'{"api_key":"sk-canary"', b'{"token":["sk-canary"]}'])
def test_plaintext_is_written_where_it_is_allowed_and_sealed_when_a_key_comes(raw: bytes) -> None:
    world = World(Rules(LAYOUT, NO_KEYRING, allow_plaintext=True))
    world.cloud.put(cloud_key("provider_keys", "p"), raw)
    world.sync()
    assert world.local.projected() == {"/aisix/provider_keys/p": raw}
    assert world.sync() == []
    world.rules = Rules(LAYOUT, KEYRING, allow_plaintext=True)
    assert world.sync() == [1]
    assert b"sk-canary" not in world.local.rows["/aisix/provider_keys/p"].value
    assert world.sync() == []


def test_a_lost_key_is_healed_by_the_cloud() -> None:
    world = World(Rules(LAYOUT, Keyring([("lost", b"l" * 32)])))
    world.rows("provider_keys", 2, KEY)
    world.sync()
    world.rules = RULES
    assert world.sync() == [2]
    world.check()


def test_broken_rows_are_passed_on_but_for_those_that_may_hold_a_secret() -> None:
    world = World()
    world.cloud.put(cloud_key("models", "broken"), b'{"display_name":')
    world.cloud.put(cloud_key("provider_keys", "broken"), b'{"api_key":"sk-canary"')
    world.sync()
    assert world.local.projected() == {
        "/aisix/models/broken": b'{"display_name":',
        "/aisix/provider_keys/broken": WITHHELD,
    }
    assert world.sync() == []


def test_a_row_that_no_transaction_takes_is_left_out_and_the_one_before_it_stays() -> None:
    world = World()
    world.rows("api_keys", 1)
    world.sync()
    event = world.cloud.put(cloud_key("api_keys", "0000"), {**CALLER, "note": "x" * 1024 * 1024})
    for plan in world.changes(event), world.listing():
        assert refused(plan) == {event.key: TOO_LARGE}
        world.local.run(plan)
    assert world.local.document("/aisix/api_keys/0000") == CALLER
    largest = {**CALLER, "note": "x" * (1024 * 1024 - 1200)}
    world.local.run(world.changes(world.cloud.put(cloud_key("api_keys", "0000"), largest)))
    world.check()


# -- whose rows


def test_rows_that_nobody_projected_are_not_touched() -> None:
    world = World()
    world.rows("api_keys", 1)
    world.local.put("/aisix/models/own", {"display_name": "m"})
    foreign = world.listing()
    assert foreign == ForeignEnvironment("", 1)
    assert "not written by a cloud agent" in foreign.message
    assert world.changes(world.cloud.put(cloud_key("api_keys", "x"), CALLER)) == ForeignEnvironment("", 0)


@pytest.mark.parametrize("rows", [0, 3])
def test_those_of_another_environment_are_taken_over_only_if_it_is_said(rows: int) -> None:
    world = World()
    world.rows("api_keys", 150)
    for n in range(rows):
        world.local.put(f"/aisix/api_keys/theirs-{n}", CALLER)
    world.local.put(projection_key(LAYOUT.run), marker_row(Marker(OTHER_ENV, 900, "done")))
    foreign = world.listing()
    assert foreign == ForeignEnvironment(OTHER_ENV, rows)
    assert OTHER_ENV in foreign.message
    world.rules = Rules(LAYOUT, KEYRING, takeover=True)
    event = world.cloud.put(cloud_key("api_keys", "x"), CALLER)
    assert world.changes(event) == ForeignEnvironment(OTHER_ENV, 0), "a list comes first"
    world.sync()
    world.check()


def test_a_damaged_projection_row_is_no_leave_to_write() -> None:
    world = World()
    world.local.put(projection_key(LAYOUT.run), b"{")
    assert world.listing() == ForeignEnvironment("", 0)
    world.rules = Rules(LAYOUT, KEYRING, takeover=True)
    assert world.sync() == [0]


def test_a_takeover_leaves_no_row_of_theirs_under_a_key_of_ours() -> None:
    world = World(Rules(LAYOUT, NO_KEYRING, takeover=True))
    world.cloud.put(cloud_key("provider_keys", "p"), KEY)
    world.rows("api_keys", 120)
    world.local.put("/aisix/provider_keys/p", {"display_name": "theirs", "api_key": "enc:v1:theirs:AAAA"})
    world.local.run(world.listing(), 2)  # crashed in between
    world.sync()
    assert "/aisix/provider_keys/p" not in world.local.rows


# -- one revision


def test_a_revision_is_one_transaction() -> None:
    world = World()
    world.rows("api_keys", 30)
    world.sync()
    events: list[KeyValue | Deleted] = [Deleted(cloud_key("api_keys", f"{n:04}"), 777) for n in range(30)]
    events.append(KeyValue(cloud_key("provider_keys", "p"), json.encode(KEY), 777, 777))
    (step,) = world.local.run(world.changes(*events))
    assert len(step.operations) == 31
    assert step.sealed
    assert step.marker == Marker(ENV, 777, "done")
    compared = [each.key for each in step.transaction(Fence(1, 2, 3), step.marker, LAYOUT.run)[0]]
    assert compared == [epoch_key(LAYOUT.run), projection_key(LAYOUT.run), canary_key(LAYOUT.run)]


def test_a_large_one_is_chunks_between_markers() -> None:
    world = World()
    world.rows("api_keys", 1)
    world.sync()
    events: list[KeyValue | Deleted] = [Deleted(cloud_key("api_keys", "0000"), 777)]
    for kind in ("api_keys", "provider_keys", "models"):
        events += [KeyValue(cloud_key(kind, f"n{n}"), b"{}", 777, 777) for n in range(50)]
    plan = world.changes(*events)
    assert (plan.puts, plan.deletes) == (150, 1)
    steps = world.local.run(plan)
    assert [(step.marker.state, step.marker.target, len(step.operations)) for step in steps] == [
        ("applying", 777, 0),
        ("applying", 777, 99),
        ("applying", 777, 52),
        ("done", 0, 0),
    ]
    assert steps[0].marker.cloud_revision == world.cloud.revision
    assert isinstance(steps[2].operations[-1], Delete)
    assert isinstance(steps[1].operations[0], Put)
    assert steps[1].operations[0].key.startswith("/aisix/provider_keys/")


def test_changes_wait_while_a_revision_is_unfinished() -> None:
    world = World()
    world.rows("api_keys", 150)
    world.local.run(world.listing(), 2)
    event = world.cloud.put(cloud_key("api_keys", "x"), CALLER)
    assert world.changes(event) == Unfinished(event.mod_revision - 1)
    world.sync()
    world.check()


def test_several_revisions_are_told_apart() -> None:
    events: list[KeyValue | Deleted] = [
        KeyValue("a", b"", 5, 5),
        KeyValue("b", b"", 5, 5),
        Deleted("a", 6),
        KeyValue("a", b"", 8, 8),
    ]
    assert list(one_by_one(Changes(events, 8))) == [
        Changes(tuple(events[:2]), 5),
        Changes((events[2],), 6),
        Changes((events[3],), 8),
    ]


def test_the_other_root_may_be_behind() -> None:
    world = World()
    world.rows("api_keys", 1)
    world.sync()
    revision = world.cloud.revision
    provider = {"manager": "gcp", "name": "g", "project_id": "p"}
    event = KeyValue(cloud_key("secret_providers", "v"), json.encode(provider), 1, revision - 1)
    world.local.run(world.changes(event))
    assert "/ext/aisix/secret_providers/v" in world.local.rows
    assert world.local.marker == Marker(ENV, revision, "done")


def test_deleting_what_is_not_there_writes_nothing() -> None:
    world = World()
    world.rows("api_keys", 1)
    world.sync()
    (step,) = world.local.run(world.changes(Deleted(cloud_key("api_keys", "never"), 50)))
    assert step.operations == ()


# -- lists that take away


def test_a_list_that_takes_away_too_much_is_read_twice() -> None:
    world = World()
    world.rows("api_keys", 40)
    world.sync()
    for n in range(20):
        world.cloud.delete(cloud_key("api_keys", f"{n:04}"))
    before = world.local.projected()
    first = world.listing()
    assert (first.count, first.of) == (20, 40)
    assert world.listing("something else") == first
    assert world.local.projected() == before
    world.cloud.put(cloud_key("api_keys", "0030"), {**CALLER, "disabled": True})  # others go on meanwhile
    world.local.run(world.listing(first.digest))
    world.check()


def test_a_cloud_that_lost_everything_empties_no_gateway_at_once() -> None:
    world = World()
    world.rows("api_keys", 2)
    world.sync()
    world.cloud.rows.clear()
    assert isinstance(world.listing(), Suspicious)
    world.cloud.put(cloud_key("api_keys", "theirs", OTHER_ENV), CALLER)
    assert isinstance(world.listing(), Suspicious), "rows of others are none"


def test_revocations_are_never_held_back() -> None:
    world = World(Rules(LAYOUT, KEYRING, guard=ShrinkGuard(share=0, at_least=0)))
    world.rows("api_keys", 150)
    world.sync()
    events = [Deleted(cloud_key("api_keys", f"{n:04}"), 900) for n in range(150)]
    world.local.run(world.changes(*events))
    assert world.local.projected() == {}


def test_an_older_cloud_is_read_twice_and_believed() -> None:
    world = World()
    world.rows("api_keys", 20)
    world.sync()
    restored = world.cloud.listing()
    world.local.run(world.changes(world.cloud.put(cloud_key("api_keys", "x"), CALLER)))
    standing = world.local.standing
    first = plan_listing(restored, world.local.listing(), standing, RULES)
    assert isinstance(first, Suspicious)
    assert first.older
    world.local.run(plan_listing(restored, world.local.listing(), standing, RULES, first.digest))
    assert "/aisix/api_keys/x" not in world.local.rows
    assert world.local.marker == Marker(ENV, restored.revision, "done")


def test_nor_may_it_be_older_than_what_is_on_its_way() -> None:
    world = World()
    world.rows("api_keys", 150)
    early = world.cloud.listing()
    world.rows("models", 1)
    world.local.run(world.listing(), 2)
    assert isinstance(plan_listing(early, world.local.listing(), world.local.standing, RULES), Suspicious)
    world.sync()
    world.check()


def test_a_cloud_without_the_ext_root_leaves_the_local_one_alone() -> None:
    world = World(Rules(Layout(ENV, external=False), KEYRING))
    world.rows("api_keys", 1)
    world.local.put("/ext/aisix/secret_providers/own", b"{}")
    world.sync()
    assert sorted(world.local.projected()) == ["/aisix/api_keys/0000", "/ext/aisix/secret_providers/own"]


# -- fencing


@pytest.mark.parametrize("by", [epoch_key(LAYOUT.run), projection_key(LAYOUT.run), canary_key(LAYOUT.run)])
def test_who_lost_the_lead_writes_nothing_more(by: str) -> None:
    world = World()
    world.rows("provider_keys", 150, KEY)
    plan, fence = world.listing(), world.local.fence()
    for _ in range(2):
        fence = world.local.commit(next(plan.steps), fence)
    world.local.put(by, b"x")
    before = dict(world.local.rows)
    assert not world.local.tries(next(plan.steps), fence)
    assert world.local.rows == before


def test_a_plan_is_not_done_twice() -> None:
    world = World()
    world.rows("api_keys", 1)
    first, second = world.listing(), world.listing()
    fence = world.local.fence()
    assert world.local.tries(next(first.steps), fence)
    assert not world.local.tries(next(second.steps), fence)


# -- random histories

KINDS = ("provider_keys", "models", "api_keys", "secret_providers", "guardrails", "future_kind")
VALUES: Sequence[bytes] = [
    json.encode(KEY),
    json.encode({**KEY, "note": "n"}),
    json.encode(CALLER),
    json.encode({"display_name": "m", "provider": "openai", "model_name": "x", "provider_key_id": "0001"}),
    json.encode({"display_name": "g", "routing": {"targets": [{"model": "m"}]}}),
    json.encode({"manager": "gcp", "name": "g", "project_id": "p", "service_account": "sk-canary"}),
    json.encode({"name": "g", "kind": "newer", "api_key": "sk-canary"}),
    b'{ "token" : "sk-canary", "x": 1.50 }',
    b'{"api_key":"sk-canary"',
    b"garbage",
]
writes = st.tuples(st.sampled_from(KINDS), st.integers(0, 4), st.sampled_from(VALUES))
bulk = st.tuples(st.sampled_from(KINDS), st.integers(60, 130), st.sampled_from(VALUES))
deletes = st.tuples(st.just("delete"), st.integers(0, 10), st.integers(1, 60))
move = st.one_of(writes, writes, deletes, bulk)
history = st.lists(st.tuples(st.lists(move, min_size=1, max_size=3), st.sampled_from([0, 1, 2, 3, None])), max_size=6)


def transact(cloud: Store, moves: list[Any]) -> Changes:
    """Some writes in the Cloud, all at one revision."""
    cloud.revision += 1
    revision = cloud.revision
    events: dict[str, KeyValue | Deleted] = {}
    for what, number, value in moves:
        if what == "delete":
            for key in sorted(cloud.rows)[number : number + value]:
                if key not in events:
                    events[key] = Deleted(key, revision)
                    del cloud.rows[key]
            continue
        for id in [number] if number < 60 else range(number):
            key = cloud_key(what, f"{id:04}")
            if key not in events:
                old = cloud.rows.get(key)
                row = KeyValue(key, value, old.create_revision if old else revision, revision)
                events[key] = cloud.rows[key] = row
    return Changes(tuple(events.values()), revision)


@pytest.mark.slow
@given(history)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_happens_and_wherever_it_stops_the_local_rows_end_as_the_clouds(history: list[Any]) -> None:
    world = World()
    world.cloud.put(cloud_key("api_keys", "theirs", OTHER_ENV), CALLER)
    world.sync()
    watching = True
    for moves, stop in history:
        changes = transact(world.cloud, moves)
        if not changes.events:
            continue
        plan = world.changes(*changes.events) if watching else world.listing()
        if isinstance(plan, Suspicious):
            plan = world.listing(plan.digest)
        steps = world.local.run(plan, stop)
        watching = stop is None or len(steps) < stop  # else it was killed, and starts with a list
        if watching:
            world.check()
    world.sync()
    world.check()
    writes = world.local.writes
    world.sync()
    assert world.local.writes == writes, "nothing unchanged is written again"


@given(st.integers(0, 6), st.integers(0, 6))
@settings(deadline=None, max_examples=10)
def test_a_list_stopped_after_any_transaction_is_finished_by_the_next(first: int, second: int) -> None:
    world = World()
    world.rows("provider_keys", 150, KEY)
    world.rows("api_keys", 150)
    world.local.run(world.listing(), first)
    for n in range(140):
        world.cloud.delete(cloud_key("api_keys", f"{n:04}"))
    plan = world.listing()
    world.local.run(world.listing(plan.digest) if isinstance(plan, Suspicious) else plan, second)
    world.sync()
    world.check()


# -- scale


def test_twenty_thousand_rows_in_seconds() -> None:
    rows = []
    for n in range(20_000):
        kind, document = ("provider_keys", KEY) if n % 10 == 0 else ("api_keys", {**CALLER, "key_hash": f"{n:064x}"})
        rows.append(KeyValue(cloud_key(kind, f"{n:05}"), json.encode(document), n + 1, n + 1))
    world, cloud = World(), Listing(tuple(rows), 60_000)
    begin = time.process_time()
    plan = plan_listing(cloud, Listing((), 1), world.local.standing, RULES)
    assert isinstance(plan, Plan)
    steps = list(plan.steps)
    planned = time.process_time() - begin
    assert len(steps) == 20_000 // 99 + 3
    put = {each.key: each for step in steps for each in step.operations if isinstance(each, Put)}
    local = Listing(tuple(KeyValue(key, each.value, 1, 1) for key, each in put.items()), 2)
    world.local.put(projection_key(LAYOUT.run), marker_row(steps[-1].marker))
    begin = time.process_time()
    plan = plan_listing(cloud, local, world.local.standing, RULES)
    assert isinstance(plan, Plan)
    assert list(plan.steps) == []
    assert max(planned, time.process_time() - begin) < 5, "one on a machine that has nothing else to do"
