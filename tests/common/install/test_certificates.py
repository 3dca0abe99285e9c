"""What the authority signs is taken by Python's strict TLS, and refused where it should be."""

import http.client
import ssl
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from aisix_common.install.certificates import LEAF_DAYS, Pair, covers, days_left, issue, make_authority
from aisix_common.install.etcd_api import EtcdApi, Tls
from aisix_common.install.progress import Failed, Job, Later

from .etcd import certificates
from tests.support.etcd import binary, free_port

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


@pytest.mark.slow
def test_members_take_each_other_and_no_client(tmp_path: Path) -> None:
    """Three members over TLS, set up as the chart does; a client's certificate opens the peers' port to nobody."""
    made = certificates(tmp_path / "tls")
    ports = [(free_port(), free_port(), free_port()) for _ in range(3)]
    everybody = ",".join(f"m{n}=https://localhost:{peer}" for n, (_, peer, _) in enumerate(ports))
    running = []
    try:
        for number, (client, peer, metrics) in enumerate(ports):
            environ = {
                "ETCD_NAME": f"m{number}",
                "ETCD_DATA_DIR": str(tmp_path / f"m{number}"),
                "ETCD_INITIAL_CLUSTER": everybody,
                "ETCD_LISTEN_PEER_URLS": f"https://127.0.0.1:{peer}",
                "ETCD_INITIAL_ADVERTISE_PEER_URLS": f"https://localhost:{peer}",
                "ETCD_LISTEN_CLIENT_URLS": f"https://127.0.0.1:{client}",
                "ETCD_ADVERTISE_CLIENT_URLS": f"https://localhost:{client}",
                "ETCD_LISTEN_METRICS_URLS": f"http://127.0.0.1:{metrics}",
                "ETCD_PEER_CERT_ALLOWED_CN": "aisix-etcd-member",
                "ETCD_UNSAFE_NO_FSYNC": "true",
            }
            for of in ("", "PEER_"):
                environ[f"ETCD_{of}CERT_FILE"] = str(made.server_cert)
                environ[f"ETCD_{of}KEY_FILE"] = str(made.server_key)
                environ[f"ETCD_{of}TRUSTED_CA_FILE"] = str(made.ca)
                environ[f"ETCD_{of}CLIENT_CERT_AUTH"] = "true"
            log = (tmp_path / f"m{number}.log").open("wb")
            running.append(subprocess.Popen([binary("etcd")], env=environ, stdout=log, stderr=log))
            log.close()
        job = Job(lambda line: None, time.monotonic() + 30)
        files = Tls(made.ca, made.client_cert, made.client_key)
        etcd = EtcdApi([f"https://localhost:{client}" for client, _, _ in ports], files, job)
        status = job.patiently("quorum", lambda: _led(etcd))
        assert status["leader"] != "0"
        for pair, expected in (((made.server_cert, made.server_key), 200), ((made.client_cert, made.client_key), 0)):
            assert _members(Tls(made.ca, *pair), ports[0][1]) == expected
    finally:
        for process in running:
            process.kill()
            process.wait()


def _led(etcd: EtcdApi) -> Mapping[str, str]:
    status = etcd.call("/v3/maintenance/status", {})
    if status.get("leader", "0") == "0":
        raise Later("no leader yet")
    return status


def _members(tls: Tls, peer_port: int) -> int:
    """The status of a peer's question, 0 where the handshake fails."""
    connection = http.client.HTTPSConnection("localhost", peer_port, context=tls.context(), timeout=5)
    try:
        connection.request("GET", "/members")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
