"""Each stage alone: an exchange in, its own fields or its own error out."""

import json
from typing import Any

import pytest

from aisix_common.resources import hash_key
from aisix_proxy.canonical.errors import (
    BadRequest,
    Forbidden,
    GatewayError,
    Misconfigured,
    ModelNotFound,
    NotReady,
    Unauthenticated,
)
from aisix_proxy.endpoints.models import MODELS
from aisix_proxy.pipeline import CHAT, LIST_MODELS
from aisix_proxy.pipeline.exchange import Reply
from aisix_proxy.pipeline.stages.authenticate import authenticate
from aisix_proxy.pipeline.stages.authorize import authorize
from aisix_proxy.pipeline.stages.list_models import list_models
from aisix_proxy.pipeline.stages.plan_targets import plan_targets
from aisix_proxy.pipeline.stages.read_request import read_request
from aisix_proxy.pipeline.stages.resolve_model import resolve_model

from tests.support.builders import (
    KEY,
    NOON,
    api_key,
    changed,
    chat,
    exchange_of,
    make,
    model,
    provider_key,
    snapshot_of,
    standard,
)


def test_the_order_decides_which_error_wins() -> None:
    names = [stage.__name__ for stage in CHAT]
    assert names == [
        "open_account",
        "authenticate",
        "read_request",
        "resolve_model",
        "authorize",
        "check_budget",
        "plan_targets",
        "call_upstream",
    ]
    assert LIST_MODELS[:2] == CHAT[:2]


HEADERS: list[list[tuple[str, str]]] = [
    [("Authorization", f"Bearer {KEY}")],
    [("Authorization", f"bearer {KEY}")],
    [("Authorization", f"BEARER  {KEY} ")],
    [("authorization", KEY)],
    [("x-api-key", KEY)],
    [("X-API-Key", f" {KEY} ")],
    [("Authorization", KEY), ("x-api-key", "other")],
    [("Authorization", f"Bearer {KEY}"), ("Authorization", f"Bearer {KEY}")],
]


@pytest.mark.parametrize("headers", HEADERS)
async def test_ways_to_carry_a_key(headers: list[tuple[str, str]]) -> None:
    world = make(standard())
    for _ in range(2):  # the second time it is remembered
        exchange = exchange_of(world, headers=headers)
        await authenticate(exchange)
        assert exchange.key is not None
        assert exchange.key.id == "key-1"
    assert world.value("aisix_auth_decisions_total", result="allowed", method="api_key") == 2


@pytest.mark.parametrize("text", ["$secret://vault/p/k", "$SECRET://vault/p/k", "$Env://AISIX_SECRET_X"])
async def test_the_text_of_a_reference_is_never_a_key(text: str) -> None:
    """Not even where somebody has stored its hash."""
    world = make(snapshot_of(provider_key(), model(), api_key(text)))
    with pytest.raises(Unauthenticated):
        await authenticate(exchange_of(world, headers=[("Authorization", f"Bearer {text}")]))


MISSING = "Missing API key in request"
INVALID = "Invalid API key"
REFUSED: list[tuple[list[tuple[str, str]], str]] = [
    ([], MISSING),
    ([("Authorization", "")], MISSING),
    ([("Authorization", "Bearer")], MISSING),
    ([("Authorization", "Bearer ")], MISSING),
    ([("Authorization", "Bearer "), ("x-api-key", KEY)], MISSING),
    ([("x-api-key", "")], MISSING),
    ([("Authorization", "Bearer sk-nobody")], INVALID),
    ([("Authorization", f"Basic {KEY}")], INVALID),
    ([("Authorization", f"Bearer {KEY[:-1]}")], INVALID),
    ([("Authorization", f"Bearer {KEY}x")], INVALID),
    ([("Authorization", f"Bearer {KEY}"), ("Authorization", "Bearer other")], INVALID),
    ([("x-api-key", KEY), ("x-api-key", "other")], INVALID),
    ([("Authorization", "Bearer $secret://vault/p/k")], INVALID),
    ([("Authorization", "$env://AISIX_SECRET_X")], INVALID),
    ([("Authorization", "bearer $SECRET://vault/p/k")], INVALID),
    ([("x-api-key", "$Env://AISIX_SECRET_X")], INVALID),
    ([("Authorization", "Bearer ' OR 1=1 --")], INVALID),
    ([("Authorization", "Bearer k\udcff\u2603")], INVALID),
]


@pytest.mark.parametrize(("headers", "message"), REFUSED)
async def test_keys_that_open_nothing(headers: list[tuple[str, str]], message: str) -> None:
    world = make(standard())
    with pytest.raises(Unauthenticated) as caught:
        await authenticate(exchange_of(world, headers=headers))
    assert (caught.value.message, caught.value.status) == (message, 401)
    assert (caught.value.type, caught.value.code) == ("invalid_api_key", "invalid_api_key")
    assert world.value("aisix_auth_decisions_total", result="denied") == 1


