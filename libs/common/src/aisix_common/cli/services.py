"""Which services make up a gateway on one machine, and what each is told besides the configuration file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from aisix_common.settings import Settings


def _always(settings: Settings) -> bool:
    return True


def _where_admin_binds(settings: Settings) -> bool:
    return settings.admin_binds


def _where_managed(settings: Settings) -> bool:
    return settings.managed.enabled


@dataclass(frozen=True, slots=True)
class Service:
    """A package that runs with `python -m <module> --config FILE`."""

    name: str
    module: str
    wanted: Callable[[Settings], bool] = _always
    environ: Mapping[str, str] = field(default_factory=dict)
    """Settings that differ for a service started by `aisix`, as environment variables."""
    restarts: bool = False
    """Whether it is started again when it ends, instead of ending the gateway."""


_NO_CLOUD_SECRETS: Final = MappingProxyType({"AISIX_MANAGED__CP_KEY_PEM": "", "AISIX_MANAGED__BOOTSTRAP__TOKEN": ""})
"""Blank, not merely left out: so the configuration file's do not count either."""

SERVICES: Final = (
    Service("proxy", "aisix_proxy", environ=_NO_CLOUD_SECRETS),
    # One machine has one metrics page that people look at, the proxy's; a second open port would only surprise.
    Service("admin", "aisix_admin", _where_admin_binds, {**_NO_CLOUD_SECRETS, "AISIX_ADMIN__METRICS_ADDR": ""}),
    # The gateway serves without it; what it brings from the Cloud stays in etcd.
    Service("cloud-agent", "aisix_cloud_agent", _where_managed, restarts=True),
)
