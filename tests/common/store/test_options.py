"""What an operator may write under `etcd:`, and what is told about the rest."""

from pathlib import Path

import pytest

from aisix_common.errors import ConfigurationError
from aisix_common.settings.storage import Etcd, EtcdTls
from aisix_common.store.options import EtcdOptions, TlsMaterial, etcd_options, targets

from tests.support.authority import authority


@pytest.mark.parametrize(
    ("endpoint", "uri", "name"),
    [
        ("127.0.0.1:2379", "ipv4:127.0.0.1:2379", "127.0.0.1:2379"),
        ("http://10.0.0.1:1", "ipv4:10.0.0.1:1", "10.0.0.1:1"),
        ("http://10.0.0.1/", "ipv4:10.0.0.1:2379", "10.0.0.1:2379"),
        ("[::1]:2379", "ipv6:[::1]:2379", "[::1]:2379"),
        ("http://etcd-0.etcd:2379", "dns:///etcd-0.etcd:2379", "etcd-0.etcd:2379"),
        ("etcd", "dns:///etcd:2379", "etcd:2379"),
    ],
)
def test_endpoints(endpoint: str, uri: str, name: str) -> None:
    (target,) = targets(EtcdOptions(endpoints=(endpoint,)))
    assert (target.uri, target.name, target.secure) == (uri, name, False)


def test_without_a_scheme_tls_follows_the_tls_section() -> None:
    parsed = targets(EtcdOptions(endpoints=("a:1", "https://b:1"), tls=TlsMaterial()))
    assert [target.secure for target in parsed] == [True, True]
    (target,) = targets(EtcdOptions(endpoints=("https://b:1",)))
    assert target.secure


@pytest.mark.parametrize(
    ("endpoints", "tls", "path", "reason"),
    [
        ((), None, "etcd.endpoints", "at least one"),
        (("ftp://a:1",), None, "etcd.endpoints[0]", "http or https"),
        (("a:1", "http://"), None, "etcd.endpoints[1]", "host:port"),
        (("a:port",), None, "etcd.endpoints[0]", "host:port"),
        (("a:70000",), None, "etcd.endpoints[0]", "host:port"),
        (("http://a:1/v3?x",), None, "etcd.endpoints[0]", "host:port"),
        (("http://user:hidden@a:1",), None, "etcd.endpoints[0]", "host:port"),
        (("http://a:1",), TlsMaterial(), "etcd.endpoints[0]", "etcd.tls"),
        (("http://a:1", "https://a:1"), None, "etcd.endpoints", "mixed"),
        (("a:1", "https://a:1"), None, "etcd.endpoints", "mixed"),
    ],
)
def test_endpoints_that_cannot_work(
    endpoints: tuple[str, ...], tls: TlsMaterial | None, path: str, reason: str
) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        targets(EtcdOptions(endpoints=endpoints, tls=tls))
    (problem,) = refusal.value.problems
    assert problem.path == path and reason in problem.reason
    assert "hidden" not in str(refusal.value)


def test_times_and_password_come_from_settings_and_environment() -> None:
    settings = Etcd(endpoints=("a:1",), user="u", password_env="ETCD_PW", dial_timeout_ms=1500, request_timeout_ms=2500)
    options = etcd_options(settings, {"ETCD_PW": "canary"})
    assert (options.dial_timeout, options.request_timeout) == (1.5, 2.5)
    assert options.user == "u" and options.password is not None and options.password.reveal() == "canary"
    assert "canary" not in repr(options)


def test_a_missing_password_variable_is_named() -> None:
    settings = Etcd(endpoints=("a:1",), user="u", password_env="ETCD_PW")
    with pytest.raises(ConfigurationError, match="ETCD_PW"):
        etcd_options(settings, {})


@pytest.mark.parametrize("settings", [Etcd(endpoints=("a:1",), user="u"), Etcd(endpoints=("a:1",), password_env="X")])
def test_user_and_password_count_only_together(settings: Etcd) -> None:
    options = etcd_options(settings, {})
    assert options.user is None and options.password is None


def tls_files(folder: Path, **replaced: str) -> EtcdTls:
    """A good `etcd.tls` in `folder`, with other contents for the files (`ca`, `cert`, `key`) that are `replaced`."""
    leaf = authority().leaf()
    for name, text in {"ca": authority().pem, "cert": leaf.certificate, "key": leaf.key, **replaced}.items():
        (folder / name).write_text(text)
    return EtcdTls(
        ca_cert_file=str(folder / "ca"),
        client_cert_file=str(folder / "cert"),
        client_key_file=str(folder / "key"),
        domain_name="etcd.example",
    )


def test_tls_files_are_read(tmp_path: Path) -> None:
    tls = tls_files(tmp_path)
    options = etcd_options(Etcd(endpoints=("a:1",), tls=tls), {})
    assert options.tls is not None and options.tls.key is not None
    ca, certificate, key = ((tmp_path / name).read_bytes() for name in ("ca", "cert", "key"))
    assert options.tls == TlsMaterial(ca=ca, certificate=certificate, key=key, domain_name="etcd.example")
    assert key.decode() not in repr(options) and "PRIVATE" not in repr(options)


@pytest.mark.parametrize(
    ("replaced", "paths"),
    [
        ({"ca": "canary"}, ["etcd.tls.ca_cert_file"]),
        ({"ca": ""}, ["etcd.tls.ca_cert_file"]),
        ({"cert": "canary"}, ["etcd.tls.client_cert_file"]),
        ({"key": "canary"}, ["etcd.tls.client_cert_file"]),
        ({"key": authority().leaf().key}, ["etcd.tls.client_cert_file"]),
        ({"ca": "canary", "key": ""}, ["etcd.tls.ca_cert_file", "etcd.tls.client_cert_file"]),
    ],
)
def test_tls_files_that_cannot_be_used_are_named(replaced: dict[str, str], paths: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        etcd_options(Etcd(endpoints=("a:1",), tls=tls_files(tmp_path, **replaced)), {})
    assert [problem.path for problem in refusal.value.problems] == paths
    assert "canary" not in str(refusal.value) and str(tmp_path) in str(refusal.value)


def test_every_unreadable_file_is_named_at_once(tmp_path: Path) -> None:
    tls = EtcdTls(
        ca_cert_file=str(tmp_path / "no-ca"), client_cert_file=str(tmp_path), client_key_file=str(tmp_path / "no-key")
    )
    with pytest.raises(ConfigurationError) as refusal:
        etcd_options(Etcd(endpoints=("http://a:1",), tls=tls), {})
    paths = [problem.path for problem in refusal.value.problems]
    assert paths == [
        "etcd.tls.ca_cert_file",
        "etcd.tls.client_cert_file",
        "etcd.tls.client_key_file",
        "etcd.endpoints[0]",
    ]
    assert str(tmp_path / "no-ca") in str(refusal.value)
