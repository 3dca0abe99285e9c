"""What is planned and made a transaction of in the tests of both: edits over an etcd that is a dictionary."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aisix_admin.audit import Actor
from aisix_admin.facts import Pointed
from aisix_admin.index import EXT, RESOURCES, Place, ResourceIndex
from aisix_admin.planning import Edit, Planner, View
from aisix_admin.rows import Roots
from aisix_admin.sealing import Sealing
from aisix_admin.transaction import Plan, Shared, Transactions, Wish
from aisix_common.resources import ALL_KINDS, Kind, check, document
from aisix_common.secrets.canary import canary_row
from aisix_common.store.types import KeyValue, Listing, Operation, Put

from .admin import KEYRING

ROOTS = Roots("/aisix", "/run/aisix", "/ext/aisix")
NOW = datetime(2026, 1, 2, tzinfo=UTC)
WISH = Wish(Actor("ops", "192.0.2.1", "r-1"), NOW, "8-token.0", 20)
TURN = "/run/aisix/turn"
TURN_EXT = "/run/aisix/turn-ext"
CANARY = "/run/aisix/keyring"
AUDIT = "/run/aisix/audit/8-token.0"
SHARED = Shared(KeyValue(TURN, b"7-older.0", 3, 30), None, KeyValue(CANARY, canary_row(KEYRING), 2, 20))
TRANSACTIONS = Transactions(ROOTS, Sealing(lambda: KEYRING, allow_plaintext=False))
HASH = "a" * 64

DIRECT = {"display_name": "gpt", "provider": "openai", "model_name": "m", "provider_key_id": "pk"}
PROVIDER = {"display_name": "p", "api_key": "canary-1"}


def router(name: str, *targets: str) -> dict[str, Any]:
    """A model that names others."""
    return {"display_name": name, "routing": {"targets": [{"model": each} for each in targets]}}


def edit(kind: Kind[Any], id: str, sent: Mapping[str, Any] | None, action: str = "replaced") -> Edit:
    if sent is None:
        return Edit(kind, id, "deleted")
    value = check(kind, dict(sent))
    return Edit(kind, id, action, value, document(kind, value))


Stored = Mapping[tuple[Kind[Any], str], Any]


def rows_of(stored: Stored) -> dict[Place, KeyValue]:
    """The rows of `stored`, row n at revision 10 + n."""
    return {
        (kind.name, id): KeyValue(ROOTS.resource(kind.name, id), raw(value), 10 + n, 10 + n)
        for n, ((kind, id), value) in enumerate(stored.items())
    }


def index_of(stored: Stored) -> ResourceIndex:
    """An index that knows all of it."""
    index = ResourceIndex(ROOTS.resources, ALL_KINDS, ext=ROOTS.ext)
    for root in (RESOURCES, EXT):  # each leaves out what is not its own
        index.apply(Listing(tuple(rows_of(stored).values()), 50), root)
    return index


def planner(
    edits: Sequence[Edit],
    stored: Stored,
    histories: Mapping[Place, bytes] | None = None,
    given: Collection[Pointed] = (),
) -> Planner:
    """A planner over an etcd that holds `stored`; the index knows all of it."""
    rows = rows_of(stored)
    past = {
        place: KeyValue(ROOTS.history(*place), raw, 9, rows[place].mod_revision if place in rows else 9)
        for place, raw in (histories or {}).items()
    }
    view = View(
        {each.place: rows.get(each.place) for each in edits},
        {each.place: past.get(each.place) for each in edits},
    )
    return Planner(edits, view, index_of(stored), given)


def raw(value: Any) -> bytes:
    """A row's bytes."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def planned(edits: Sequence[Edit], stored: Stored, wish: Wish = WISH, exist: Sequence[str] = ()) -> Plan:
    return TRANSACTIONS.plan(planner(edits, stored), SHARED, exist, wish)


def put(plan: Plan, key: str) -> bytes:
    (value,) = [each.value for each in plan.operations if isinstance(each, Put) and each.key == key]
    return value


def applied(rows: Mapping[str, bytes], operations: Sequence[Operation]) -> dict[str, bytes]:
    """What a small etcd holds after `operations`."""
    after = dict(rows)
    for each in operations:
        if isinstance(each, Put):
            after[each.key] = each.value
        else:
            after.pop(each.key, None)
    return after


def keys(operations: Sequence[Operation]) -> set[str]:
    """What is written or deleted."""
    return {each.key for each in operations}
