"""References to providers that are not known here are not taken for other ones."""

import json
from typing import Any

import pytest

from aisix_common.resources import EXTERNAL_KINDS
from aisix_common.secrets.reference import BadReference, SecretReference
from aisix_common.snapshot import build, empty
from aisix_common.store.types import KeyValue, Listing
from aisix_proxy.secret_managers.missing import NOTHING, UNREAD, Missing, missing_of

from tests.support.builders import NOON


def missing(*documents: Any) -> Missing:
    rows = [
        KeyValue(f"/ext/aisix/secret_providers/{n}", json.dumps(document).encode(), n + 1, n + 1)
        for n, document in enumerate(documents)
    ]
    return missing_of(build(Listing(tuple(rows), 100), empty("/ext/aisix", EXTERNAL_KINDS), NOON))


BAD = {"manager": "vault", "name": "w", "uri": "no url"}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (NOTHING, None),
        (missing_of(None), None),
        (missing(), None),
        (missing(BAD), "the provider vault/w, which is out of service"),
        (missing(BAD | {"manager": "aws"}), None),
        (missing(BAD | {"name": "v"}), None),
        (missing([], "x", {"manager": 1, "name": "w"}), None),
        (UNREAD, "no vault provider that is known so far"),
    ],
)
def test_what_a_reference_may_lead_to(found: Missing, said: str | None) -> None:
    known = frozenset({"v"})
    found.check(SecretReference("vault", ("v", "a", "k")), known)
    short = SecretReference("vault", ("w", "a", "k"))
    if said is None:
        found.check(short, known)
        return
    with pytest.raises(BadReference, match=said):
        found.check(short, known)


def test_it_is_told() -> None:
    assert (NOTHING.hint, missing().hint) == ("", "")
    assert missing(BAD, {}).hint == " (2 rows of secret_providers are out of service: see /status/config)"
    assert "ext root" in UNREAD.hint
