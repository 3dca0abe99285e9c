"""The grammar of references, and whose provider one means."""

import pytest

from aisix_common.secret import is_reference
from aisix_common.secrets.reference import BadReference, EnvReference, Placed, SecretReference, parse, place

GOOD = [
    ("$secret://vault/main/kv/openai/key", SecretReference("vault", ("main", "kv", "openai", "key"))),
    ("$secret://vault/api-key-path/my-key", SecretReference("vault", ("api-key-path", "my-key"))),
    ("$SECRET://aws/secret-id", SecretReference("aws", ("secret-id",))),
    ("$secret://azure/a/name", SecretReference("azure", ("a", "name"))),
    ("$secret://gcp/a/name@7/member", SecretReference("gcp", ("a", "name@7", "member"))),
    ("$secret://kubernetes/a/ns/name/tls.crt", SecretReference("kubernetes", ("a", "ns", "name", "tls.crt"))),
    ("$env://AISIX_SECRET_A", EnvReference("AISIX_SECRET_A")),
    ("$ENV://A/member", EnvReference("A", "member")),
    ("$Env://A/a/b", EnvReference("A", "a/b")),
]


@pytest.mark.parametrize(("text", "meant"), GOOD)
def test_read(text: str, meant: object) -> None:
    assert is_reference(text)
    assert parse(text) == meant


BAD = [
    ("$secret://", "no secret manager"),
    ("$secret:///x/y", "no secret manager"),
    ("$secret://consul/a/b", "names no secret manager"),
    ("$secret://Vault/a/b", "names no secret manager"),
    ("$secret://vault", "no secret conf id"),
    ("$secret://vault/", "no secret conf id"),
    ("$secret://vault//b", "no secret conf id"),
    ("$secret://vault/a/", "no secret key id"),
    ("$secret://vault/a//b", "no secret key id"),
    ("$secret://vault/a/../b", "no secret key id"),
    ("$secret://vault/a/./b", "no secret key id"),
    ("$secret://vault/a/b?x=y", "no secret key id"),
    ("$secret://vault/a/b#c", "no secret key id"),
    ("$secret://vault/a/%2e%2e/b", "no secret key id"),
    ("$secret://vault/a/b c", "no secret key id"),
    ("$secret://vault/a/b\n", "no secret key id"),
    ("$secret://vault/a\\b/c", "no secret key id"),
    ("$secret://vault/ä/c", "no secret key id"),
    ("$env://", "name of a variable"),
    ("$env:///x", "name of a variable"),
    ("$env://1A", "name of a variable"),
    ("$env://A-B", "name of a variable"),
    ("$env://A\n", "name of a variable"),
    ("$env://A/", "no key behind the slash"),
    ("$secret://vault/a/" + "b" * 1024, "at most 1024"),
    ("secret://vault/a/b", "no secret reference"),
]


@pytest.mark.parametrize(("text", "reason"), BAD)
def test_refused(text: str, reason: str) -> None:
    with pytest.raises(BadReference, match=reason) as refused:
        parse(text)
    assert "consul" not in str(refused.value), "what was written is not repeated"


@pytest.mark.parametrize(
    "text", ["", "sk-123", "$", "$secret:/vault", "$secrets://x", " $secret://vault/a/b", "x$env://A"]
)
def test_no_reference_at_all(text: str) -> None:
    assert not is_reference(text)


PLACED = [
    ("$secret://vault/main/a/key", {"main"}, "$secret://vault/main/a/key"),
    ("$secret://vault/main/a/key", {"main", "other"}, "$secret://vault/main/a/key"),
    ("$secret://vault/a/key", {"main"}, "$secret://vault/main/a/key"),
    ("$SECRET://vault/a/key", {"default", "other"}, "$secret://vault/default/a/key"),
    ("$secret://aws/secret-id", {"x"}, "$secret://aws/x/secret-id"),
    ("$secret://aws/x/x", {"x"}, "$secret://aws/x/x"),
]


@pytest.mark.parametrize(("text", "providers", "long"), PLACED)
def test_placed(text: str, providers: set[str], long: str) -> None:
    reference = parse(text)
    assert isinstance(reference, SecretReference)
    placed = place(reference, providers)
    assert placed.text == long
    again = parse(long)
    assert isinstance(again, SecretReference)
    assert place(again, providers) == placed, "the long form means the same"


NOWHERE = [
    ("$secret://vault/a/key", set(), "there is no vault provider"),
    ("$secret://vault/a/key", {"b", "c"}, "there are 2"),
    ("$secret://vault/main", {"main"}, "no secret key id"),
    ("$secret://aws/main", {"main"}, "no secret key id"),
    ("$secret://vault/main/key", {"main"}, "no secret key id .*write <path>/<key>"),
    ("$secret://vault/key", {"main"}, "no secret key id .*write <path>/<key>"),
    ("$secret://kubernetes/main/ns/name", {"main"}, "no secret key id .*write <namespace>/<name>/<key>"),
]


@pytest.mark.parametrize(("text", "providers", "reason"), NOWHERE)
def test_leads_nowhere(text: str, providers: set[str], reason: str) -> None:
    reference = parse(text)
    assert isinstance(reference, SecretReference)
    with pytest.raises(BadReference, match=reason):
        place(reference, providers)


def test_canonical_spellings() -> None:
    assert EnvReference("A").text == "$env://A"
    assert EnvReference("A", "b/c").text == "$env://A/b/c"
    assert Placed("vault", "main", ("a", "b")).identity == "vault/main"