async def test_who_calls_cannot_be_told_before_there_is_any_configuration() -> None:
    """A 401 would tell a good caller to go away for good."""
    world = make()
    with pytest.raises(NotReady) as caught:
        await authenticate(exchange_of(world, headers=[("Authorization", f"Bearer {KEY}")]))
    assert (caught.value.status, caught.value.retry_after) == (503, 1)
    with pytest.raises(Unauthenticated, match="Missing"):
        await authenticate(exchange_of(world, headers=[]))


async def test_the_hash_of_a_key_is_not_the_key() -> None:
    with pytest.raises(Unauthenticated):
        await authenticate(exchange_of(make(standard()), headers={"Authorization": hash_key(KEY)}))


async def test_a_disabled_key() -> None:
    with pytest.raises(Unauthenticated) as caught:
        await authenticate(exchange_of(make(snapshot_of(api_key(disabled=True)))))
    assert (caught.value.message, caught.value.code) == ("API key has been disabled", "api_key_disabled")


async def test_a_key_expires_strictly_after_its_moment_also_when_remembered() -> None:
    world = make(snapshot_of(api_key(expires_at=NOON.isoformat())))
    await authenticate(exchange_of(world))
    world.clock.move(1)
    with pytest.raises(Unauthenticated) as caught:
        await authenticate(exchange_of(world))
    assert (caught.value.message, caught.value.code) == ("API key has expired", "api_key_expired")


async def test_a_rotated_key_is_the_same_key_until_its_overlap_ends() -> None:
    overlap: dict[str, Any] = {"previous_keys": [{"hash": hash_key(KEY), "until": NOON.isoformat()}]}
    snapshot = snapshot_of(api_key("sk-new", **overlap), api_key("sk-other", id="key-2"))
    world = make(snapshot)
    for header in ("Authorization", "x-api-key"):
        old, new = (exchange_of(world, headers={header: text}) for text in (KEY, "sk-new"))
        await authenticate(old)
        await authenticate(new)
        assert old.key is new.key
        assert old.key is not None
    world.clock.move(0.001)
    with pytest.raises(Unauthenticated) as caught:
        await authenticate(exchange_of(world))
    assert (caught.value.message, caught.value.code) == ("Invalid API key", "invalid_api_key")
    await authenticate(exchange_of(world, headers={"x-api-key": "sk-new"}))


async def test_a_rotated_key_is_disabled_with_its_row_and_yields_to_who_has_it_now() -> None:
    overlap: dict[str, Any] = {"previous_keys": [{"hash": hash_key(KEY), "until": NOON.isoformat()}]}
    with pytest.raises(Unauthenticated) as caught:
        await authenticate(exchange_of(make(snapshot_of(api_key("sk-new", disabled=True, **overlap)))))
    assert caught.value.code == "api_key_disabled"
    exchange = exchange_of(make(snapshot_of(api_key("sk-new", **overlap), api_key(KEY, id="now"))))
    await authenticate(exchange)
    assert exchange.key is not None
    assert exchange.key.id == "now"


async def test_a_key_that_is_changed_or_deleted_is_so_at_the_next_request() -> None:
    snapshot = standard()
    world = make(snapshot)
    await authenticate(exchange_of(world))
    world.services.live.apply(changed(snapshot, api_key(disabled=True)))
    with pytest.raises(Unauthenticated):
        await authenticate(exchange_of(world))
    world.services.live.apply(snapshot_of(model(), provider_key()))
    with pytest.raises(Unauthenticated):
        await authenticate(exchange_of(world))


async def test_read_request() -> None:
    exchange = exchange_of(make(standard()), body=chat("x", model="any", stream=True))
    await read_request(exchange)
    assert exchange.request is not None
    assert (exchange.requested_model, exchange.request.stream) == ("any", True)


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json"]
)
async def test_content_types_that_are_json(content_type: str) -> None:
    await read_request(exchange_of(make(standard()), headers={"Content-Type": content_type}))


@pytest.mark.parametrize("content_type", ["", "text/json", "application/x-www-form-urlencoded", "application/jsonx"])
async def test_content_types_that_are_not(content_type: str) -> None:
    with pytest.raises(BadRequest) as caught:
        await read_request(exchange_of(make(standard()), headers={"Content-Type": content_type}))
    assert caught.value.message == "request payload is invalid: invalid JSON request body"


async def test_an_unknown_model_is_named_in_quotes() -> None:
    exchange = exchange_of(make(standard()))
    exchange.requested_model = 'a"b'
    with pytest.raises(ModelNotFound) as caught:
        await resolve_model(exchange)
    assert caught.value.message == 'model "a\\"b" not found'


