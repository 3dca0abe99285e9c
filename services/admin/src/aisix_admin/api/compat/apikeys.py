"""Caller keys in the older dialect: `key` in clear instead of `key_hash`, hashed at the door and never shown. Pure.

A `key` that is a secret reference is stored, and shown, as it is.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from aisix_common.errors import Problem
from aisix_common.resources import API_KEYS, ApiKey, Flaw, Kind, masked
from aisix_common.resources.scalars import Text
from aisix_common.secret import MASK, is_reference

from ...caller_keys import admit
from ...decisions import Decisions
from ...errors import Invalid
from ...index import Place
from ...planning import Edit
from ...rows import Reading, Row
from ...schemas import flaws
from .envelope import Collection, Misshapen, Missing, misshapen
from .translation import Asked, OlderLimit, shown_limit, typed, with_limit


class OlderApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A caller key."""

    key: Text
    """The key in clear, or a reference to it. The key is shown as `***`; written back as `***` the stored one is
    kept."""
    allowed_models: tuple[str, ...]
    rate_limit: OlderLimit | UnsetType = UNSET


OLDER_API_KEYS: Final = Kind("apikeys", OlderApiKey, name_field=None, nulls=False)
"""For its schema alone: rows are those of API_KEYS."""


class ApiKeys:
    """`Translation` of api_keys."""

    collection: Final = Collection("apikeys", "API key", "API key already exists")
    kind: Final = API_KEYS

    def targets(self, id: str) -> Sequence[Place]:
        return [(API_KEYS.name, id)]

    def check(self, sent: Mapping[str, Any], decisions: Decisions) -> None:
        found = flaws(OLDER_API_KEYS, sent)
        key = sent.get("key")
        if isinstance(key, str) and key and key != MASK:
            # Whatever is said of the hash is said of the key it was made from.
            found += [Flaw(("key",), flaw.reason) for flaw in admit({"key": key}, decisions.admin_keys).flaws]
        if found:
            raise misshapen(found)

    def edits(self, asked: Asked) -> Sequence[Edit]:
        row = asked.view.row(API_KEYS.name, asked.id)
        current = typed(API_KEYS, row)
        document = {} if current is None else masked(API_KEYS, current)
        key = asked.sent["key"]
        if key != MASK:
            document["key_hash"] = admit({"key": key}, asked.decisions.admin_keys).document["key_hash"]
        elif current is None:
            raise misshapen(
                [Flaw(("key",), f"{MASK} keeps a stored key, and none is stored here: send the key itself")]
            )
        document["allowed_models"] = asked.sent["allowed_models"]
        document = with_limit(document, asked.sent)
        try:
            if row is None:
                return [asked.decisions.create(API_KEYS, asked.id, document)[0]]
            return [asked.decisions.replace(API_KEYS, row, asked.id, document)]
        except Invalid as error:
            raise Misshapen(
                Problem("/key" if each.path == "/key_hash" else each.path, each.reason) for each in error.problems
            ) from None

    def removal(self, asked: Asked) -> Sequence[Edit]:
        return [asked.decisions.delete(API_KEYS, asked.view.row(API_KEYS.name, asked.id), asked.id)]

    def written(self, sent: Mapping[str, Any], edits: Sequence[Edit]) -> dict[str, Any]:
        return shown(edits[0].value)

    async def shown(self, rows: Reading, found: Sequence[tuple[Row, Any]]) -> Sequence[tuple[Row, dict[str, Any]]]:
        return [(row, shown(value)) for row, value in found]

    def unshowable(self, id: str) -> Missing:
        return Missing(self.collection, id)


def shown(value: ApiKey) -> dict[str, Any]:
    """A caller key as the dialect shows it. Neither the key, which nobody has, nor its hash; but where it is kept."""
    limit = shown_limit(value.rate_limit)
    return {
        "key": value.key_hash if is_reference(value.key_hash) else MASK,
        "allowed_models": list(value.allowed_models),
        **({"rate_limit": limit} if limit else {}),
    }
