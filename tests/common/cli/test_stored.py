"""Which rows the commands look at, and with which keys."""

import json
from pathlib import Path

import pytest

from aisix_common.cli.local_key import write_key
from aisix_common.cli.stored import SHOWN, all_rows, keyring_of, named, settings_of
from aisix_common.errors import ConfigurationError

from tests.common.cli.stored_rows import Stored
from tests.support.etcd import EtcdServer


async def test_resources_of_both_roots(tmp_path: Path, etcd: EtcdServer, etcd_prefix: str) -> None:
    stored = Stored(tmp_path, etcd, etcd_prefix)
    settings = settings_of(stored.config("k1"), {})
    async with stored.client() as client:
        for key, value in (stored.row("a/b"), stored.row("v", kind="secret_providers")):
            await client.put(key, value)
        for key in ("made_up/x", "provider_keys/", "secret_providers/v"):
            await client.put(f"{etcd_prefix}/{key}", b"{}")
        await client.put(f"{etcd_prefix}x/provider_keys/y", b"{}")
        found = await all_rows(client, settings.etcd)
    assert [(row.kind.name, row.id) for row in found.rows] == [("provider_keys", "a/b"), ("secret_providers", "v")]
    assert found.foreign == 3


def test_the_key_that_aisix_made_is_found(tmp_path: Path, etcd: EtcdServer, etcd_prefix: str) -> None:
    stored = Stored(tmp_path, etcd, etcd_prefix)
    settings = settings_of(stored.config(), {})
    assert not keyring_of(settings, {})
    write_key(tmp_path / "local")
    assert keyring_of(settings, {}).ids == ("local",)
    assert keyring_of(settings_of(stored.config("k2", "k1"), {}), {}).ids == ("k2", "k1")


def test_a_resources_file_is_not_etcd(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    document = {"proxy": {"addr": "127.0.0.1:0"}, "admin": {"admin_keys": ["k"]}, "resources_file": "r.yaml"}
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigurationError, match="resources come from a file"):
        settings_of(str(path), {})


def test_not_all_rows_are_named() -> None:
    assert named("x", {}) == []
    lines = named("are odd", {f"/r/{number}": "why" for number in range(SHOWN + 5)})
    assert (lines[0], lines[1], lines[-1], len(lines)) == ("25 row(s) are odd:", "  /r/0: why", "  ... and 5 more", 22)
