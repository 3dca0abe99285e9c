"""Exporters beyond the table: hosts that only look like those that are allowed, and headers nobody sees."""

from typing import Any

import pytest

from aisix_common.resources import OBSERVABILITY_EXPORTERS, Refused, check

OTLP = {"name": "o", "kind": "otlp_http", "endpoint": "https://a", "headers": {"authorization": "sk-canary"}}


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://localhost.example",
        "http://127.0.0.1.example",
        "http://localhost:4318@example",
        "http://example#localhost",
        "http://[::1",
        "//localhost",
        "https://\texample",
    ],
)
def test_hosts_that_only_look_right(endpoint: str) -> None:
    with pytest.raises(Refused) as refused:
        check(OBSERVABILITY_EXPORTERS, {**OTLP, "endpoint": endpoint})
    assert "example" not in str(refused.value)


@pytest.mark.parametrize("endpoint", ["HTTPS://A", "https://[2001:db8::1]:4318", "http://LOCALHOST:1/x?y#z"])
def test_spellings_of_the_same(endpoint: str) -> None:
    check(OBSERVABILITY_EXPORTERS, {**OTLP, "endpoint": endpoint})


def test_headers_are_secret() -> None:
    value: Any = check(OBSERVABILITY_EXPORTERS, OTLP)
    assert value.kind == "otlp_http"
    assert "sk-canary" not in repr(value)
    assert value.headers["authorization"].reveal() == "sk-canary"
