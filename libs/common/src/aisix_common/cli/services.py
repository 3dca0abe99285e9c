"""Which services make up a gateway on one machine, and what each is told besides the configuration file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from aisix_common.settings import Settings


def _always(settings: Settings) -> bool:
    return True


def _where_admin_binds(settings: Settings) -> bool:
    return settings.admin_binds


@dataclass(frozen=True, slots=True)
class Service:
    """A package that runs with `python -m <module> --config FILE`."""

    name: str
    module: str
    wanted: Callable[[Settings], bool] = _always
    environ: Mapping[str, str] = field(default_factory=dict)
    """Settings that differ for a service started by `aisix`, as environment variables."""


SERVICES: Final = (
    Service("proxy", "aisix_proxy"),
    # One machine has one metrics page that people look at, the proxy's; a second open port would only surprise.
    Service("admin", "aisix_admin", _where_admin_binds, {"AISIX_ADMIN__METRICS_ADDR": ""}),
)
