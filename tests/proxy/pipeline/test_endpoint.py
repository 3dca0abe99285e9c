"""The endpoints as descriptions: each says enough to be served, counted and answered."""

from aisix_proxy.endpoints import ENDPOINTS
from aisix_proxy.pipeline.stages.open_account import open_account


def test_no_two_endpoints_answer_the_same_call() -> None:
    assert len({(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}) == len(ENDPOINTS)


def test_what_costs_is_accounted_for() -> None:
    for endpoint in ENDPOINTS:
        assert endpoint.path.startswith("/")
        if endpoint.operation is not None or endpoint.path.startswith("/v1/"):
            assert endpoint.stages[0] is open_account
