"""Which secret providers there are."""

import json

from aisix_admin.index import EXT, ResourceIndex
from aisix_admin.known_providers import KnownProviders
from aisix_common.resources import ALL_KINDS, SECRET_PROVIDERS, check
from aisix_common.store.types import KeyValue, Listing

TOKEN = {"method": "token", "token": "t"}


def test_those_of_etcd_and_those_of_the_configuration() -> None:
    index = ResourceIndex("/aisix", ALL_KINDS, ext="/ext/aisix")
    configured = check(SECRET_PROVIDERS, {"manager": "aws", "name": "static"})
    known = KnownProviders(index, [configured])
    assert known.names("aws") == {"static"} and known.names("vault") == frozenset()
    rows = [
        {"manager": "vault", "name": "main", "uri": "https://vault.example", "auth": TOKEN},
        {"manager": "aws", "name": "other"},
    ]
    listed = (
        KeyValue(f"/ext/aisix/secret_providers/{n}", json.dumps(row).encode(), 1, 1) for n, row in enumerate(rows)
    )
    index.apply(Listing(tuple(listed), 1), EXT)
    assert known.names("aws") == {"static", "other"} and known.names("vault") == {"main"}
    assert known.names("aw") == frozenset()
    assert known.configured == {("secret_providers", "name", "aws/static")}
