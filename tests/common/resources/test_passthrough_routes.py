"""Passthrough routes beyond the table: defaults, and all problems at once."""

import pytest

from aisix_common.resources import PASSTHROUGH_ROUTES, Refused, check


def test_defaults() -> None:
    route = check(
        PASSTHROUGH_ROUTES,
        {"display_name": "r", "path_prefix": "/x", "target_url": "https://a", "provider_key_id": "k"},
    )
    assert (route.name, route.auth_mode, route.credential_mode) == ("r", "gateway_key", "inject")
    assert (route.preserve_host, route.enabled) == (False, True)


def test_all_problems_at_once() -> None:
    with pytest.raises(Refused) as refused:
        check(PASSTHROUGH_ROUTES, {"name": "r", "auth_mode": "anonymous", "identity_header": "cookie"})
    assert [flaw.reason for flaw in refused.value.flaws] == [
        "`path_prefix`, `hosts` or both must be given",
        "exactly one of `target_url` and `preserve_host` must be given",
        '"anonymous_key_id" is a required property with auth_mode anonymous',
        '"provider_key_id" is a required property with credential_mode inject',
        '"source_cidrs" is a required property with auth_mode anonymous',
        "a header of other credentials is not accepted",
    ]
