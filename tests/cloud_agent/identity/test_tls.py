"""What a bundle becomes for TLS."""

import os
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from aisix_cloud_agent.identity.tls import (
    etcd_material,
    read_ca,
    read_extra_ca,
    rest_context,
    trusting_nobody,
    trusting_only,
)
from aisix_common.errors import ConfigurationError
from aisix_common.secret import Secret

from tests.cloud_agent.issuing import authority, bundle, cloud


def test_rest_verifies_names_and_chains_and_trusts_the_bundle_and_one_more() -> None:
    more = authority("Another CA")
    context = rest_context(bundle(), more.pem)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    names = str([each["subject"] for each in context.get_ca_certs()])
    assert "Cloud CA" in names
    assert "Another CA" in names


def test_the_call_with_the_token_trusts_one_authority_and_shows_no_certificate() -> None:
    context = trusting_only(cloud().pem, "managed.bootstrap.ca_file")
    assert context.cert_store_stats() == {"x509": 1, "crl": 0, "x509_ca": 1}
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert trusting_nobody().verify_mode is ssl.CERT_NONE


def test_the_key_lies_in_no_file_and_no_descriptor_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
    before = len(os.listdir("/proc/self/fd"))
    context = rest_context(bundle())
    assert len(os.listdir("/proc/self/fd")) == before
    assert list(tmp_path.iterdir()) == []
    assert context.keylog_filename is None


def test_etcd_trusts_the_bundle_and_one_more_and_the_name_is_the_hosts() -> None:
    mine, more = bundle(), authority("Another CA").pem
    material = etcd_material(mine, "cloud.test", more)
    assert material.ca == f"{mine.ca}\n{more}".encode()
    assert material.domain_name == "cloud.test"
    assert mine.key.reveal() not in repr(material)
    assert etcd_material(mine, "cloud.test").ca == mine.ca.encode()


@pytest.mark.parametrize(
    ("spoilt", "names"),
    [
        (replace(bundle(), ca="nothing"), "CA of the Cloud's bundle"),
        (replace(bundle(), certificate="nothing"), "certificate and key"),
        (replace(bundle(), key=Secret("canary-key")), "certificate and key"),
        (replace(bundle(), key=bundle().key), "certificate and key"),
    ],
    ids=["ca", "certificate", "key", "pair"],
)
def test_what_openssl_cannot_use_is_said_without_it(spoilt: object, names: str) -> None:
    with pytest.raises(ConfigurationError, match=names) as caught:
        rest_context(spoilt)  # type: ignore[arg-type]
    assert "canary" not in str(caught.value)


def test_the_extra_authority_is_read_or_the_setting_is_named(tmp_path: Path) -> None:
    assert read_extra_ca(None) is None
    assert read_extra_ca(" ") is None
    with pytest.raises(ConfigurationError, match=r"managed\.cp_ca_cert_file: .*gone.* cannot be read"):
        read_extra_ca(str(tmp_path / "gone"))
    path = tmp_path / "ca.crt"
    path.write_text("-----BEGIN nothing")
    with pytest.raises(ConfigurationError, match=r"managed\.bootstrap\.ca_file: must be PEM"):
        read_ca(str(path), "managed.bootstrap.ca_file")
    path.write_text(cloud().pem)
    assert read_extra_ca(str(path)) == cloud().pem
