"""What holds for every pod of every value set: the restricted level, no token it was not given, requests, probes that
fit the drain, secrets that are followed."""

import re
from collections.abc import Mapping
from typing import Any, Final

import pytest

from .matrix import SETS, VERSIONS
from .pod_security import violations
from .rendering import Pod, Rendered, render
from .test_chart_settings import config_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WITH_TOKEN: Final = {"cloud-agent", "hook"}
"""Components that speak with the Kubernetes API: the agent keeps its certificate there, the hook makes Secrets."""

KUBERNETES_API: Final = "/var/run/secrets/kubernetes.io/serviceaccount"

PODS: Final = pytest.mark.parametrize("values", SETS)


def where(pod: Pod, container: Mapping[str, Any]) -> str:
    return f"{pod.owner}: {container['name']}"


@PODS
@pytest.mark.parametrize("kubernetes", VERSIONS)
def test_every_pod_keeps_the_restricted_level(values: str, kubernetes: str) -> None:
    pods = render(SETS[values], kubernetes=kubernetes).pods()
    assert len(pods) > 1
    assert {pod.owner: found for pod in pods if (found := violations(pod.spec, pod.annotations))} == {}


@PODS
def test_every_root_filesystem_is_read_only(values: str) -> None:
    for pod in render(SETS[values]).pods():
        for container in pod.containers:
            assert container["securityContext"].get("readOnlyRootFilesystem") is True, where(pod, container)
            mounts = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            assert len(set(mounts)) == len(mounts), where(pod, container)


@PODS
def test_no_pod_has_a_token_that_it_does_not_need(values: str) -> None:
    rendered = render(SETS[values])
    reads = rendered.named("Role", "gw-aisix-proxy") is not None
    allowed = WITH_TOKEN | ({"proxy"} if reads else set())
    for pod in rendered.pods():
        given = pod.spec.get("automountServiceAccountToken") is not False or tokens_of_api(pod)
        assert not given or pod.component in allowed, pod.owner
        assert "automountServiceAccountToken" in pod.spec, pod.owner


def tokens_of_api(pod: Pod) -> bool:
    """Whether a token for the Kubernetes API is projected into the pod: one without an audience of its own."""
    return any(
        "audience" not in source["serviceAccountToken"]
        for volume in pod.spec.get("volumes", [])
        for source in volume.get("projected", {}).get("sources", [])
        if "serviceAccountToken" in source
    )


@PODS
def test_tokens_that_are_projected_end_soon(values: str) -> None:
    for pod in render(SETS[values]).pods():
        for volume in pod.spec.get("volumes", []):
            for source in volume.get("projected", {}).get("sources", []):
                token = source.get("serviceAccountToken")
                assert token is None or 600 <= token.get("expirationSeconds", 3600) <= 7200, pod.owner


@PODS
def test_every_pod_has_an_account_of_the_release(values: str) -> None:
    rendered = render(SETS[values])
    accounts = {item["metadata"]["name"]: item for item in rendered.of("ServiceAccount")}
    for pod in rendered.pods():
        if pod.component == "test":
            assert "serviceAccountName" not in pod.spec, "pods of `helm test` are nobody, and have no token"
        else:
            assert pod.spec.get("serviceAccountName") in accounts, pod.owner
    assert [name for name, item in accounts.items() if item.get("automountServiceAccountToken") is not False] == []


@PODS
def test_services_of_the_namespace_are_not_put_into_the_environment(values: str) -> None:
    assert [p.owner for p in render(SETS[values]).pods() if p.spec.get("enableServiceLinks") is not False] == []


@PODS
def test_every_container_asks_for_what_it_needs(values: str) -> None:
    for pod in render(SETS[values]).pods():
        for container in pod.containers:
            resources = container.get("resources", {})
            assert {"cpu", "memory"} <= set(resources.get("requests", {})), where(pod, container)
            assert "memory" in resources.get("limits", {}), where(pod, container)


@PODS
def test_every_image_is_of_one_version(values: str) -> None:
    for pod in render(SETS[values]).pods():
        for container in pod.containers:
            assert re.search(r"(@sha256:[0-9a-f]{64}|:(?!latest$)[\w][\w.-]*)$", container["image"]), container["image"]


def test_a_digest_wins_over_the_tag() -> None:
    proxy = render(SETS["everything-on"]).one("Deployment", "proxy")
    assert "@sha256:" in proxy["spec"]["template"]["spec"]["containers"][0]["image"]


@PODS
def test_secrets_and_settings_are_mounted_whole_and_for_reading(values: str) -> None:
    """A file mounted by `subPath` never changes again."""
    for pod in render(SETS[values]).pods():
        sources = {volume["name"]: volume for volume in pod.spec.get("volumes", [])}
        for container in pod.containers:
            for mount in container.get("volumeMounts", []):
                source = sources.get(mount["name"], {})
                if {"secret", "configMap", "projected"} & set(source):
                    assert "subPath" not in mount, f"{where(pod, container)}: {mount['mountPath']}"
                    assert mount.get("readOnly") is True, f"{where(pod, container)}: {mount['mountPath']}"


