"""Telltales find members that are not null, and are not fooled by text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisix_proxy.wire.telltales import Telltales

TELLTALES = Telltales("usage", "error", "we.ird")


@pytest.mark.parametrize(
    ("data", "shows"),
    [
        (b'{"usage":null,"error": null}', False),
        (b'{"usage":{}}', True),
        (b'{"usage" :null}', True),
        (b'{"error": "x"}', True),
        (b'{"we.ird":1}', True),
        (b'{"we_ird":1}', False),
        (b'{"content":"\\"usage\\":{}"}', False),
        (b'{"content":"usage"}', True),
        (b'{"x_usage":1,"usage_x":2}', False),
    ],
)
def test_shows(data: bytes, shows: bool) -> None:
    assert (TELLTALES.find(data) >= 0) is shows


@given(st.text())
def test_longer_text_cannot_fake_it(text: str) -> None:
    assert TELLTALES.find(json.dumps({"content": f"{text} "}, ensure_ascii=False).encode()) == -1