async def test_messages_quote_little_of_a_long_name() -> None:
    long = "demo-" + "x" * 10_000
    exchange = exchange_of(make(standard()))
    exchange.requested_model = long
    with pytest.raises(ModelNotFound) as missing:
        await resolve_model(exchange)
    with pytest.raises(Forbidden) as refused:
        await authorize(await ready("y" * 300, model={"display_name": "y" * 300}, key={"allowed_models": []}))
    for error in (missing.value, refused.value):
        assert len(error.message) < 300


async def ready(requested: str = "demo-model", peer: str = "192.0.2.9", **rows: Any) -> Any:
    world = make(snapshot_of(provider_key(), model(**rows.get("model", {})), api_key(**rows.get("key", {}))))
    exchange = exchange_of(world, peer=peer)
    exchange.requested_model = requested
    await authenticate(exchange)
    await resolve_model(exchange)
    return exchange


@pytest.mark.parametrize("allowed", [["demo-model"], ["*"], ["demo-*"], ["*-model"], ["x", "d*l"]])
async def test_lists_that_allow(allowed: list[str]) -> None:
    await authorize(await ready(key={"allowed_models": allowed}))


@pytest.mark.parametrize("allowed", [[], ["demo"], ["Demo-model"], ["demo-**"], ["*mod*"], ["demo-model-*"]])
async def test_lists_that_do_not(allowed: list[str]) -> None:
    with pytest.raises(Forbidden) as caught:
        await authorize(await ready(key={"allowed_models": allowed}))
    error: GatewayError = caught.value
    assert error.message == "Access to model 'demo-model' is forbidden"
    assert (error.status, error.type, error.code) == (403, "invalid_request_error", "model_access_forbidden")


@pytest.mark.parametrize(
    ("cidrs", "peer", "allowed"),
    [
        (["192.0.2.0/24"], "192.0.2.9", True),
        (["10.0.0.0/8", "192.0.2.9/32"], "192.0.2.9", True),
        (["192.0.2.0/24"], "::ffff:192.0.2.9", True),
        (["2001:db8::/32"], "2001:db8::1", True),
        (["10.0.0.0/8"], "192.0.2.9", False),
        (["192.0.2.9"], "192.0.2.9", False),  # no prefix length: not a block
        (["nonsense"], "192.0.2.9", False),
        (["0.0.0.0/0"], "", False),
        (["0.0.0.0/0"], "2001:db8::1", False),
        ([], "", True),
    ],
)
async def test_networks(cidrs: list[str], peer: str, allowed: bool) -> None:
    exchange = await ready(peer=peer, model={"allowed_cidrs": cidrs})
    if allowed:
        await authorize(exchange)
        return
    with pytest.raises(Forbidden) as caught:
        await authorize(exchange)
    assert (caught.value.type, caught.value.code) == ("permission_denied", "ip_restricted")


async def test_a_direct_model_is_its_own_target() -> None:
    exchange = await ready()
    await plan_targets(exchange)
    assert exchange.targets == (exchange.model,)


async def test_a_problem_of_the_model_is_raised_anew_each_time() -> None:
    exchange = await ready(model={"provider_key_id": "gone"})
    with pytest.raises(Misconfigured) as first:
        await plan_targets(exchange)
    with pytest.raises(Misconfigured) as second:
        await plan_targets(exchange)
    assert first.value is not second.value
    assert first.value.status == 400


async def test_list_models() -> None:
    routing = {"display_name": "b-group", "routing": {"targets": [{"model": "a"}]}}
    world = make(
        snapshot_of(
            provider_key(),
            model("a"),
            model("c-*"),
            model("z"),
            ("models", "r", routing),
            api_key(allowed_models=["*"]),
        )
    )
    exchange = exchange_of(world, endpoint=MODELS)
    await authenticate(exchange)
    await list_models(exchange)
    assert isinstance(exchange.answer, Reply)
    body = json.loads(exchange.answer.body)
    assert [(row["id"], row["owned_by"]) for row in body["data"]] == [
        ("a", "openai"),
        ("b-group", "aisix"),
        ("z", "openai"),
    ]
    assert {row["created"] for row in body["data"]} == {int(NOON.timestamp())}
    assert body["object"] == "list"


async def test_a_key_sees_only_what_it_may_use() -> None:
    world = make(snapshot_of(provider_key(), model("a"), model("b"), api_key(allowed_models=["b*"])))
    exchange = exchange_of(world, endpoint=MODELS)
    await authenticate(exchange)
    await list_models(exchange)
    assert isinstance(exchange.answer, Reply)
    assert [row["id"] for row in json.loads(exchange.answer.body)["data"]] == ["b"]
