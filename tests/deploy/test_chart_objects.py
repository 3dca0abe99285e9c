"""What holds between the objects of a value set: labels and selectors, Services and ports, who scales whom, roles."""

from collections.abc import Mapping
from typing import Any, Final

import pytest

from .matrix import SETS
from .rendering import NAMESPACE, Object, Pod, Rendered, component_of, name, render, texts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EACH: Final = pytest.mark.parametrize("values", SETS)

LABELS: Final = {
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/version",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/component",
}
SELECTED_BY: Final = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}
COMPONENTS: Final = {"proxy", "admin", "cloud-agent", "etcd", "hook", "test"}

MANAGED: Final = [values for values in SETS if SETS[values].get("mode") == "managed"]


@EACH
def test_every_object_says_what_it_belongs_to(values: str) -> None:
    for item in render(SETS[values]).objects:
        labels = item["metadata"].get("labels", {})
        assert set(labels) >= LABELS - {"app.kubernetes.io/component"}, name(item)
        if item["kind"] not in ("ConfigMap", "NetworkPolicy", "PrometheusRule"):
            assert labels.get("app.kubernetes.io/component") in COMPONENTS, name(item)
        assert item["metadata"].get("namespace") == NAMESPACE, name(item)


@EACH
def test_every_pod_says_what_it_belongs_to(values: str) -> None:
    for pod in render(SETS[values]).pods():
        assert set(pod.labels) >= LABELS, pod.owner
        assert pod.component in COMPONENTS, pod.owner


def test_labels_and_annotations_of_ones_own_are_everywhere() -> None:
    for item in render(SETS["everything-on"]).objects:
        assert item["metadata"]["labels"].get("team") == "platform", name(item)
        assert item["metadata"].get("annotations", {}).get("example.com/owner") == "platform", name(item)


def selected(rendered: Rendered, selector: Mapping[str, str]) -> list[Pod]:
    return [pod for pod in rendered.pods() if selector.items() <= pod.labels.items()]


@EACH
def test_workloads_select_their_own_pods_and_no_others(values: str) -> None:
    rendered = render(SETS[values])
    for item in rendered.of("Deployment") + rendered.of("StatefulSet"):
        selector = item["spec"]["selector"]["matchLabels"]
        assert set(selector) == SELECTED_BY, name(item)
        assert [pod.owner for pod in selected(rendered, selector)] == [name(item)]


@EACH
def test_every_service_leads_to_pods_that_have_its_ports(values: str) -> None:
    rendered = render(SETS[values])
    for service in rendered.of("Service"):
        pods = selected(rendered, service["spec"]["selector"])
        assert len(pods) == 1, f"{name(service)} selects {[pod.owner for pod in pods]}"
        named = {port["name"]: port for c in pods[0].containers for port in c.get("ports", [])}
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in named, f"{name(service)}: {port['targetPort']}"


@EACH
def test_only_the_proxy_and_what_was_asked_for_is_shown_outside(values: str) -> None:
    asked = SETS[values].get("admin", {}).get("iKnowThisExposesTheAdmin", False)
    for service in render(SETS[values]).of("Service"):
        shown = service["spec"].get("type", "ClusterIP") != "ClusterIP"
        callers = component_of(service) == "proxy" and not service["metadata"]["name"].endswith("-metrics")
        admins = component_of(service) == "admin" and not service["metadata"]["name"].endswith("-metrics") and asked
        assert not shown or callers or admins, name(service)
    for route in render(SETS[values]).of("Ingress") + render(SETS[values]).of("HTTPRoute"):
        assert component_of(route) == "proxy", name(route)


