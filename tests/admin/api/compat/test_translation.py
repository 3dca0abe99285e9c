"""What both collections of the older dialect share: limits, and the schemas that hold documents to the dialect."""

from typing import Any

import pytest

from aisix_admin.api.compat.apikeys import OLDER_API_KEYS
from aisix_admin.api.compat.models import OLDER_MODELS
from aisix_admin.api.compat.translation import shown_limit, typed, with_limit
from aisix_admin.rows import Row
from aisix_admin.schemas import flaws
from aisix_common.resources import API_KEYS, RateLimit, Refused, check

KEY = {"key": "sk-x", "allowed_models": ["a"]}
MODEL = {"name": "gpt", "model": "openai/gpt-4o", "provider_config": {"api_key": "k"}}


def test_limits_of_other_windows_are_neither_shown_nor_lost() -> None:
    assert shown_limit(RateLimit(rpm=0, rps=4, concurrency=2)) == {"rpm": 0, "concurrency": 2}
    assert shown_limit(None) == {}
    stored = {"x": 1, "rate_limit": {"rps": 4, "rpm": 5}}
    assert with_limit(dict(stored), {"rate_limit": {"tpm": 7}}) == {"x": 1, "rate_limit": {"rps": 4, "tpm": 7}}
    assert with_limit(dict(stored), {}) == {"x": 1, "rate_limit": {"rps": 4}}
    assert with_limit({"rate_limit": {"rpm": 5}}, {}) == {}, "a PUT without limits takes away those it could give"


def test_rows_that_are_no_documents_are_nothing() -> None:
    assert typed(API_KEYS, None) is None
    assert typed(API_KEYS, Row("x", b"[]", 1)) is None
    assert typed(API_KEYS, Row("x", b'{"key_hash": "h", "allowed_models": []}', 1)).key_hash == "h"


@pytest.mark.parametrize(
    ("kind", "document", "paths"),
    [
        (OLDER_API_KEYS, KEY, []),
        (OLDER_API_KEYS, {**KEY, "rate_limit": {"tpm": 1, "tpd": 1, "rpm": 1, "rpd": 1, "concurrency": 1}}, []),
        (OLDER_API_KEYS, {}, ["/key", "/allowed_models"]),
        (OLDER_API_KEYS, {**KEY, "key": ""}, ["/key"]),
        (OLDER_API_KEYS, {**KEY, "key": None}, ["/key"]),
        (OLDER_API_KEYS, {**KEY, "allowed_models": "a"}, ["/allowed_models"]),
        (OLDER_API_KEYS, {**KEY, "team_id": "t"}, ["/team_id"]),
        (OLDER_API_KEYS, {**KEY, "key_hash": "0" * 64}, ["/key_hash"]),
        (OLDER_API_KEYS, {**KEY, "rate_limit": {"rps": 1}}, ["/rate_limit/rps"]),
        (OLDER_API_KEYS, {**KEY, "rate_limit": {"rpm": "1"}}, ["/rate_limit/rpm"]),
        (OLDER_API_KEYS, {**KEY, "rate_limit": None}, ["/rate_limit"]),
        (OLDER_MODELS, MODEL, []),
        (OLDER_MODELS, {**MODEL, "timeout": 5, "rate_limit": {"rpm": 1}}, []),
        (OLDER_MODELS, {}, ["/name", "/model", "/provider_config"]),
        (OLDER_MODELS, {**MODEL, "model": "gpt-4o"}, ["/model"]),
        (OLDER_MODELS, {**MODEL, "model": "azure/gpt-4o"}, ["/model"]),
        (OLDER_MODELS, {**MODEL, "model": "openai/"}, ["/model"]),
        (OLDER_MODELS, {**MODEL, "provider_config": {}}, ["/provider_config/api_key"]),
        (OLDER_MODELS, {**MODEL, "provider_config": {"api_key": "k", "x": 1}}, ["/provider_config/x"]),
        (OLDER_MODELS, {**MODEL, "provider": "openai", "timeout": -1}, ["/timeout", "/provider"]),
    ],
)
def test_documents_are_closed(kind: Any, document: dict[str, Any], paths: list[str]) -> None:
    assert [flaw.pointer for flaw in flaws(kind, document)] == paths
    try:
        check(kind, document)
        accepted = True
    except Refused:
        accepted = False
    assert accepted == (not paths), "both checkers agree"
