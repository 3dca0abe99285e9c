"""What the admin refuses to start with."""

import pytest
from msgspec.structs import replace

from aisix_admin.app import build_for, store_options
from aisix_admin.rows import LONGEST_REQUEST
from aisix_common.errors import ConfigurationError
from aisix_common.settings import Admin, Managed

from tests.support.admin import settings

SETTINGS = settings("http://127.0.0.1:2379", "/aisix")


def test_what_can_run() -> None:
    assert callable(build_for(SETTINGS, {}))


@pytest.mark.parametrize(("milliseconds", "seconds"), [(1000, 1), (60_000, LONGEST_REQUEST)])
def test_a_request_to_etcd_leaves_time_for_the_call(milliseconds: int, seconds: float) -> None:
    given = replace(SETTINGS, etcd=replace(SETTINGS.etcd, request_timeout_ms=milliseconds))
    assert store_options(given, {}).request_timeout == seconds


@pytest.mark.parametrize(
    ("broken", "path"),
    [
        (replace(SETTINGS, managed=Managed(enabled=True)), "managed.enabled"),
        (replace(SETTINGS, admin=replace(SETTINGS.admin, enabled=False)), "admin.enabled"),
        (replace(SETTINGS, admin=Admin()), "admin.admin_keys"),
    ],
)
def test_what_cannot(broken: object, path: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        build_for(broken, {})  # type: ignore[arg-type]
    assert [problem.path for problem in refused.value.problems] == [path]
