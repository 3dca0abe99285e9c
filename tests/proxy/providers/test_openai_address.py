"""Where a provider key leads, and which bases are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisix_proxy.canonical.errors import Misconfigured
from aisix_proxy.canonical.http import Origin
from aisix_proxy.providers.openai_address import address

OPENAI = Origin("https", "api.openai.com", 443)


@pytest.mark.parametrize(
    ("provider", "base", "origin", "path"),
    [
        ("openai", None, OPENAI, "/v1"),
        ("", "  ", OPENAI, "/v1"),
        ("openai", "https://api.openai.com", OPENAI, "/v1"),
        ("openai", "https://API.openai.com/", OPENAI, "/v1"),
        ("x", "http://api.openai.com", Origin("http", "api.openai.com", 80), "/v1"),
        ("x", "https://api.openai.com/v2", OPENAI, "/v2"),
        ("x", " https://llm.example.com ", Origin("https", "llm.example.com", 443), ""),
        ("x", "http://127.0.0.1:8000/v1/", Origin("http", "127.0.0.1", 8000), "/v1"),
        ("x", "HTTP://[::1]:8000/v1", Origin("http", "::1", 8000), "/v1"),
        ("x", "https://h/v1/chat/completions", Origin("https", "h", 443), "/v1"),
        ("x", "https://h/v1/chat/completions/", Origin("https", "h", 443), "/v1"),
        ("x", "https://h/v1/completions", Origin("https", "h", 443), "/v1"),
        ("x", "https://h/embeddings", Origin("https", "h", 443), ""),
        ("x", "https://h/v1/images/generations", Origin("https", "h", 443), "/v1"),
        ("x", "https://h/v1/audio/speech", Origin("https", "h", 443), "/v1"),
        ("x", "https://h/v1/responses", Origin("https", "h", 443), "/v1/responses"),
        ("x", "https://h/accounts/a@b/%41", Origin("https", "h", 443), "/accounts/a@b/%41"),
    ],
)
def test_addresses(provider: str, base: str | None, origin: Origin, path: str) -> None:
    assert address(provider, base) == (origin, path)


@pytest.mark.parametrize(
    ("provider", "base", "rule"),
    [
        ("deepseek", None, "needs an api_base"),
        ("x", "https://sk-secret@evil.example", "user name"),
        ("x", "https://sk-secret:pw@h/v1", "user name"),
        ("x", "https://h?key=sk-secret", "query"),
        ("x", "https://h/v1#sk-secret", "fragment"),
        ("x", "https://good.example\\@sk-secret", "backslash"),
        ("x", "https://h/\\..\\sk-secret", "backslash"),
        ("x", "ftp://sk-secret", "http://"),
        ("x", "file:///etc/sk-secret", "http://"),
        ("x", "sk-secret", "http://"),
        ("x", "http:/sk-secret", "http://"),
        ("x", "https:///sk-secret", "host"),
        ("x", "https://h:99999/sk-secret", "port"),
        ("x", "https://h:0/sk-secret", "port"),
        ("x", "https://h:x/sk-secret", "port"),
        ("x", "https://[::1/sk-secret", "host"),
        ("x", "https://[fe80::1%25eth0]/sk-secret", "host"),
        ("x", "https://h h/sk-secret", "visible ASCII"),
        ("x", "https://h\r\nX: sk-secret", "visible ASCII"),
        ("x", "https://ｈ.example/sk-secret", "visible ASCII"),
        ("x", "https://%68/sk-secret", "host"),
        ("x", "https://-h/sk-secret", "host"),
        ("x", "https://h/%zz/sk-secret", "path"),
        ("x", "https://h/<sk-secret>", "path"),
    ],
)
def test_refused(provider: str, base: str | None, rule: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        address(provider, base)
    assert (caught.value.status, caught.value.type) == (400, "invalid_request_error")
    assert caught.value.message.startswith("invalid upstream configuration: ")
    assert rule in caught.value.message
    assert "sk-secret" not in caught.value.message


@given(st.text(max_size=40).map("https://".__add__) | st.text(max_size=40))
def test_any_text_is_an_address_or_refused(base: str) -> None:
    try:
        origin, path = address("x", base)
    except Misconfigured:
        return
    assert origin.host
    assert 0 < origin.port < 65536
    assert not path.endswith("/")
    assert all(" " < c <= "~" and c not in "?#\\" for c in origin.host + path)
