"""Masks in documents, without a store."""

import pytest

from aisix_admin.errors import Invalid
from aisix_admin.masks import DESTINATIONS, require_same_destination, restore, secret_paths
from aisix_common.resources import KINDS, PROVIDER_KEYS, check
from aisix_common.secret import MASK


def test_every_kind_with_secrets_says_where_they_go() -> None:
    """Fails for a new kind until somebody has thought about what moves its secrets."""
    assert {kind.name for kind in KINDS if secret_paths(kind.struct)} == set(DESTINATIONS)


def test_secret_paths_follow_from_types() -> None:
    assert secret_paths(PROVIDER_KEYS.struct) == {
        "api_key",
        "request.default_headers.*",
        "request.default_body_fields.*",
    }


def test_masks_take_what_lies_at_the_same_place() -> None:
    stored = {"display_name": "a", "api_key": "k", "request": {"default_headers": {"x": "1", "y": "2"}}}
    sent = {"display_name": MASK, "api_key": MASK, "request": {"default_headers": {"x": "new", "y": MASK}}}
    result = restore(PROVIDER_KEYS, sent, stored)
    assert result.document == {
        "display_name": MASK,  # no secret: the text itself
        "api_key": "k",
        "request": {"default_headers": {"x": "new", "y": "2"}},
    }
    assert result.kept == [("api_key",), ("request", "default_headers", "y")]
    assert result.missing == []


def test_masks_with_nothing_behind_them() -> None:
    sent = {"api_key": MASK, "request": {"default_headers": {"x": MASK}, "default_body_fields": {"y": MASK}}}
    pointers = {flaw.pointer for flaw in restore(PROVIDER_KEYS, sent, None).missing}
    assert pointers == {"/api_key", "/request/default_headers/x", "/request/default_body_fields/y"}


@pytest.mark.parametrize("sent", [{"request": MASK}, {"request": {"default_headers": MASK}}, {"api_key": [MASK]}, {}])
def test_shapes_that_are_wrong_are_left_to_the_schema(sent: dict[str, object]) -> None:
    assert restore(PROVIDER_KEYS, sent, {"api_key": "k"}).document == sent


def test_a_kept_secret_stays_where_it_is() -> None:
    old = check(PROVIDER_KEYS, {"display_name": "a", "api_key": "k", "api_base": "https://here"})
    new = check(PROVIDER_KEYS, {"display_name": "a", "api_key": "k", "api_base": "https://there"})
    require_same_destination(PROVIDER_KEYS, [], old, new)
    require_same_destination(PROVIDER_KEYS, [("api_key",)], old, old)
    with pytest.raises(Invalid) as refused:
        require_same_destination(PROVIDER_KEYS, [("api_key",)], old, new)
    assert "`api_base`" in refused.value.message and "there" not in refused.value.message.replace("where", "")
