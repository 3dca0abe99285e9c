"""What the settings say of secret managers, as the values that the rest of this folder works with. Opens nothing."""

from collections.abc import Mapping

from aisix_common.clock import Clock
from aisix_common.outbound import Guard, open_session
from aisix_common.outbound.addresses import Reach
from aisix_common.secrets.providers import env_policy
from aisix_common.settings import Settings

from .base import Context, Make
from .cache import Timing
from .clients import Making


def timing_of(settings: Settings) -> Timing:
    """When secrets are fetched, and for how long they are used."""
    secrets = settings.secrets
    return Timing(secrets.refresh_secs, secrets.retry_secs, secrets.stale_max_secs, secrets.timeout_ms / 1000)


def making_of(settings: Settings, environ: Mapping[str, str], clock: Clock, makers: Mapping[str, Make]) -> Making:
    """How clients are made: with sessions that call no metadata address, and variables that the settings offer."""
    guard = Guard(Reach.OPERATOR, settings.upstream.metadata_hosts)
    timeout = settings.secrets.timeout_ms / 1000
    context = Context(
        open_session=lambda ca_pem: open_session(guard, ca_pem, timeout=timeout),
        environ=environ,
        clock=clock,
        timeout=timeout,
        kubernetes_allow=settings.secrets.kubernetes_allow,
        service_account_hosts=settings.secrets.service_account_hosts,
    )
    return Making(makers, context, env_policy(settings))
