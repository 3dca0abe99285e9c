"""Dependencies first."""

import random

from msgspec import json

from aisix_cloud_agent.projection.layout import Spot
from aisix_cloud_agent.projection.ordering import ORDER, Placed, dependencies_first
from aisix_common.resources import ALL_KINDS, BY_NAME, Loaded, read
from aisix_common.store.types import KeyValue

from tests.support.documents import SET


def placed(kind: str, id: str, document: object = None, created: int = 1) -> Placed:
    """A row at its local place."""
    key = f"/aisix/{kind}/{id}"
    return Spot(key, kind, id), KeyValue(key, json.encode(document or {}), created, created)


def group(id: str, *targets: str) -> Placed:
    """A routing model."""
    routing = {"strategy": "failover", "targets": [{"model": each} for each in targets]}
    return placed("models", id, {"display_name": id, "routing": routing})


def ids(rows: list[Placed]) -> list[str]:
    return [spot.id for spot, _ in rows]


def test_every_kind_has_its_place() -> None:
    assert set(ORDER) == set(ALL_KINDS)
    assert len(ORDER) == len(ALL_KINDS)


def test_no_kind_stands_before_one_that_it_must_find() -> None:
    ranks = {kind.name: rank for rank, kind in enumerate(ORDER)}
    seen = set()
    for sample in SET:
        outcome = read(BY_NAME[sample.kind], json.encode(sample.document))
        assert isinstance(outcome, Loaded), sample.kind
        for reference in BY_NAME[sample.kind].references(outcome.value):
            if reference.hard and reference.kind != sample.kind:
                assert ranks[reference.kind] < ranks[sample.kind], (sample.kind, reference)
                seen.add((sample.kind, reference.kind))
    assert len(seen) >= 5


def test_kinds_then_age_then_key() -> None:
    rows = [
        placed("future_kind", "z"),
        placed("api_keys", "a"),
        placed("models", "0-young", created=9),
        placed("models", "b", created=4),
        placed("models", "a", created=4),
        placed("provider_keys", "p"),
        placed("secret_providers", "v"),
    ]
    expected = ["v", "p", "a", "b", "0-young", "a", "z"]
    for seed in range(5):
        random.Random(seed).shuffle(rows)
        assert ids(dependencies_first(rows)) == expected


def test_groups_of_models_follow_their_targets() -> None:
    rows = [
        group("of-groups", "of-models", "gpt"),
        group("of-models", "gpt", "absent"),
        placed(
            "models", "zz", {"display_name": "gpt", "provider": "openai", "model_name": "x", "provider_key_id": "p"}
        ),
    ]
    assert all(isinstance(read(BY_NAME["models"], row.value), Loaded) for _, row in rows)
    for seed in range(5):
        random.Random(seed).shuffle(rows)
        assert ids(dependencies_first(rows)) == ["zz", "of-models", "of-groups"]


def test_a_circle_of_groups_ends() -> None:
    assert sorted(ids(dependencies_first([group("a", "b"), group("b", "a")]))) == ["a", "b"]
