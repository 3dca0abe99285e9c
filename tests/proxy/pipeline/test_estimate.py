"""Our own count of a stream: what it says where there is nothing to count by."""

from aisix_proxy.canonical.usage import NO_USAGE
from aisix_proxy.pipeline.estimate import stream_usage

from tests.support.builders import exchange_of, make, standard


def test_what_was_never_a_stream_has_no_usage() -> None:
    assert stream_usage(exchange_of(make(standard(), upstream=object()))) == NO_USAGE  # type: ignore[arg-type]
