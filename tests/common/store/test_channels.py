"""Which member is next; and the channel options, whose absence cost minutes or events when it was measured."""

import pytest

from aisix_common.store.channels import Links, channel_arguments
from aisix_common.store.options import EtcdOptions


async def test_the_member_in_use_is_kept_until_it_fails() -> None:
    links = Links(EtcdOptions(endpoints=("a:1", "b:1")))
    first = links.current()
    assert links.current() is first and first.name == "a:1" and links.names == "a:1, b:1"
    links.failed(first)
    second = links.current()
    assert second.name == "b:1"
    links.failed(first)  # somebody else's late complaint about the old one
    assert links.current() is second
    links.failed(second)
    assert links.current() is first
    await links.aclose()
    with pytest.raises(RuntimeError):
        links.current()


def test_the_options_that_notice_a_dead_connection() -> None:
    options = EtcdOptions(endpoints=("a:1",), dial_timeout=3, ping_interval=10, ping_timeout=5)
    arguments = dict(channel_arguments(options))
    assert arguments["grpc.keepalive_time_ms"] == 10_000
    assert arguments["grpc.http2.ping_timeout_ms"] == 5_000
    assert arguments["grpc.keepalive_permit_without_calls"] == 1
    assert arguments["grpc.http2.max_pings_without_data"] == 0
    assert arguments["grpc.max_receive_message_length"] == -1
    assert arguments["grpc.min_reconnect_backoff_ms"] == 3_000
