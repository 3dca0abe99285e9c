"""Who a bundle makes us, and everything that can be wrong with one."""

import base64
import datetime as dt
import ipaddress
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from aisix_cloud_agent.identity.bundle import Bundle
from aisix_cloud_agent.identity.identity import BundleRefused, Identity, identify, is_env_id
from aisix_common.secret import Secret

from tests.cloud_agent.issuing import DAY, DP, ENV, NOW, OTHER_ENV, URIS, authority, bundle, cloud, key_pem, pem

GOOD = bundle()


def who(given: Bundle, now: dt.datetime = NOW) -> Identity:
    return identify(given.certificate, given.key, given.ca, now)


def refused(given: Bundle, now: dt.datetime = NOW) -> tuple[str, ...]:
    with pytest.raises(BundleRefused) as caught:
        who(given, now)
    secret = given.key.reveal()
    for line in secret.splitlines():
        assert not line or line.startswith("-----") or line not in str(caught.value), "the key is told"
    return caught.value.reasons


def test_what_a_good_bundle_says() -> None:
    identity = who(GOOD)
    certificate = x509.load_pem_x509_certificate(GOOD.certificate.encode())
    assert (identity.env_id, identity.dp_id) == (ENV, DP)
    assert (identity.not_before, identity.not_after) == (NOW - 30 * DAY, NOW + 60 * DAY)
    assert identity.lifetime == 90 * DAY
    assert int(identity.serial, 16) == certificate.serial_number
    assert len(identity.key_hash) == 64
    assert identity.same_as(who(bundle())) and not identity.same_as(replace(identity, dp_id="dp-8"))


def test_intermediates_may_follow_the_certificate() -> None:
    middle = authority("Middle", by=cloud())
    made = bundle(by=middle)
    assert who(Bundle(made.certificate + middle.pem, made.key, cloud().pem)).dp_id == DP
    assert any("does not lead to the CA" in r for r in refused(replace(made, ca=cloud().pem)))


def test_keys_of_every_kind() -> None:
    assert who(bundle(key=rsa.generate_private_key(65537, 2048))).env_id == ENV
    assert who(bundle(uses=None)).env_id == ENV


