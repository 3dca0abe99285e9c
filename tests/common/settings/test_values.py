"""The parsers of single texts, as tables."""

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest

from aisix_common.secret import Secret
from aisix_common.settings.values import (
    Address,
    parse_address,
    parse_admin_name,
    parse_endpoint,
    parse_header,
    parse_heartbeat,
    parse_kubernetes_name,
    parse_log_level,
    parse_metrics_path,
    parse_network,
    parse_not_blank,
    parse_optional_address,
    parse_optional_base_url,
    parse_optional_secret,
    parse_optional_text,
    parse_secret,
)

ACCEPTED: list[tuple[Callable[[str], Any], str, Any]] = [
    (parse_address, "127.0.0.1:3000", Address("127.0.0.1", 3000)),
    (parse_address, "0.0.0.0:0", Address("0.0.0.0", 0)),
    (parse_address, "[::]:65535", Address("::", 65535)),
    (parse_address, "[0:0::1]:1", Address("::1", 1)),
    (parse_optional_address, "  ", None),
    (parse_admin_name, "ci@team-1.x_y", "ci@team-1.x_y"),
    (parse_optional_base_url, " ", None),
    (parse_optional_base_url, "http://aisix-proxy:3000/", "http://aisix-proxy:3000"),
    (parse_optional_base_url, " https://[::1]/gateway// ", "https://[::1]/gateway"),
    (parse_optional_address, "127.0.0.1:1", Address("127.0.0.1", 1)),
    (parse_optional_secret, " ", None),
    (parse_optional_secret, " s ", Secret(" s ")),
    (parse_optional_text, "\n", None),
    (parse_optional_text, " a ", "a"),
    (parse_endpoint, " ", None),
    (parse_endpoint, " cloud.example:7944 ", "cloud.example:7944"),
    (parse_kubernetes_name, " ", ""),
    (parse_kubernetes_name, " aisix/agent.v1 ", "aisix/agent.v1"),
    (parse_network, "10.0.0.0/8", ip_network("10.0.0.0/8")),
    (parse_network, " 10.1.2.3/8 ", ip_network("10.0.0.0/8")),
    (parse_network, "192.0.2.1", ip_network("192.0.2.1/32")),
    (parse_network, "2001:db8::/32", ip_network("2001:db8::/32")),
    (parse_header, "X-Request-ID", "x-request-id"),
    (parse_metrics_path, "", "/metrics"),
    (parse_metrics_path, "  ", "/metrics"),
    (parse_metrics_path, " prom ", "/prom"),
    (parse_metrics_path, "/a/b", "/a/b"),
    (parse_log_level, "WARN", "warn"),
    (parse_log_level, "info, aisix::store=debug", "info,aisix::store=debug"),
    (parse_log_level, "Warning,warning=warning", "warn,warning=warn"),
    (parse_not_blank, " x ", " x "),
    (parse_heartbeat, "1", 5),
    (parse_heartbeat, "15", 15),
    (parse_heartbeat, "301", 300),
]

REFUSED: list[tuple[Callable[[str], Any], str]] = [
    *((parse_address, text) for text in ("localhost:3000", "127.0.0.1", ":3000", "127.0.0.1:", "1.1.1.1:65536")),
    *(
        (parse_address, text)
        for text in ("::1:3000", "[127.0.0.1]:1", "[::1]", " 1.1.1.1:1", "1.1.1.1:1\n", "1.1.1.1:²")
    ),
    *((parse_address, text) for text in ("", "256.1.1.1:1", "01.1.1.1:1", "1.1.1.1:-1")),
    (parse_network, "10.0.0.0/33"),
    *((parse_admin_name, text) for text in ("", "a b", "a\n", "é", "a" * 65)),
    *(
        (parse_optional_base_url, text)
        for text in ("x", "ftp://x", "http://", "http:///p", "http://x:99999", "http://[::")
    ),
    *((parse_optional_base_url, f"http://x{text}") for text in ("?q", "#f", "/a b", "\\y", "\r\ny", ":0", "é")),
    (parse_optional_base_url, "http://user:password@x"),
    *((parse_endpoint, text) for text in ("h", "h:", "h:65536", "h:0", "https://h:1", "u@h:1", "h:1\ni:2", "h:²")),
    *((parse_kubernetes_name, text) for text in ("A", "a/b/c", "a/", "a\nb", "é", "a" * 254)),
    (parse_network, "proxy.local"),
    (parse_header, ""),
    (parse_header, "a b"),
    (parse_header, "a:\n"),
    (parse_metrics_path, "/a b"),
    (parse_metrics_path, "/{x}"),
    (parse_metrics_path, "/m?x"),
    (parse_log_level, ""),
    (parse_log_level, "loud"),
    (parse_log_level, "info,,warn"),
    (parse_not_blank, " \t"),
    (parse_secret, ""),
    (parse_heartbeat, "-1"),
    (parse_heartbeat, "1.5"),
    (parse_heartbeat, ""),
]


@pytest.mark.parametrize(("parse", "text", "value"), ACCEPTED)
def test_accepted(parse: Callable[[str], Any], text: str, value: Any) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(("parse", "text"), REFUSED)
def test_refused_without_quoting(parse: Callable[[str], Any], text: str) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        parse(text)
    assert len(text) < 6 or text.rstrip(":") in "127.0.0.1" or text not in str(caught.value)


def test_a_secret_stays_one() -> None:
    assert parse_secret("0123").reveal() == "0123"


@pytest.mark.parametrize("text", ["127.0.0.1:3000", "[::1]:3000"])
def test_an_address_reads_as_it_is_written(text: str) -> None:
    assert str(parse_address(text)) == text
