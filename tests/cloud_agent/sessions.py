"""A session with the Cloud for tests that make no call."""

from aisix_cloud_agent.identity.identity import Identity
from aisix_common.store.client import EtcdClient


class Here:
    """A session that does nothing."""

    @property
    def identity(self) -> Identity:
        raise AssertionError

    @property
    def etcd(self) -> EtcdClient:
        raise AssertionError

    async def heartbeat(self, body: bytes) -> None: ...

    async def telemetry(self, body: bytes) -> None: ...

    async def budget(self, api_key_id: str) -> bytes:
        return b""

    async def aclose(self) -> None: ...
