"""TLS files are looked at all at once, those that are used."""

from pathlib import Path

import pytest

from aisix_common.errors import ConfigurationError
from aisix_common.settings.files import refuse_unreadable, why_unreadable

from tests.common.settings.documents import built

CONFIG = """\
proxy: {{addr: "127.0.0.1:0", tls: {{cert_file: {0}, key_file: {0}}}}}
admin: {{admin_keys: [k], tls: {{cert_file: {0}, key_file: {0}}}}}
etcd: {{endpoints: [a], tls: {{ca_cert_file: {0}, client_cert_file: {0}, client_key_file: {0}}}}}
upstream: {{tls: {{ca_file: {0}, client_cert_file: {0}, client_key_file: {0}}}}}
"""
ADMIN = ["admin.tls.cert_file", "admin.tls.key_file"]


def test_every_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    with pytest.raises(ConfigurationError) as refusal:
        refuse_unreadable(built(CONFIG.format(missing)).settings)
    assert [problem.path for problem in refusal.value.problems] == [
        "proxy.tls.cert_file",
        "proxy.tls.key_file",
        *ADMIN,
        "etcd.tls.ca_cert_file",
        "etcd.tls.client_cert_file",
        "etcd.tls.client_key_file",
        "upstream.tls.ca_file",
        "upstream.tls.client_cert_file",
        "upstream.tls.client_key_file",
    ]
    assert {problem.reason for problem in refusal.value.problems} == {
        f"cannot read {missing}: No such file or directory"
    }
    with pytest.raises(ConfigurationError) as refusal:
        refuse_unreadable(built(CONFIG.format(missing), {"AISIX_ADMIN__ENABLED": "false"}).settings)
    assert not set(ADMIN) & {problem.path for problem in refusal.value.problems}


def test_files_that_can_be_read_and_none_at_all_are_fine(tmp_path: Path) -> None:
    file = tmp_path / "some.pem"
    file.write_text("whatever is in it")
    refuse_unreadable(built(CONFIG.format(file)).settings)
    refuse_unreadable(
        built('proxy: {addr: "127.0.0.1:0"}\nadmin: {admin_keys: [k]}\netcd: {endpoints: [a]}\n').settings
    )


def test_what_only_the_cloud_agent_reads_keeps_nobody_from_starting() -> None:
    managed = ", ".join(f"cp_{role}_file: /no" for role in ("cert", "key", "ca", "ca_cert"))
    bootstrap = "bootstrap: {token_file: /no, ca_file: /no}"
    text = f"managed: {{enabled: true, cp_base_url: 'https://c', {managed}, {bootstrap}}}\n"
    refuse_unreadable(built('proxy: {addr: "127.0.0.1:0"}\netcd: {endpoints: [a]}\n' + text).settings)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert why_unreadable(str(tmp_path)) == "Is a directory"
