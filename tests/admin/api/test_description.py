"""What is noted on a handler by aiohttp-apispec's decorators, without changing it."""

from aiohttp import web
from marshmallow import Schema

from aisix_admin.api.description import describe, gives, passes, takes


async def handler(request: web.Request) -> web.StreamResponse:
    return web.Response()


async def another(request: web.Request) -> web.StreamResponse:
    return web.Response()


def test_the_handler_is_what_it_was() -> None:
    assert gives(handler, Schema(), "text") is handler
    assert takes(handler, Schema()) is handler
    assert describe(handler, tag="t", name="n", summary="s", errors={404: "gone"}) is handler
    noted = vars(handler)["__apispec__"]
    assert noted["operationId"] == "n" and set(noted["responses"]) == {"200", "404"}


def test_what_passes_on_has_any_status() -> None:
    assert passes(another, "as it is") is another
    assert vars(another)["__apispec__"]["responses"] == {"default": {"description": "as it is"}}
