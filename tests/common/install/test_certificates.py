"""What the authority signs is taken by Python's strict TLS, and refused where it should be."""

import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from aisix_common.install.certificates import LEAF_DAYS, Pair, covers, days_left, issue, make_authority
from aisix_common.install.progress import Failed

NOW = datetime.now(UTC)
HOSTS = ("aisix-etcd", "*.aisix-etcd-headless.gw.svc", "127.0.0.1")


def _load(context: ssl.SSLContext, pair: Pair, folder: Path) -> ssl.SSLContext:
    path = folder / f"{id(pair)}.pem"
    path.write_bytes(pair.key + pair.certificate)
    context.load_cert_chain(path)
    return context


def _shake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> None:
    """A handshake in memory. Raises ssl.SSLError."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        server.wrap_bio(up, down, server_side=True),
        client.wrap_bio(down, up, server_hostname=host),
    )
    done = [False, False]
    for _ in range(10):
        for index in (1, 0):
            if not done[index]:
                try:
                    ends[index].do_handshake()
                    done[index] = True
                except ssl.SSLWantReadError:
                    pass
    assert all(done)


def _contexts(authority: Pair, server: Pair, client: Pair, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    listening = _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), server, folder)
    listening.verify_mode = ssl.CERT_REQUIRED
    calling = _load(ssl.create_default_context(cadata=authority.certificate.decode()), client, folder)
    for context in (listening, calling):
        context.load_verify_locations(cadata=authority.certificate.decode())
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    return listening, calling


@pytest.mark.parametrize("host", ["aisix-etcd", "aisix-etcd-2.aisix-etcd-headless.gw.svc", "127.0.0.1"])
def test_strict_tls_takes_both_ends(host: str, tmp_path: Path) -> None:
    authority = make_authority("AISIX etcd", NOW)
    server, client = issue(authority, "member", HOSTS, NOW), issue(authority, "proxy.client", (), NOW)
    _shake(*_contexts(authority, server, client, tmp_path), host)
    _shake(*_contexts(authority, server, server, tmp_path), host)  # members call each other with it


def test_a_client_certificate_serves_nobody(tmp_path: Path) -> None:
    authority = make_authority("AISIX etcd", NOW)
    client = issue(authority, "aisix-etcd", (), NOW)
    with pytest.raises(ssl.SSLError):
        _shake(*_contexts(authority, client, client, tmp_path), "aisix-etcd")


def test_another_authority_is_not_trusted(tmp_path: Path) -> None:
    authority, other = make_authority("AISIX etcd", NOW), make_authority("AISIX etcd", NOW)
    server, foreign = issue(authority, "member", HOSTS, NOW), issue(other, "client", (), NOW)
    with pytest.raises(ssl.SSLError):
        _shake(*_contexts(other, server, foreign, tmp_path), "aisix-etcd")


def test_what_is_left_and_what_it_holds_for() -> None:
    pair = issue(make_authority("AISIX etcd", NOW), "member", HOSTS, NOW)
    assert LEAF_DAYS - 1 < days_left(pair.certificate, NOW) <= LEAF_DAYS
    assert days_left(pair.certificate, NOW + timedelta(days=LEAF_DAYS + 1)) < 0
    assert covers(pair.certificate, HOSTS) and covers(pair.certificate, HOSTS[:1])
    assert not covers(pair.certificate, (*HOSTS, "another"))
    client = issue(make_authority("AISIX etcd", NOW), "client", (), NOW)
    assert covers(client.certificate, ()) and not covers(client.certificate, HOSTS)


def test_a_leaf_does_not_outlive_its_authority() -> None:
    late = NOW + timedelta(days=7000)
    pair = issue(make_authority("AISIX etcd", NOW), "member", HOSTS, late)
    assert 299 < days_left(pair.certificate, late) <= 300


def test_a_client_has_no_common_name() -> None:
    authority = make_authority("AISIX etcd", NOW)
    client = x509.load_pem_x509_certificate(issue(authority, "proxy", (), NOW).certificate)
    assert client.subject.rfc4514_string() == "OU=proxy,O=AISIX etcd"
    member = x509.load_pem_x509_certificate(issue(authority, "member", HOSTS, NOW).certificate)
    assert member.subject.rfc4514_string() == "CN=member"


def test_keys_are_not_shown() -> None:
    pair = make_authority("AISIX etcd", NOW)
    assert "PRIVATE" not in repr(pair)


@pytest.mark.parametrize("what", ["nothing", "another's key"])
def test_what_is_no_authority_is_refused(what: str) -> None:
    authority = make_authority("AISIX etcd", NOW)
    broken = Pair(b"", b"") if what == "nothing" else replace(authority, key=make_authority("x", NOW).key)
    with pytest.raises(Failed, match="authority holds"):
        issue(broken, "member", HOSTS, NOW)
