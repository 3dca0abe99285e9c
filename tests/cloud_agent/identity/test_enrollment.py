"""Asking for a certificate: what is sent, and which answers are taken."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from aisix_cloud_agent.identity.bundle import Bundle
from aisix_cloud_agent.identity.enrollment import (
    MOST_BYTES,
    NotEnrolled,
    Pending,
    enrolled,
    enrollment,
    is_sound,
    new_pending,
    rotated,
    rotation,
)
from aisix_cloud_agent.identity.identity import Identity, identify, key_hash
from aisix_common.errors import ConfigurationError
from aisix_common.secret import Secret

from tests.cloud_agent.issuing import DP, ENV, NOW, OTHER_ENV, URIS, Authority, authority, bundle, cloud, leaf, pem

PENDING = new_pending()
TOKEN = Secret("token-canary")
IN_FORCE = bundle()
MIDDLE = authority("Middle", by=cloud())


def answer(
    uris: Sequence[str] = URIS,
    *,
    by: Authority | None = None,
    pending: Pending = PENDING,
    days: tuple[int, int] = (0, 90),
    **fields: Any,
) -> bytes:
    """What a Cloud says to a CSR; `fields` replace what is in it, None takes it out."""
    csr = x509.load_pem_x509_csr(pending.csr_pem.encode())
    key = csr.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    body = {"certificate": pem(leaf(by or cloud(), key, uris, days=days)), "ca": cloud().pem, **fields}
    return json.dumps({name: value for name, value in body.items() if value is not None}).encode()


def who(given: Bundle) -> Identity:
    return identify(given.certificate, given.key, given.ca, NOW)


def renew(status: int, body: bytes) -> Bundle:
    return rotated(status, body, PENDING, NOW, IN_FORCE, who(IN_FORCE))


def refused(call: Callable[[], object]) -> NotEnrolled:
    with pytest.raises(NotEnrolled) as caught:
        call()
    assert "canary" not in str(caught.value)
    assert not set(PENDING.key_pem.reveal().splitlines()[1:-1]) & set(str(caught.value).split())
    return caught.value


# what is sent


def test_a_key_and_its_csr() -> None:
    csr = x509.load_pem_x509_csr(PENDING.csr_pem.encode())
    key = csr.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    assert csr.is_signature_valid and is_sound(PENDING)
    assert len(csr.subject) == 0 and len(csr.extensions) == 0
    assert PENDING.key_pem != new_pending().key_pem
    assert PENDING.key_pem.reveal() not in repr(PENDING)


def test_a_csr_for_renewal_says_who_asks() -> None:
    csr = x509.load_pem_x509_csr(new_pending(who(IN_FORCE)).csr_pem.encode())
    names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == list(URIS)


@pytest.mark.parametrize(
    "pending",
    [
        Pending(Secret(""), ""),
        Pending(PENDING.key_pem, "\udc80"),
        Pending(new_pending().key_pem, PENDING.csr_pem),
        Pending(PENDING.key_pem, PENDING.csr_pem[:100]),
        Pending(Secret("\udc80"), PENDING.csr_pem),
    ],
    ids=["blank", "odd", "another", "cut", "odd-key"],
)
def test_a_damaged_request_is_noticed(pending: Pending) -> None:
    assert not is_sound(pending)


@pytest.mark.parametrize("url", ["https://cloud.test", "https://cloud.test/", " https://cloud.test/\n"])
def test_calls(url: str) -> None:
    first, second = enrollment(url, Secret(" token-canary\n"), PENDING), rotation(url, PENDING)
    assert (first.url, second.url) == ("https://cloud.test/dp/enroll", "https://cloud.test/dp/rotate-cert")
    assert json.loads(first.body.reveal()) == {"token": "token-canary", "csr": PENDING.csr_pem}
    assert json.loads(second.body.reveal()) == {"csr": PENDING.csr_pem}
    assert "canary" not in repr(first)
    for call in (first, second):
        assert "PRIVATE KEY" not in call.body.reveal()


def test_a_url_may_have_port_and_path() -> None:
    assert rotation("https://[::1]:7443/cp/", PENDING).url == "https://[::1]:7443/cp/dp/rotate-cert"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "cloud.test",
        "http://cloud.test",
        "https://",
        "https://user:word@cloud.test",
        "https://cloud.test/?a",
        "https://cloud.test/#a",
        "https://[::1",
        "https://cloud.test:port",
        "https://cloud.test:0",
    ],
)
def test_urls_that_would_not_do(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"managed\.bootstrap\.url: must be https"):
        enrollment(url, TOKEN, PENDING)
    with pytest.raises(ConfigurationError, match=r"managed\.cp_base_url: must be https"):
        rotation(url, PENDING)


def test_a_blank_token() -> None:
    with pytest.raises(ConfigurationError, match=r"managed\.bootstrap\.token: is blank"):
        enrollment("https://cloud.test", Secret(" \n"), PENDING)


# what comes back


@pytest.mark.parametrize(
    "body",
    [
        answer(),
        answer(chain=None, unknown={"a": 1}),
        answer(chain=[]),
        answer(chain=""),
        answer(by=MIDDLE, chain=MIDDLE.pem),
        answer(by=MIDDLE, chain=[MIDDLE.pem.strip()]),
        answer(by=MIDDLE, ca=MIDDLE.pem + cloud().pem),
    ],
    ids=["plain", "unknown-field", "empty-chain", "blank-chain", "chain", "chain-list", "two-authorities"],
)
def test_answers_that_are_taken(body: bytes) -> None:
    for taken in (enrolled(201, body, PENDING, NOW), renew(200, body)):
        assert who(taken).same_as(who(IN_FORCE))
        assert taken.key == PENDING.key_pem
        assert who(taken).key_hash == key_hash(x509.load_pem_x509_csr(PENDING.csr_pem.encode()).public_key())


def test_a_renewal_may_leave_out_the_authority() -> None:
    body = answer(ca=None)
    assert renew(200, body).ca.strip() == IN_FORCE.ca.strip()
    assert "lacks the CA" in str(refused(lambda: enrolled(200, body, PENDING, NOW)))


def test_an_authority_may_be_replaced_with_a_renewal() -> None:
    new = cloud("New CA")
    assert renew(200, answer(by=new, ca=new.pem)).ca == new.pem


UNUSABLE = [
    (b"", "is not JSON"),
    (b"\xff", "is not JSON"),
    (b"<html>token-canary", "is not JSON"),
    (b"[]", "is not JSON"),
    (b"[" * 100_000, "is not JSON"),
    (answer(certificate=None), "is not JSON of {certificate, ca, chain}"),
    (answer(certificate=""), "is not JSON of {certificate, ca, chain}"),
    (answer(certificate=7), "is not JSON of {certificate, ca, chain}"),
    (b" " * (MOST_BYTES + 1), "is larger than"),
    (answer(certificate="token-canary"), "the certificate is not PEM"),
    (answer(pending=new_pending()), "the key is not the certificate's"),
    (answer(by=MIDDLE), "does not lead to the CA"),
    (answer(ca=cloud("Another").pem), "does not lead to the CA"),
    (answer(certificate=IN_FORCE.certificate + IN_FORCE.key.reveal()), "has a private key beside it"),
    (answer(days=(-9, -1)), "has expired"),
    (answer(days=(1, 9)), "is not valid before"),
    (answer([f"x-aisix://env/{ENV}"]), "names no URIs x-aisix://dp/"),
    (answer(["x-aisix://env/prod", URIS[1]]), "is not a UUID"),
]


@pytest.mark.parametrize(("body", "reason"), UNUSABLE, ids=[f"{n}" for n in range(len(UNUSABLE))])
def test_answers_that_cannot_be_used(body: bytes, reason: str) -> None:
    for call in (lambda: enrolled(200, body, PENDING, NOW), lambda: renew(200, body)):
        error = refused(call)
        assert reason in str(error) and error.again


@pytest.mark.parametrize(
    ("uris", "days", "reason"),
    [
        ([f"x-aisix://env/{OTHER_ENV}", URIS[1]], (0, 90), f"{DP} of environment {OTHER_ENV}"),
        ([URIS[0], "x-aisix://dp/dp-8"], (0, 90), f"dp-8 of environment {ENV}"),
        (URIS, (-31, 90), "older than the one in use"),
    ],
)
def test_a_renewal_changes_nothing_but_the_dates(uris: Sequence[str], days: tuple[int, int], reason: str) -> None:
    error = refused(lambda: renew(200, answer(uris, days=days)))
    assert reason in str(error) and error.again


def test_a_renewal_may_end_earlier_than_the_old_one() -> None:
    assert who(renew(200, answer(days=(0, 1)))).lifetime.days == 1


@pytest.mark.parametrize(
    ("status", "again", "reason"),
    [
        (400, False, "does not take the request"),
        (401, False, "get a new token"),
        (403, False, "get a new token"),
        (404, False, "check managed.bootstrap.url"),
        (408, True, "cannot answer now"),
        (409, False, "does not take the request"),
        (429, True, "cannot answer now"),
        (301, False, "points elsewhere"),
        (307, False, "points elsewhere"),
        (500, True, "cannot answer now"),
        (501, False, "check managed.bootstrap.url"),
        (503, True, "cannot answer now"),
    ],
)
def test_refusals(status: int, again: bool, reason: str) -> None:
    for call in (lambda: enrolled(status, b"token-canary", PENDING, NOW), lambda: renew(status, b"token-canary")):
        error = refused(call)
        assert error.again is again and reason in str(error) and f"answered {status}" in str(error)


def test_the_pin() -> None:
    pin = bytes.fromhex(key_hash(cloud().certificate.public_key()))
    assert enrolled(200, answer(), PENDING, NOW, pin)
    assert enrolled(200, answer(ca=cloud("Another").pem + cloud().pem), PENDING, NOW, pin)
    stranger = cloud("Another")
    error = refused(lambda: enrolled(200, answer(by=stranger, ca=stranger.pem), PENDING, NOW, pin))
    assert not error.again and "ca_pin names" in str(error)


@given(st.integers(100, 599), st.binary(max_size=200))
def test_no_answer_raises_anything_else(status: int, body: bytes) -> None:
    with pytest.raises(NotEnrolled):
        enrolled(status, body, PENDING, NOW)