@PODS
def test_every_volume_is_there_and_used(values: str) -> None:
    for item in render(SETS[values]).objects:
        claims = {claim["metadata"]["name"] for claim in item.get("spec", {}).get("volumeClaimTemplates", [])}
        for pod in [p for p in render(SETS[values]).pods() if p.owner == f"{item['kind']}/{item['metadata']['name']}"]:
            there = {volume["name"] for volume in pod.spec.get("volumes", [])} | claims
            used = {mount["name"] for container in pod.containers for mount in container.get("volumeMounts", [])}
            assert there == used, pod.owner


@PODS
def test_what_is_written_to_is_bounded(values: str) -> None:
    for pod in render(SETS[values]).pods():
        for volume in pod.spec.get("volumes", []):
            if "emptyDir" in volume:
                assert volume["emptyDir"].get("sizeLimit"), f"{pod.owner}: {volume['name']}"


LONG_LIVED: Final = ("proxy", "admin", "cloud-agent", "etcd")


def long_lived(rendered: Rendered) -> list[Pod]:
    return [pod for pod in rendered.pods() if pod.owner.startswith(("Deployment/", "StatefulSet/"))]


@PODS
def test_every_service_has_its_probes(values: str) -> None:
    for pod in long_lived(render(SETS[values])):
        for container in pod.spec["containers"]:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert "httpGet" in container.get(probe, {}), f"{where(pod, container)}: {probe}"
            ports = {port["name"] for port in container["ports"]}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert container[probe]["httpGet"]["port"] in ports, f"{where(pod, container)}: {probe}"


@PODS
def test_probes_ask_the_right_endpoints(values: str) -> None:
    for pod in long_lived(render(SETS[values])):
        container = pod.spec["containers"][0]
        liveness, readiness = (container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe"))
        if pod.component == "etcd":
            assert "serializable=true" in liveness or liveness == "/livez", "a member without a quorum is alive"
        else:
            assert (liveness, readiness) == ("/livez", "/readyz"), pod.owner


@PODS
def test_the_scheme_of_the_probes_is_that_of_the_listener(values: str) -> None:
    rendered = render(SETS[values])
    for pod in long_lived(rendered):
        if pod.component not in ("proxy", "admin"):
            continue
        tls = "tls" in config_of(rendered, pod.component).get(pod.component, {})
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            get = pod.spec["containers"][0][probe]["httpGet"]
            assert (get.get("scheme", "HTTP") == "HTTPS") is tls, f"{pod.owner}: {probe}"


@PODS
def test_a_pod_that_drains_is_not_killed_for_it(values: str) -> None:
    """`/livez` is 503 while a service drains. (Since Kubernetes 1.21 a pod that ends is not asked any more; a service
    that got a signal from elsewhere is.)"""
    rendered = render(SETS[values])
    for pod in long_lived(rendered):
        if pod.component == "etcd":
            continue
        drain = config_of(rendered, pod.component)["shutdown"]["min_drain_secs"]
        probe = pod.spec["containers"][0]["livenessProbe"]
        patience = probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)
        assert patience > drain, f"{pod.owner}: {patience} s"
        assert pod.spec["terminationGracePeriodSeconds"] > drain, pod.owner


@PODS
@pytest.mark.parametrize("kubernetes", VERSIONS)
def test_a_stream_has_the_time_to_end(values: str, kubernetes: str) -> None:
    rendered = render(SETS[values], kubernetes=kubernetes)
    pod = next(pod for pod in long_lived(rendered) if pod.component == "proxy")
    drain = config_of(rendered, "proxy")["shutdown"]["min_drain_secs"]
    longest = {"longestStreamSeconds": 300, **SETS[values].get("proxy", {}).get("drain", {})}["longestStreamSeconds"]
    assert pre_stop(pod) > 0
    assert pod.spec["terminationGracePeriodSeconds"] > pre_stop(pod) + drain + longest


@pytest.mark.parametrize("kubernetes", VERSIONS)
def test_the_drain_is_as_it_is_set(kubernetes: str) -> None:
    drain = {"preStopSeconds": 7, "minDrainSeconds": 11, "longestStreamSeconds": 1000}
    rendered = render({"proxy": {"drain": drain}}, kubernetes=kubernetes)
    pod = next(pod for pod in long_lived(rendered) if pod.component == "proxy")
    assert pre_stop(pod) == 7
    assert config_of(rendered, "proxy")["shutdown"]["min_drain_secs"] == 11
    assert pod.spec["terminationGracePeriodSeconds"] == 7 + 11 + 1000 + 10


def pre_stop(pod: Pod) -> int:
    """Seconds between the end of a pod and the signal."""
    handler = pod.spec["containers"][0]["lifecycle"]["preStop"]
    if "sleep" in handler:
        return int(handler["sleep"]["seconds"])
    found = re.search(r"sleep\((\d+)\)", " ".join(handler["exec"]["command"]))
    assert found, handler
    return int(found[1])


@PODS
def test_a_change_of_settings_restarts_the_services(values: str) -> None:
    changed = {**SETS[values], "config": {**SETS[values].get("config", {}), "upstream": {"retries": 9}}}
    before, after = (
        {pod.owner: pod.annotations.get("checksum/config") for pod in long_lived(render(v)) if pod.component != "etcd"}
        for v in (SETS[values], changed)
    )
    assert before.keys() == after.keys()
    assert [owner for owner in before if before[owner] is None or before[owner] == after[owner]] == []
