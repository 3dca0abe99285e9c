"""TLS contexts: made once by value, never weaker than asked for."""

import ssl
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from aisix_common.errors import ConfigurationError
from aisix_common.settings import ClientTls
from aisix_proxy.canonical.http import TlsTrust
from aisix_proxy.upstream.trust import KEPT, TrustStore

from tests.support.authority import authority

OURS = authority()
BAD_PEM = "-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----"


def anchors(context: ssl.SSLContext) -> int:
    return context.cert_store_stats()["x509_ca"]


def test_the_deployments_own_checks_everything() -> None:
    context = TrustStore(ClientTls()).context(None)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("trust", [None, TlsTrust(), TlsTrust(ca_pem=" \n")])
def test_a_trust_that_says_nothing_is_the_deployments_own(trust: TlsTrust | None) -> None:
    store = TrustStore(ClientTls())
    assert store.context(trust) is store.context(None)


def test_one_context_for_each_value() -> None:
    store = TrustStore(ClientTls())
    context = store.context(TlsTrust(ca_pem=OURS.pem))
    assert store.context(TlsTrust(ca_pem=str(OURS.pem))) is context
    assert store.context(TlsTrust(ca_pem=OURS.pem, verify=False)) is not context
    assert anchors(context) == anchors(store.context(None)) + 1


def test_anchors_add_to_the_deployments_own(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(authority("Corporate").pem)
    store = TrustStore(ClientTls(ca_file=str(tmp_path / "ca.pem")))
    assert anchors(store.context(TlsTrust(ca_pem=OURS.pem))) == anchors(TrustStore(ClientTls()).context(None)) + 2


def test_verify_false_is_for_that_key_alone() -> None:
    store = TrustStore(ClientTls())
    assert store.context(TlsTrust(verify=False)).verify_mode == ssl.CERT_NONE
    assert store.context(None).verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize("pem", [BAD_PEM, "hello", "zertifikat ü"])
@pytest.mark.parametrize("verify", [True, False])
def test_unusable_pem_falls_back_with_a_line_in_the_log(pem: str, verify: bool) -> None:
    store = TrustStore(ClientTls())
    with capture_logs() as lines:
        assert store.context(TlsTrust(ca_pem=pem, verify=verify)) is store.context(None)
        store.context(TlsTrust(ca_pem=pem, verify=verify))
    (line,) = lines
    assert line["log_level"] == "warning"
    assert "tls.ca_cert" in line["event"]
    assert pem not in str(line)


def test_kept_contexts_have_a_bound_and_the_one_unused_longest_goes() -> None:
    store = TrustStore(ClientTls())
    blank = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # a real one each would take a minute
    for number in range(KEPT):
        store._kept[TlsTrust(ca_pem=str(number))] = blank
    assert store.context(TlsTrust(ca_pem="0")) is blank
    store.context(TlsTrust(verify=False))
    assert len(store._kept) == KEPT
    assert TlsTrust(ca_pem="0") in store._kept
    assert TlsTrust(ca_pem="1") not in store._kept


def test_files_that_cannot_be_used_stop_the_start_and_are_named(tmp_path: Path) -> None:
    missing, junk = str(tmp_path / "missing.pem"), tmp_path / "junk.pem"
    junk.write_text(BAD_PEM)
    certificate, _ = OURS.leaf().write(tmp_path, "one")
    _, key = OURS.leaf().write(tmp_path, "two")
    for settings, path in (
        (ClientTls(ca_file=missing), "upstream.tls.ca_file"),
        (ClientTls(ca_file=str(junk)), "upstream.tls.ca_file"),
        (ClientTls(client_cert_file=missing, client_key_file=str(key)), "upstream.tls.client_cert_file"),
        (ClientTls(client_cert_file=str(certificate), client_key_file=str(key)), "upstream.tls.client_cert_file"),
    ):
        with pytest.raises(ConfigurationError) as error:
            TrustStore(settings)
        assert [problem.path for problem in error.value.problems] == [path]
