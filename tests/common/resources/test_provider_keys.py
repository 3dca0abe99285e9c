"""Provider keys beyond the table: header names and defaults."""

import pytest

from aisix_common.resources import PROVIDER_KEYS, check


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["Cookie", "COOKIE", " cookie "], ("cookie",)),
        (["b", "a", "", "  "], ("b", "a")),
        ([], ()),
    ],
)
def test_names_of_stripped_headers_are_tidied(given: list[str], kept: tuple[str, ...]) -> None:
    value = check(PROVIDER_KEYS, {"display_name": "x", "api_key": "s", "strip_headers": given})
    assert value.strip_headers == kept


def test_defaults() -> None:
    value = check(PROVIDER_KEYS, {"display_name": "x", "api_key": "s"})
    assert value.strip_headers == ("authorization", "cookie", "set-cookie", "x-api-key")
    assert value.provider == ""
    assert not value.telemetry_tags.featured
