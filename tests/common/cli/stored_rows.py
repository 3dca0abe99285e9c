"""A gateway's configuration with keys, and rows of it in a real etcd, for the commands on stored secrets."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aisix_common.resources import BY_NAME
from aisix_common.secrets.census import renewed
from aisix_common.secrets.envelope import Keyring, new_key
from aisix_common.secrets.keyring_files import read_keys
from aisix_common.settings.control import KeyringKey
from aisix_common.store.client import EtcdClient, EtcdOptions
from aisix_common.store.types import KeyValue

from tests.support.etcd import EtcdServer

SECRET = "sk-canary-3131"


class Stored:
    """Keys in files, a configuration for any of them, and rows written with any of them."""

    def __init__(self, folder: Path, etcd: EtcdServer, prefix: str) -> None:
        self.folder = folder
        self.etcd = etcd
        self.root = prefix
        self.canary = f"/run{prefix}/keyring"

    def client(self) -> EtcdClient:
        """A client of the etcd."""
        return EtcdClient(EtcdOptions(endpoints=(self.etcd.endpoint,)))

    def keys(self, *ids: str) -> Sequence[KeyringKey]:
        """The keys of these names, made when they are first asked for."""
        for id in ids:
            if not (self.folder / id).exists():
                (self.folder / id).write_text(new_key())
                (self.folder / id).chmod(0o600)
        return [KeyringKey(id=id, file=str(self.folder / id)) for id in ids]

    def keyring(self, *ids: str) -> Keyring:
        """The same, read."""
        return read_keys(self.keys(*ids), {}).keyring

    def config(self, *ids: str) -> str:
        """Path of a configuration with these keys."""
        path = self.folder / f"config{'-'.join(ids)}.yaml"
        document = {
            "proxy": {"addr": "127.0.0.1:0"},
            "admin": {"admin_keys": ["k"]},
            "etcd": {"endpoints": [self.etcd.endpoint], "prefix": self.root},
            "secrets": {
                "local_key_file": str(self.folder / "local"),
                "keyring": [{"id": key.id, "file": key.file} for key in self.keys(*ids)],
            },
        }
        path.write_text(json.dumps(document))
        return str(path)

    def row(self, id: str, *ids: str, kind: str = "provider_keys", **more: Any) -> tuple[str, bytes]:
        """Key and value of a row, with its secret under the first of these keys (in clear without any)."""
        document = {"display_name": id, "api_key": SECRET, **more}
        root = self.root
        if kind == "secret_providers":
            auth = {"method": "token", "token": SECRET}
            document = {"manager": "vault", "name": id, "uri": "http://127.0.0.1:1", "auth": auth, **more}
            root = f"/ext{self.root}"
        value = json.dumps(document).encode()
        if ids:
            value = renewed(BY_NAME[kind], id, value, self.keyring(*ids)) or b""
        return f"{root}/{kind}/{id}", value

    async def rows(self, client: EtcdClient) -> dict[str, KeyValue]:
        """Everything of this gateway."""
        found = [await client.range(f"{root}{self.root}/") for root in ("", "/ext", "/run")]
        return {row.key: row for each in found for row in each.rows}