@EACH
def test_routes_lead_to_services_that_are_there(values: str) -> None:
    rendered = render(SETS[values])
    for route in rendered.of("HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                assert service_has(rendered, backend["name"], backend["port"]), name(route)
    for route in rendered.of("Ingress"):
        for rule in route["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                assert service_has(rendered, backend["name"], *backend["port"].values()), name(route)


def service_has(rendered: Rendered, service: str, port: Any) -> bool:
    found = rendered.named("Service", service)
    return found is not None and any(port in (p["port"], p.get("name")) for p in found["spec"]["ports"])


@EACH
def test_budgets_and_scalers_are_for_workloads_that_are_there(values: str) -> None:
    rendered = render(SETS[values])
    for budget in rendered.of("PodDisruptionBudget"):
        assert len(selected(rendered, budget["spec"]["selector"]["matchLabels"])) == 1, name(budget)
        assert "minAvailable" not in budget["spec"], "which would hold the node of a single pod for ever"
    for scaler in rendered.of("HorizontalPodAutoscaler"):
        target = rendered.named(scaler["spec"]["scaleTargetRef"]["kind"], scaler["spec"]["scaleTargetRef"]["name"])
        assert target is not None
        assert "replicas" not in target["spec"], "the scaler and Helm would fight over the number"
        assert scaler["spec"]["behavior"]


@EACH
def test_the_proxies_stay_whole_while_they_are_replaced(values: str) -> None:
    strategy = render(SETS[values]).one("Deployment", "proxy")["spec"]["strategy"]
    assert strategy["rollingUpdate"]["maxUnavailable"] == 0


@EACH
def test_proxies_are_spread_without_being_held_up(values: str) -> None:
    spec = render(SETS[values]).one("Deployment", "proxy")["spec"]["template"]["spec"]
    wanted = [] if values == "everything-off" else ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    rules = spec.get("topologySpreadConstraints", [])
    assert [rule["topologyKey"] for rule in rules] == wanted
    for rule in rules:
        assert rule["whenUnsatisfiable"] == "ScheduleAnyway"
        assert rule["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == "proxy"


@pytest.mark.parametrize("values", MANAGED)
def test_managed_mode_has_no_admin(values: str) -> None:
    rendered = render(SETS[values])
    assert [name(item) for item in rendered.objects if component_of(item) == "admin" or "-admin" in name(item)] == []
    assert [text for item in rendered.objects for text in texts(item) if "admin_keys" in text] == []
    assert {component_of(item) for item in rendered.of("Deployment")} == {"proxy", "cloud-agent"}


def test_self_hosted_mode_has_no_agent() -> None:
    rendered = render()
    assert [name(item) for item in rendered.objects if "cloud" in name(item)] == []
    assert {component_of(item) for item in rendered.of("Deployment")} == {"proxy", "admin"}


@EACH
def test_what_pods_refer_to_is_there(values: str) -> None:
    """ConfigMaps of the release; Secrets that the values name, or that are made for the release."""
    rendered = render(SETS[values])
    given = set(texts(dict(SETS[values])))
    maps = {item["metadata"]["name"] for item in rendered.of("ConfigMap")}
    for pod in rendered.pods():
        for kind, referred in references(pod.spec):
            if kind == "configMap":
                assert referred in maps | given, f"{pod.owner}: {referred}"
            else:
                assert referred.startswith("gw-aisix-") or referred in given, f"{pod.owner}: {referred}"


def references(spec: Any) -> list[tuple[str, str]]:
    """(configMap or secret, name) of everything that a pod takes from elsewhere."""
    found = []
    if isinstance(spec, dict):
        for key, value in spec.items():
            if key in ("configMap", "configMapKeyRef", "configMapRef") and isinstance(value, dict) and "name" in value:
                found.append(("configMap", value["name"]))
            elif key in ("secret", "secretKeyRef", "secretRef") and isinstance(value, dict):
                found.append(("secret", value.get("secretName") or value["name"]))
            found += references(value)
    elif isinstance(spec, list):
        found += [reference for value in spec for reference in references(value)]
    return found


@EACH
def test_a_secret_of_the_operators_is_not_made_as_well(values: str) -> None:
    rendered = render(SETS[values])
    given = set(texts(dict(SETS[values])))
    assert [name(item) for item in rendered.of("Secret") if item["metadata"]["name"] in given] == []


@EACH
def test_nobody_has_rights_beyond_the_namespace_or_beyond_names(values: str) -> None:
    rendered = render(SETS[values])
    assert [name(item) for item in rendered.objects if item["kind"].startswith("Cluster")] == []
    for role in rendered.of("Role"):
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"], name(role)
            assert set(rule["verbs"]) <= {"get", "watch", "update", "patch", "create"}, name(role)
            if set(rule["verbs"]) - {"create"}:
                assert rule.get("resourceNames"), f"{name(role)}: {rule}"
            if "create" in rule["verbs"]:
                assert component_of(role) == "hook", name(role)


@EACH
def test_every_role_is_bound_to_an_account_that_is_there(values: str) -> None:
    rendered = render(SETS[values])
    roles = {item["metadata"]["name"] for item in rendered.of("Role")}
    accounts = {item["metadata"]["name"] for item in rendered.of("ServiceAccount")}
    bound = set()
    for binding in rendered.of("RoleBinding"):
        bound.add(binding["roleRef"]["name"])
        for subject in binding["subjects"]:
            assert subject["kind"] == "ServiceAccount"
            assert subject["name"] in accounts, name(binding)
            assert subject["namespace"] == NAMESPACE, name(binding)
    assert bound == roles


@pytest.mark.parametrize("values", MANAGED)
def test_the_agent_may_do_exactly_what_it_does(values: str) -> None:
    rendered = render(SETS[values])
    rights: dict[str, set[str]] = {}
    for rule in rendered.one("Role", "cloud-agent")["rules"]:
        for resource in rule["resources"]:
            for called in rule["resourceNames"]:
                rights.setdefault(f"{resource}/{called}", set()).update(rule["verbs"])
    assert set(rights) == {"secrets/gw-aisix-cloud", "leases/gw-aisix-cloud-agent"}
    assert rights["secrets/gw-aisix-cloud"] <= {"get", "watch", "update", "patch"}
    assert rights["leases/gw-aisix-cloud-agent"] <= {"get", "watch", "update", "patch"}
    kept = rendered.named("Secret", "gw-aisix-cloud")
    assert kept is not None
    assert kept["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert rendered.named("Lease", "gw-aisix-cloud-agent") is not None


@EACH
def test_a_very_long_name_of_the_release_fits(values: str) -> None:
    long = {**SETS[values], "fullnameOverride": "a" * 40}
    for item in render(long).objects:
        longest = 52 if item["kind"] in ("CronJob", "StatefulSet") else 63
        if item["kind"] not in ("Secret", "ConfigMap", "Role", "RoleBinding", "ServiceAccount", "NetworkPolicy"):
            assert len(item["metadata"]["name"]) <= longest, name(item)
        for text in item["metadata"].get("labels", {}).values():
            assert len(text) <= 63, name(item)


@pytest.mark.parametrize("values", ["default", "managed-bundle", "secret-managers"])
def test_a_namespace_that_yaml_reads_as_a_number_stays_a_text(values: str) -> None:
    for item in render(SETS[values], arguments=["--namespace", "1234"]).objects:
        assert item["metadata"]["namespace"] == "1234", name(item)
        for subject in item.get("subjects") or ():
            assert subject["namespace"] == "1234", name(item)
        if item["kind"] == "ServiceMonitor":
            assert item["spec"]["namespaceSelector"]["matchNames"] == ["1234"]


@EACH
def test_no_node_is_kept_from_being_drained_and_no_quorum_is_lost(values: str) -> None:
    for budget in render(SETS[values]).of("PodDisruptionBudget"):
        assert budget["spec"]["maxUnavailable"] == 1, name(budget)


@EACH
def test_hooks_are_in_their_order(values: str) -> None:
    """An account and its rights are there before the Job that has them."""
    weights = {name(item): int(hook_of(item).get("helm.sh/hook-weight", "0")) for item in hooks(render(SETS[values]))}
    jobs = [weight for called, weight in weights.items() if called.startswith("Job/")]
    others = [
        weight
        for called, weight in weights.items()
        if called.split("/")[0] in ("ServiceAccount", "Role", "RoleBinding")
    ]
    assert not jobs or not others or max(others) < min(jobs)


@EACH
def test_hooks_leave_nothing_behind(values: str) -> None:
    for item in hooks(render(SETS[values])):
        assert "before-hook-creation" in hook_of(item).get("helm.sh/hook-delete-policy", ""), name(item)


def hook_of(item: Object) -> Mapping[str, str]:
    annotations: Mapping[str, str] = item["metadata"].get("annotations") or {}
    return annotations


def hooks(rendered: Rendered) -> list[Object]:
    """Those of an installation; `helm test` has its own."""
    return [item for item in rendered.objects if "install" in hook_of(item).get("helm.sh/hook", "")]
