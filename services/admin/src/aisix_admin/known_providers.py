"""Which secret providers there are: those in etcd, and those of config.yaml."""

from collections.abc import Sequence

from aisix_common.resources import SECRET_PROVIDERS, SecretProvider

from .facts import Pointed
from .index import ResourceIndex


class KnownProviders:
    """Asked when a reference is written. What the index says of etcd is confirmed by the store."""

    def __init__(self, index: ResourceIndex, configured: Sequence[SecretProvider]) -> None:
        self._index = index
        self._configured = frozenset(provider.identity for provider in configured)

    def names(self, manager: str) -> frozenset[str]:
        """The names of the providers of one manager."""
        known = self._configured | self._index.names(SECRET_PROVIDERS.name)
        prefix = f"{manager}/"
        return frozenset(name.removeprefix(prefix) for name in known if name.startswith(prefix))

    @property
    def configured(self) -> frozenset[Pointed]:
        """What exists whether or not a row has it."""
        return frozenset((SECRET_PROVIDERS.name, "name", name) for name in self._configured)
