"""Which names look like secrets follows from the types."""

import pytest
from msgspec import json

from aisix_cloud_agent.projection.secret_names import SHAPES, Shape, may_hold_secret
from aisix_common.resources import BY_NAME, Loaded, SecretJson, read
from aisix_common.resources.concealed import secrets_in

from tests.support.documents import CANARIES, SET

NAMES = [
    ("api_key", Shape.TEXT),
    ("secret", Shape.TEXT),
    ("token", Shape.TEXT),
    ("default_headers", Shape.TEXTS),
    ("headers", Shape.TEXTS),
    ("default_body_fields", Shape.VALUES),
    ("password", Shape.TEXT),
]


@pytest.mark.parametrize(("name", "shape"), NAMES)
def test_shapes(name: str, shape: Shape) -> None:
    assert SHAPES[name] is shape


@pytest.mark.parametrize("name", ["name", "key_hash", "display_name", "provider_key_id", "api_base", "headers_timeout"])
def test_other_names(name: str) -> None:
    assert name not in SHAPES


def test_every_secret_of_every_kind_stands_where_its_name_tells_how_it_is_sealed() -> None:
    found = 0
    for sample in SET:
        raw = json.encode(sample.document)
        outcome = read(BY_NAME[sample.kind], raw)
        assert isinstance(outcome, Loaded)
        for at, secret in secrets_in(outcome.value):
            within = SHAPES.get(str(at[-2])) if len(at) > 1 else None
            assert (within is Shape.VALUES) == isinstance(secret, SecretJson), at
            assert within is not None or SHAPES[str(at[-1])] is Shape.TEXT, at
            assert may_hold_secret(raw)
            found += 1
    assert found >= len(CANARIES)


SUSPECTS = [
    (b'{"api_key":"x"}', True),
    (b'{"a":{"headers":{}}}', True),
    (b'{"\\u0061pi_key":"x"}', True),
    (b'{"cert":"-----BEGIN RSA PRIVATE KEY-----"}', True),
    (b'{"broken":"api_key":', True),
    (b'{"api_keys":"x","key":"y"}', False),
    (b'{"key_hash":"x","display_name":"api_key_1"}', False),
    (b"garbage", False),
]


@pytest.mark.parametrize(("raw", "suspect"), SUSPECTS)
def test_suspects(raw: bytes, suspect: bool) -> None:
    assert may_hold_secret(raw) is suspect
