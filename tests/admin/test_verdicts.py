"""The table of documents (tests/common/resources/cases) through the ways in from outside: one verdict each.

The strict check and the file loader have the table in their own tests. Here it goes over a socket to the admin, which
must refuse what they refuse; and through a real etcd as rows that others wrote, where the admin that shows a row and
the snapshot that proxies serve must both have the row, or both not. References to nothing are no part of the verdict:
the table's documents stand alone.
"""

from typing import Any, Final

import pytest
from msgspec import json

from aisix_common.resources import ALL_KINDS, API_KEYS, KINDS, Kind, Loaded, read
from aisix_common.snapshot import build, empty
from aisix_common.store.types import Listing

from tests.common.resources.cases import Case, load
from tests.common.snapshot.rows import NOON
from tests.support.admin import RunningAdmin

DANGLING: Final = "there is no resource of"
CANARY: Final = "sk-canary"


def only_here(kind: Kind[Any], errors: list[dict[str, str]]) -> bool:
    """Whether all there is to say is that a new caller key's hash has a form that no key ever matches.

    Rows of others may hold one, and keep it; the admin makes no new one.
    """
    return kind is API_KEYS and [error["path"] for error in errors] == ["/value/key_hash"] and "SHA-256" in str(errors)


async def verdict(admin: RunningAdmin, kind: Kind[Any], case: Case) -> str:
    """What the admin says of a document that it is asked to check."""
    answer = await admin.send("POST", "/validate", {"kind": kind.name, "value": case.document})
    assert CANARY not in answer.body.decode()
    assert answer.status == 200, answer.body
    told = answer.json
    errors = [error for error in told.get("errors", []) if not error["message"].startswith(DANGLING)]
    assert told["valid"] == ("errors" not in told)
    return "refused" if errors and not only_here(kind, errors) else "ok"


@pytest.mark.slow  # a thousand documents over a socket
async def test_the_admin_says_what_the_strict_check_says(admin: RunningAdmin) -> None:
    for kind in ALL_KINDS:
        said = {case.name: await verdict(admin, kind, case) for case in load(kind.name)}
        assert said == {case.name: case.strict for case in load(kind.name)}, kind.name


async def test_a_write_has_the_verdict_of_a_dry_run(admin: RunningAdmin) -> None:
    """Of every fourth document; and what was stored is read by everybody, with nothing unknown in it."""
    for kind, case in [(one, case) for one in KINDS for case in load(one.name)[::4]]:
        dry = (await admin.call("POST", "/validate", {"kind": kind.name, "value": case.document}))[1]
        status, told = await admin.call("POST", f"/{kind.name}", case.document)
        makes_a_key = kind is API_KEYS and isinstance(case.document, dict) and "key_hash" not in case.document
        assert status == (200 if dry["valid"] else 400) or makes_a_key, (kind.name, case.name, told)
        if status == 200:
            row = await admin.etcd.get(f"{admin.prefix}/{kind.name}/{told['id']}")
            assert row is not None
            loaded = read(kind, row.value)
            assert isinstance(loaded, Loaded) and not loaded.unknown, (kind.name, case.name)
            assert (await admin.call("DELETE", f"/{kind.name}/{told['id']}"))[0] == 200


async def test_rows_of_others_are_shown_and_served_alike(admin: RunningAdmin) -> None:
    table = {(kind, f"{place:03}"): case for kind in KINDS for place, case in enumerate(load(kind.name))}
    for (kind, id), case in table.items():
        await admin.etcd.put(f"{admin.prefix}/{kind.name}/{id}", json.encode(case.document))
    expected = {(kind.name, id) for (kind, id), case in table.items() if case.lenient == "ok"}

    found = await admin.etcd.range(f"{admin.prefix}/")
    snapshot = build(Listing(found.rows, found.revision), empty(admin.prefix), NOON)
    rejected = {(row.kind, row.id) for row in snapshot.rejected.values()}
    assert {(kind.name, id) for kind, id in table} - rejected == expected

    for kind in KINDS:
        listed = (await admin.call("GET", f"/{kind.name}"))[1]
        assert {(kind.name, entry["id"]) for entry in listed} == {place for place in expected if place[0] == kind.name}
    for (kind, id), case in table.items():
        answer = await admin.send("GET", f"/{kind.name}/{id}")
        assert answer.status == (200 if (kind.name, id) in expected else 500), (kind.name, case.name)
        assert CANARY not in answer.body.decode()
