"""Documents to typed resources, and the sentences about what is wrong."""

import pytest

from aisix_admin.errors import Invalid
from aisix_admin.validation import created, replaced, to_store
from aisix_common.resources import MODELS, PROVIDER_KEYS, ProviderKey
from aisix_common.secret import MASK, Secret

KEY = {"display_name": "p", "api_key": "k", "api_base": "https://here"}
DIRECT = {"display_name": "m", "provider": "openai", "model_name": "x", "provider_key_id": "k"}


def test_created() -> None:
    value = created(PROVIDER_KEYS, {"display_name": "p", "secret": "k", "strip_headers": [" Cookie ", "cookie"]})
    assert isinstance(value, ProviderKey)
    assert value.api_key == Secret("k") and value.strip_headers == ("cookie",)


@pytest.mark.parametrize(
    ("document", "message", "paths"),
    [
        ({}, "schema validation failed at /display_name: required field is missing", ["/display_name"]),
        (
            {**DIRECT, "rate_limit": {"rpm": -1, "x/y~z": 1}},
            "schema validation failed at /rate_limit/rpm: must be at least 0",
            ["/rate_limit/rpm", "/rate_limit/x~1y~0z"],
        ),
        (
            {**DIRECT, "retries": 2**32},
            "malformed Model payload: must be at most 4294967295 at /retries",
            ["/retries"],
        ),
        (
            {**DIRECT, "cost": {"input_per_1k": 10**310, "output_per_1k": 1}},
            "malformed Model payload: a number too large at /cost/input_per_1k",
            ["/cost/input_per_1k"],
        ),
        (
            {
                "display_name": "m",
                "routing": {"targets": [{"model": "a"}]},
                "cost": {"input_per_1k": 1, "output_per_1k": 1},
            },
            "schema validation failed at /: `cost` not accepted on a model group",
            [""],
        ),
    ],
)
def test_sentences(document: dict[str, object], message: str, paths: list[str]) -> None:
    with pytest.raises(Invalid) as refused:
        created(MODELS, document)
    assert refused.value.message == message
    assert [problem.path for problem in refused.value.problems] == paths


def test_unknown_fields_do_not_follow_to_another_place() -> None:
    """They may be secrets of a newer build."""
    row = b'{"display_name": "p", "api_key": "k", "api_base": "https://here", "new": 1}'
    current = created(PROVIDER_KEYS, KEY)
    renamed = created(PROVIDER_KEYS, {**KEY, "display_name": "q"})
    assert to_store(PROVIDER_KEYS, renamed, current, row)["new"] == 1
    assert "new" not in to_store(PROVIDER_KEYS, renamed, None, row)
    assert "new" not in to_store(PROVIDER_KEYS, created(PROVIDER_KEYS, {**KEY, "api_base": "https://x"}), current, row)


def test_replaced_keeps_by_mask() -> None:
    current = created(PROVIDER_KEYS, KEY)
    assert replaced(PROVIDER_KEYS, {**KEY, "api_key": MASK, "display_name": "q"}, current).api_key == Secret("k")
    with pytest.raises(Invalid, match="must be given again"):
        replaced(PROVIDER_KEYS, {**KEY, "api_key": MASK, "api_base": "https://there"}, current)
    with pytest.raises(Invalid, match="none is stored"):
        replaced(PROVIDER_KEYS, {**KEY, "api_key": MASK}, None)
