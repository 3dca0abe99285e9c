"""The schemas see what Kubernetes would refuse."""

from typing import Any

import pytest

from .object_schemas import problems

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def service(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 1}], **spec}}


@pytest.mark.parametrize("kubernetes", ["1.27", "1.37"])
def test_an_object_of_that_version_passes(kubernetes: str) -> None:
    assert problems(service(), kubernetes) == []


def test_a_field_that_does_not_exist_is_seen() -> None:
    assert "portz" in problems(service(portz=[]), "1.37")[0]


def test_a_wrong_type_is_seen() -> None:
    assert "spec.clusterIP" in problems(service(clusterIP=5), "1.37")[0]


def test_a_kind_that_is_not_known_is_a_problem() -> None:
    item = {"apiVersion": "example.com/v1", "kind": "Surprise", "metadata": {"name": "s"}}
    assert "has no Surprise" in problems(item, "1.37")[0]


def test_a_version_that_was_removed_is_a_problem() -> None:
    item = {"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget", "metadata": {"name": "s"}, "spec": {}}
    assert "has no PodDisruptionBudget" in problems(item, "1.37")[0]


def test_a_field_of_a_newer_kubernetes_is_a_problem_in_an_older_one() -> None:
    sleep = {"preStop": {"sleep": {"seconds": 5}}}
    item = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "lifecycle": sleep}]},
    }
    assert problems(item, "1.37") == []
    assert "sleep" in problems(item, "1.27")[0]


def test_objects_of_operators_are_looked_at_too() -> None:
    item = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {"name": "m"},
        "spec": {"selector": {"matchLabels": {}}, "endpoints": [{"port": "metrics", "intervall": "30s"}]},
    }
    assert "intervall" in problems(item, "1.37")[0]