ENCRYPTED = (
    ec.generate_private_key(ec.SECP256R1())
    .private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"word"),
    )
    .decode()
)
CUT = GOOD.certificate[: len(GOOD.certificate) // 2]

BROKEN = {
    "no PEM": (replace(GOOD, certificate="hello"), "the certificate is not PEM"),
    "blank": (replace(GOOD, certificate=""), "the certificate is not PEM"),
    "cut": (replace(GOOD, certificate=CUT), "the certificate is not PEM"),
    "surrogates": (replace(GOOD, certificate="\udc80"), "the certificate is not PEM"),
    "CA no PEM": (replace(GOOD, ca="hello"), "the CA is not PEM"),
    "key no PEM": (replace(GOOD, key=Secret("hello")), "the key is not PEM"),
    "key blank": (replace(GOOD, key=Secret("")), "the key is not PEM"),
    "key is the certificate": (replace(GOOD, key=Secret(GOOD.certificate)), "the key is not PEM"),
    "key encrypted": (replace(GOOD, key=Secret(ENCRYPTED)), "encrypted with a passphrase"),
    "key in the certificate": (
        replace(GOOD, certificate=GOOD.certificate + GOOD.key.reveal()),
        "the certificate has a private key beside it",
    ),
    "key in the CA": (replace(GOOD, ca=GOOD.ca + GOOD.key.reveal()), "the CA has a private key beside it"),
    "another key": (replace(GOOD, key=bundle().key), "the key is not the certificate's"),
    "CA first": (replace(GOOD, certificate=GOOD.ca + GOOD.certificate), "certificate 2 of 2: put that one first"),
    "another CA": (replace(GOOD, ca=cloud("Another").pem), "does not lead to the CA: nothing given signed it"),
    "for servers": (bundle(uses=[ExtendedKeyUsageOID.SERVER_AUTH]), "is not for clients"),
    "no names": (bundle(uris=None), "names no URIs x-aisix://env/<id>"),
    "no environment": (bundle(uris=URIS[1:]), "names no URIs x-aisix://env/<id>"),
    "no data plane": (bundle(uris=URIS[:1]), "names no URIs x-aisix://dp/<id>"),
    "two environments": (bundle(uris=[*URIS, f"x-aisix://env/{OTHER_ENV}"]), "names 2 URIs x-aisix://env/<id>"),
    "one twice": (bundle(uris=[*URIS, URIS[1]]), "names 2 URIs x-aisix://dp/<id>"),
    "combined": (bundle(uris=[f"x-aisix://env/{ENV}/dp/{DP}"]), "names no URIs x-aisix://dp/<id>"),
    "environment blank": (bundle(uris=["x-aisix://env/", URIS[1]]), "the environment id '' of the certificate"),
    "environment no UUID": (bundle(uris=["x-aisix://env/prod", URIS[1]]), "'prod' of the certificate is not a UUID"),
    "environment and more": (bundle(uris=[URIS[0] + "/../x", URIS[1]]), "is not a UUID"),
    "data plane blank": (bundle(uris=[URIS[0], "x-aisix://dp/"]), "the data plane id ''"),
    "data plane with a line end": (bundle(uris=[URIS[0], "x-aisix://dp/a\r\nb: c"]), "data plane id 'a\\r\\nb: c'"),
    "data plane a path": (bundle(uris=[URIS[0], "x-aisix://dp/../x"]), "the data plane id '../x'"),
    "data plane too long": (bundle(uris=[URIS[0], "x-aisix://dp/" + "a" * 129]), "is not 1 to 128"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_refuses(case: str) -> None:
    given, reason = BROKEN[case]
    assert [r for r in refused(given) if reason in r], refused(given)


def test_all_reasons_at_once() -> None:
    bad = bundle(uris=["x-aisix://env/prod"], days=(-90, -1), uses=[ExtendedKeyUsageOID.SERVER_AUTH])
    reasons = refused(replace(bad, key=bundle().key, ca=cloud("Another").pem))
    starts = ["the certificate is not for", "the certificate names no", "the environment id 'prod'"]
    starts += ["the certificate has expired", "the key is not the", "the certificate does not lead"]
    assert [next(s for s in starts if r.startswith(s)) for r in reasons] == starts


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (NOW - 30 * DAY, None),
        (NOW - 30 * DAY - dt.timedelta(minutes=5), None),
        (
            NOW - 30 * DAY - dt.timedelta(minutes=6),
            "is not valid before 2026-05-16 12:00:00Z, it is 2026-05-16 11:54:00Z",
        ),
        (NOW + 60 * DAY, None),
        (
            NOW + 60 * DAY + dt.timedelta(seconds=1),
            "has expired (2026-08-14 12:00:00Z, it is 2026-08-14 12:00:01Z here)",
        ),
    ],
)
def test_dates(now: dt.datetime, reason: str | None) -> None:
    if reason is None:
        assert who(GOOD, now).env_id == ENV
    else:
        [said] = refused(GOOD, now)
        assert reason in said


def test_names_of_other_kinds_are_no_ids() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName("x-aisix.test"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = (
        x509.CertificateBuilder(cloud().certificate.subject, x509.Name([]), key.public_key(), 7)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    made = Bundle(pem(builder.sign(cloud().key, hashes.SHA256())), Secret(key_pem(key)), cloud().pem)
    assert len(refused(made)) == 2


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        (ENV, True),
        (ENV.upper(), True),
        (ENV.replace("-", ""), False),
        ("{" + ENV + "}", False),
        (ENV + "\n", False),
        ("", False),
    ],
)
def test_environment_ids(text: str, sound: bool) -> None:
    assert is_env_id(text) is sound


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=200))
def test_no_text_raises_anything_else(certificate: str, key: str, ca: str) -> None:
    with pytest.raises(BundleRefused):
        identify(certificate, Secret(key), ca, NOW)


@given(st.data())
def test_no_damaged_certificate_raises_anything_else(data: st.DataObject) -> None:
    """A byte of the DER turned over, at any place: accepted only where nothing we rely on was touched (never, as the
    signature covers it)."""
    der = bytearray(x509.load_pem_x509_certificate(GOOD.certificate.encode()).public_bytes(serialization.Encoding.DER))
    place = data.draw(st.integers(0, len(der) - 1))
    der[place] ^= data.draw(st.integers(1, 255))
    text = armoured(bytes(der))
    try:
        identity = identify(text, GOOD.key, GOOD.ca, NOW)
    except BundleRefused:
        return
    assert identity == who(GOOD), "damaged, and it passed as another"


def armoured(der: bytes) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE-----\n"
