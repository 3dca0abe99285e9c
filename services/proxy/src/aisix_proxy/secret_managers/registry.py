"""The managers there are. Adding one: a Struct in `secret_providers`, a module here, and a line."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from .aws import AwsClient
from .azure import AzureClient
from .base import Make
from .gcp import GcpClient
from .kubernetes import KubernetesClient
from .vault import VaultClient

MAKERS: Final[Mapping[str, Make]] = MappingProxyType(
    {
        "vault": VaultClient,
        "aws": AwsClient,
        "azure": AzureClient,
        "gcp": GcpClient,
        "kubernetes": KubernetesClient,
    }
)
"""By the manager's name."""
