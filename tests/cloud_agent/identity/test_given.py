"""What the settings give, and whether there is anything to begin with."""

from pathlib import Path
from typing import Any

import pytest

from aisix_cloud_agent.identity.bundle_store import DirectoryStore
from aisix_cloud_agent.identity.given import check, read_given, read_token, renews
from aisix_common.errors import AisixError, ConfigurationError
from aisix_common.secret import Secret
from aisix_common.settings.control import Bootstrap, Managed

from tests.cloud_agent.issuing import DAY, DP, ENV, NOW, bundle

CLOUD = "https://cloud.test"
GONE: dict[str, Any] = {"cp_cert_file": "/gone", "cp_key_file": "/gone", "cp_ca_file": "/gone"}
PINNED = Bootstrap(token=Secret("canary"), ca_pin="0" * 64)


def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "mtls", tmp_path / "dp_id")


def inline(**changed: Any) -> Managed:
    given = bundle()
    texts: dict[str, Any] = {"cp_cert_pem": given.certificate, "cp_key_pem": given.key, "cp_ca_pem": given.ca}
    return Managed(cp_base_url=CLOUD, **(texts | changed))


def test_a_given_bundle_is_looked_at() -> None:
    given = read_given(inline(), NOW)
    assert given is not None
    assert (given.identity.env_id, given.identity.dp_id) == (ENV, DP)
    assert read_given(Managed(), NOW) is None


@pytest.mark.parametrize(
    ("managed", "says"),
    [
        (Managed(), "managed.cp_base_url"),
        (Managed(cp_base_url=CLOUD, cp_ca_cert_file="/gone"), "managed.cp_ca_cert_file"),
        (Managed(cp_base_url=CLOUD), "there is no certificate for the Cloud: give cp_cert_pem"),
        (inline(cp_key_pem=None), "managed.cp_key_pem: is missing"),
        (inline(cp_cert_file="/x"), "cannot be mixed"),
        (Managed(cp_base_url=CLOUD, **GONE), "managed.cp_key_file: /gone cannot be read"),
        (inline(cp_key_pem=bundle().key), "the key is not the certificate's"),
        (inline(cp_ca_pem="nothing"), "the CA is not PEM"),
        (Managed(cp_base_url=CLOUD, bootstrap=Bootstrap(token=Secret("canary"), ca_pin="x")), "bootstrap.ca_pin"),
        (Managed(cp_base_url=CLOUD, bootstrap=Bootstrap(token=Secret("canary"), ca_file="/gone")), "bootstrap.ca_file"),
    ],
)
def test_what_cannot_work_ends_the_start(tmp_path: Path, managed: Managed, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        check(managed, store(tmp_path), NOW)
    assert "canary" not in str(caught.value)
    assert not (tmp_path / "mtls").exists()


class Away(DirectoryStore):
    """A store that cannot be asked now."""

    def load(self, *_: Any) -> Any:
        raise AisixError("not reached")


def test_what_is_there_or_can_come_is_enough(tmp_path: Path) -> None:
    check(inline(), store(tmp_path), NOW)
    check(Managed(cp_base_url=CLOUD, bootstrap=PINNED), store(tmp_path), NOW)
    check(Managed(cp_base_url=CLOUD), Away(tmp_path, tmp_path / "dp_id"), NOW)
    store(tmp_path).save(bundle(), NOW, None)
    check(Managed(cp_base_url=CLOUD), store(tmp_path), NOW)
    check(Managed(cp_base_url=CLOUD), store(tmp_path), NOW + 400 * DAY)  # expired, and may be replaced
    check(inline(cp_ca_pem="nothing"), store(tmp_path), NOW)  # the kept one is good
    check(Managed(cp_base_url=CLOUD, **GONE), store(tmp_path), NOW)  # the files may come back


def test_a_token_is_read_from_text_or_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    by_file = Managed(bootstrap=Bootstrap(token_file=str(path)))
    assert read_token(Managed()) is None
    assert read_token(Managed(bootstrap=PINNED)) == Secret("canary")
    with pytest.raises(ConfigurationError, match=r"token_file: .*cannot be read"):
        read_token(by_file)
    for useless in (b" \n", b"\xff\xfe"):
        path.write_bytes(useless)
        with pytest.raises(ConfigurationError, match="holds no token"):
            read_token(by_file)
    path.write_text("t-1\n")
    assert read_token(by_file) == Secret("t-1")


@pytest.mark.parametrize(
    ("managed", "expected"),
    [
        (Managed(), False),
        (Managed(renew=True), True),
        (Managed(bootstrap=PINNED), True),
        (Managed(bootstrap=Bootstrap(ca_pin="0" * 64)), True),
    ],
)
def test_what_came_from_a_token_is_renewed(managed: Managed, expected: bool) -> None:
    assert renews(managed) is expected
