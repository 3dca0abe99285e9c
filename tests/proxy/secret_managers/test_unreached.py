"""What libraries raise around an error of a connection, told without their words."""

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from aisix_common.outbound import AddressRefused
from aisix_proxy.secret_managers.unreached import unreached

KEY = ConnectionKey("canary.internal", 443, True, True, None, None, None)


class Wrapped(Exception):
    """As botocore's: the cause lies in an attribute."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"canary: {error}")
        self.kwargs = {"error": error}


def _chained(outer: Exception, cause: Exception) -> Exception:
    outer.__cause__ = cause
    return outer


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (Wrapped(TimeoutError()), "X did not answer in time"),
        (_chained(Exception("canary"), aiohttp.ServerTimeoutError("canary")), "X did not answer in time"),
        (
            Wrapped(aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "canary"))),
            "X cannot be reached: connection refused",
        ),
        (
            Exception("canary", aiohttp.ServerDisconnectedError()),
            "X cannot be reached: the connection was closed before the answer was complete",
        ),
        (
            _chained(Exception("canary"), aiohttp.ClientConnectorError(KEY, AddressRefused("the address of h is bad"))),
            "X cannot be reached: the address of h is bad",
        ),
        (Exception("canary"), "X cannot be reached"),
    ],
)
def test_the_reason_is_found_and_nothing_else_told(error: Exception, says: str) -> None:
    assert str(unreached("X", error)) == says


def test_errors_in_a_circle_come_to_an_end() -> None:
    one, other = Exception("one"), Exception("other")
    one.__cause__, other.__cause__ = other, one
    assert str(unreached("X", one)) == "X cannot be reached"
