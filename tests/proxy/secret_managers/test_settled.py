"""Settings as values, and sessions that hold to the address rules."""

import pytest

from aisix_common.clock import SYSTEM_CLOCK
from aisix_common.settings.control import Secrets
from aisix_proxy.secret_managers.cache import Timing
from aisix_proxy.secret_managers.settled import making_of, timing_of

from tests.support.builders import settings_of

SECRETS = Secrets(
    refresh_secs=100, retry_secs=4, stale_max_secs=300, timeout_ms=1500, kubernetes_allow=("a/b",), env_allow=("MY_*",)
)


def test_values() -> None:
    settings = settings_of(secrets=SECRETS)
    assert timing_of(settings) == Timing(refresh=100, retry=4, stale_max=300, timeout=1.5)
    made = making_of(settings, {"MY_KEY": "s"}, SYSTEM_CLOCK, {})
    assert (made.context.timeout, made.context.kubernetes_allow, made.context.environ) == (
        1.5,
        ("a/b",),
        {"MY_KEY": "s"},
    )
    assert made.environment.refusal("MY_KEY") is None
    assert made.environment.refusal("AISIX_SECRET_KEY") is not None


async def test_no_session_calls_a_metadata_address() -> None:
    made = making_of(settings_of(secrets=SECRETS), {}, SYSTEM_CLOCK, {})
    async with made.context.open_session(None) as session:
        with pytest.raises(OSError, match=r"upstream\.metadata_hosts"):
            await session.get("http://169.254.169.254/", allow_redirects=False)
