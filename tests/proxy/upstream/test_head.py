"""Request heads: exact bytes, and what never gets onto a wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisix_proxy.canonical.errors import Misconfigured
from aisix_proxy.canonical.http import Origin, UpstreamRequest
from aisix_proxy.upstream.head import OURS, HeadWriter

ORIGIN = Origin("https", "api.example.com", 443)


def request(
    *headers: tuple[str, str], method: str = "POST", path: str = "/v1/x?y=z", body: bytes = b"{}"
) -> UpstreamRequest:
    return UpstreamRequest(ORIGIN, method, path, headers, body)


def write(request: UpstreamRequest) -> bytes:
    return HeadWriter().write(request, request.origin.authority)


def test_a_head_is_exactly_this() -> None:
    assert write(request(("Content-Type", "application/json"), ("authorization", "Bearer k"))) == (
        b"POST /v1/x?y=z HTTP/1.1\r\nHost: api.example.com\r\nContent-Type: application/json\r\n"
        b"authorization: Bearer k\r\nContent-Length: 2\r\n\r\n"
    )


def test_a_get_without_body_claims_no_length_and_a_post_does() -> None:
    assert write(request(method="GET", body=b"")) == b"GET /v1/x?y=z HTTP/1.1\r\nHost: api.example.com\r\n\r\n"
    assert b"Content-Length: 0\r\n" in write(request(body=b""))


def test_text_beyond_ascii_goes_out_as_the_bytes_it_came_in() -> None:
    assert b"x-a: \xe6\x97\xa5\xff\r\n" in write(request(("x-a", "日\udcff")))


@pytest.mark.parametrize("bad", ["a\r\nx: y", "a\nb", "a\rb", "a\0b", "\r\n", "\r\n\r\n"])
@pytest.mark.parametrize("place", ["value", "name", "path", "method"])
def test_line_breaks_and_nul_are_refused_everywhere(bad: str, place: str) -> None:
    refused = {
        "value": request(("x-a", bad)),
        "name": request((bad, "v")),
        "path": request(path="/" + bad),
        "method": request(method=bad),
    }[place]
    with pytest.raises(Misconfigured) as error:
        write(refused)
    assert bad not in error.value.message


@pytest.mark.parametrize("name", [*sorted(OURS), "Content-Length", "HOST"])
def test_framing_headers_are_ours(name: str) -> None:
    with pytest.raises(Misconfigured, match=name.lower()):
        write(request((name, "1")))


@pytest.mark.parametrize("name", ["", " x", "x ", "x:", "x y", "ä", "x\t"])
def test_a_header_name_is_a_token(name: str) -> None:
    with pytest.raises(Misconfigured):
        write(request((name, "1")))


@pytest.mark.parametrize("path", ["", "v1", "http://other/", "/a b", "/a\tb", "/ä", "*"])
def test_a_target_is_a_path_of_this_origin(path: str) -> None:
    with pytest.raises(Misconfigured):
        write(request(path=path))


@pytest.mark.parametrize("method", ["HEAD", "CONNECT", "post", "OPTIONS", ""])
def test_methods_are_the_ones_whose_answers_can_be_framed(method: str) -> None:
    with pytest.raises(Misconfigured):
        write(request(method=method))


def test_a_refused_value_is_not_shown() -> None:
    with pytest.raises(Misconfigured) as error:
        write(request(("Authorization", "Bearer sk-secret\n")))
    assert "sk-secret" not in error.value.message
    assert "authorization" in error.value.message


def test_names_are_remembered_within_a_bound() -> None:
    writer = HeadWriter()
    for number in range(3000):
        writer.write(request((f"x-{number}", "1")), "a")
    assert len(writer._names) <= 1024


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_header_ends_the_head_early(name: str, value: str) -> None:
    try:
        head = write(request((name, value)))
    except Misconfigured:
        return
    assert head.count(b"\r\n") == 5
    assert head.endswith(b"\r\n\r\n")
