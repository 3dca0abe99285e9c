"""What the chart brings for Prometheus and Grafana is about metrics that exist, and says what to do."""

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from aisix_common.metrics.process import ProcessMetrics
from aisix_proxy.telemetry.proxy_metrics import outcome_of

from . import promtool
from .rendering import CHART, NAMESPACE, RELEASE, Rendered, render
from .test_chart_network import MANAGED
from .tools import ROOT, Unavailable
from tests.house import metrics_reference
from tests.support.etcd import EtcdServer

pytestmark = pytest.mark.slow

ON: Final = {
    "metrics": {
        "serviceMonitor": {"enabled": True, "interval": "15s", "labels": {"release": "prometheus"}},
        "rules": {"enabled": True, "labels": {"role": "alerts"}, "runbookUrl": ""},
        "dashboard": {"enabled": True},
    }
}
MODES: Final[Mapping[str, Mapping[str, Any]]] = {"selfHosted": ON, "managed": {**MANAGED, **ON}}
TARGET_LABELS: Final = frozenset({"namespace", "pod", "le", "instance", "job", "service"})
"""What a scrape adds, and the bound of a bucket."""
NAMES: Final = sorted(
    name for file in (CHART / "files/rules").glob("*.yaml") for name in re.findall(r"- alert: (\w+)", file.read_text())
)
GUIDE: Final = (ROOT / "docs/guides/monitoring.md").read_text()
DASHBOARD: Final[Any] = json.loads((CHART / "files/dashboard.json").read_text())


@cache
def both(mode: str) -> Rendered:
    return render(MODES[mode])


def rules(rendered: Rendered) -> list[dict[str, Any]]:
    return [
        rule for item in rendered.of("PrometheusRule") for group in item["spec"]["groups"] for rule in group["rules"]
    ]


@cache
def alerts() -> dict[str, dict[str, Any]]:
    """Of both modes, by name."""
    return {rule["alert"]: rule for mode in MODES for rule in rules(both(mode)) if "alert" in rule}


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    """Everything that is asked of Prometheus, and where."""
    for mode in MODES:
        for rule in rules(both(mode)):
            yield rule.get("alert") or rule["record"], rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]


@cache
def labels_of(etcd_page: str) -> Mapping[str, tuple[str, frozenset[str]]]:
    """Kind and labels of every metric there is, by the names it has in Prometheus."""
    families = [
        *metrics_reference.proxy_families(),
        *metrics_reference.admin_families(),
        *metrics_reference.agent_families(),
        *ProcessMetrics().collect(),
    ]
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for family in families:
        kind, labels = found.get(family.name, (family.kind, frozenset()))
        found[family.name] = kind, labels | set(family.labels)
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", etcd_page, re.M):
        found.setdefault(name, (kind, frozenset()))
    return found


def selectors(expression: str) -> Iterator[tuple[str, Sequence[str]]]:
    """The metrics an expression reads, with the labels it selects by."""
    for name, matchers in re.findall(r"\b((?:aisix|process|etcd)_\w+)\b(?:\{([^}]*)\})?", expression):
        yield name, re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)


def family_of(name: str, known: Mapping[str, tuple[str, frozenset[str]]]) -> str:
    """The metric that a series is part of."""
    for suffix, kinds in (("_bucket", "histogram"), ("_sum", "histogram summary"), ("_count", "histogram summary")):
        base = name.removesuffix(suffix)
        if base != name and base in known and known[base][0] in kinds:
            return base
    return name


@pytest.fixture(scope="module")
def known(etcd: EtcdServer) -> Mapping[str, tuple[str, frozenset[str]]]:
    """With those of a real etcd."""
    with urllib.request.urlopen(f"{etcd.endpoint}/metrics") as page:
        return labels_of(page.read().decode())


def test_every_metric_and_label_exists(known: Mapping[str, tuple[str, frozenset[str]]]) -> None:
    reference = (ROOT / "docs/reference/metrics.md").read_text()
    complaints = []
    for where, expression in expressions():
        grouped = {
            label.strip()
            for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression)
            for label in labels.split(",")
        }
        there: set[str] = set(TARGET_LABELS)
        read = [(family_of(name, known), labels) for name, labels in selectors(expression)]
        for family, labels in read:
            if family not in known:
                complaints.append(f"{where}: no metric {family}")
                continue
            own = known[family][1] | TARGET_LABELS
            there |= own
            complaints += [f"{where}: {family} has no label {label}" for label in labels if label not in own]
            if family.startswith("aisix_"):
                assert f"`{family}`" in reference, family
        if read:
            complaints += [f"{where}: grouped by {label}" for label in grouped if label not in there]
    assert complaints == []


def test_values_of_labels_are_those_of_the_code() -> None:
    assert outcome_of(500) == outcome_of(599) == "upstream_error"
    text = "\n".join(expression for _, expression in expressions())
    assert set(re.findall(r'outcome="(\w+)"', text)) == {"upstream_error"}
    assert set(re.findall(r'state="(\w+)"', text)) == {"failed", "stale"}


def test_recorded_series_are_recorded_and_used() -> None:
    recorded = {rule["record"] for rule in rules(both("managed")) if "record" in rule}
    named = set(re.findall(r"aisix:\w+:\w+", "\n".join(expression for _, expression in expressions())))
    assert named <= recorded
    assert recorded <= named | set(re.findall(r"aisix:\w+:\w+", GUIDE)), "a series that nobody is told of"


@pytest.mark.parametrize("mode", MODES)
def test_every_metrics_listener_has_a_monitor_that_finds_one_port(mode: str) -> None:
    rendered = both(mode)
    components = {"proxy", "etcd", "admin" if mode == "selfHosted" else "cloud-agent"}
    monitors = {
        item["metadata"]["labels"]["app.kubernetes.io/component"]: item for item in rendered.of("ServiceMonitor")
    }
    assert set(monitors) == components
    for component, monitor in monitors.items():
        spec = monitor["spec"]
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        wanted = spec["selector"]["matchLabels"]
        services = [
            service
            for service in rendered.of("Service")
            if wanted.items() <= service["metadata"]["labels"].items()
            and any(port["name"] == "metrics" for port in service["spec"]["ports"])
        ]
        assert len(services) == 1, f"{component}: {[item['metadata']['name'] for item in services]}"
        assert spec["namespaceSelector"] == {"matchNames": [NAMESPACE]}
        assert [(end["port"], end["path"], end["interval"]) for end in spec["endpoints"]] == [
            ("metrics", "/metrics", "15s")
        ]
        assert {"action": "labeldrop", "regex": "endpoint"} in spec["endpoints"][0]["relabelings"]


def test_a_proxy_without_metrics_or_with_another_path_is_followed() -> None:
    elsewhere = {"observability": {"metrics": {"prometheus": {"path": "/m"}}}}
    monitor = render({**ON, "config": elsewhere}).one("ServiceMonitor", "proxy")
    assert monitor["spec"]["endpoints"][0]["path"] == "/m"
    off = {"observability": {"metrics": {"prometheus": {"enabled": False}}}}
    monitors = render({**ON, "config": off}).of("ServiceMonitor")
    assert [item["metadata"]["name"] for item in monitors] == [f"{RELEASE}-aisix-admin", f"{RELEASE}-aisix-etcd"]


@pytest.mark.parametrize("mode", MODES)
def test_pods_are_annotated_for_plain_prometheus(mode: str) -> None:
    ports = {"proxy": "9090", "admin": "9091", "cloud-agent": "9092", "etcd": "2381"}
    scraped = {
        pod.component: pod.annotations.get("prometheus.io/port")
        for pod in render(MODES[mode]).pods()
        if pod.annotations.get("prometheus.io/scrape") == "true"
    }
    assert scraped == {component: ports[component] for component in scraped}
    assert {"proxy", "etcd", "admin" if mode == "selfHosted" else "cloud-agent"} == set(scraped)


def test_nothing_is_made_unasked() -> None:
    kinds = {item["kind"] for item in render().objects}
    assert not kinds & {"ServiceMonitor", "PrometheusRule"}
    assert not [item for item in render().of("ConfigMap") if item["metadata"]["name"].endswith("-dashboard")]


def test_rules_are_of_what_there_is() -> None:
    external = {"etcd": {"mode": "external", "external": {"endpoints": ["https://etcd.example:2379"]}}}
    names = {rule.get("alert", "") for rule in rules(render({**ON, **external}))}
    assert "AisixAdminErrors" in names
    assert not [name for name in names if name.startswith("AisixCloud") or name == "AisixEtcdFull"]
    names = {rule.get("alert", "") for rule in rules(both("managed"))}
    assert {"AisixCloudAway", "AisixEtcdFull"} <= names
    assert "AisixAdminErrors" not in names


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_says_what_to_do(name: str) -> None:
    alert = alerts()[name]
    told = alert["annotations"]
    assert set(told) == {"summary", "description", "runbook", "runbook_url"}
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert alert["labels"].get("namespace", NAMESPACE) == NAMESPACE
    assert len(told["summary"]) < 80
    page, anchor = re.findall(r"docs/(\S+\.md)#(\S+)$", told["runbook"])[0]
    assert anchor in anchors((ROOT / "docs" / page).read_text()), told["runbook"]
    url, _, section = told["runbook_url"].partition("#")
    assert url.endswith("/docs/guides/monitoring.md")
    assert section in anchors(GUIDE), f"docs/guides/monitoring.md says nothing of {section}"
    assert name in GUIDE
    assert not re.search(r"RUNBOOKS|RELEASE_NAMESPACE", json.dumps(alert))


def anchors(page: str) -> set[str]:
    """Of a Markdown page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_guide_knows_no_alert_that_does_not_exist() -> None:
    assert set(re.findall(r"\bAisix[A-Z]\w+", GUIDE)) <= set(alerts())


def test_runbooks_may_be_elsewhere() -> None:
    values = {"metrics": {"rules": {"enabled": True, "runbookUrl": "https://wiki.example/aisix"}}}
    found = {rule["annotations"]["runbook_url"] for rule in rules(render(values)) if "alert" in rule}
    assert "https://wiki.example/aisix#aisixetcdaway" in found
    assert all(url.startswith("https://wiki.example/aisix#") for url in found)


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    assert DASHBOARD["schemaVersion"] == 38, "of Grafana 10"
    assert DASHBOARD["id"] is None
    titles = [panel["title"] for panel in DASHBOARD["panels"]]
    assert len(set(titles)) == len(titles)
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows[:6] == [
        "Traffic",
        "Latency",
        "Tokens and cost",
        "Providers",
        "Configuration",
        "Managed from AISIX Cloud",
    ]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    assert {panel["type"] for panel in panels()} <= {"timeseries", "stat", "bargauge"}, "no plugin, nothing deprecated"
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, f"{panel['title']} lies over another"
        taken |= cells
    for panel in panels():
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]
            assert 'namespace="$namespace"' in target["expr"], panel["title"]
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(DASHBOARD))) <= variables


def test_the_dashboard_arrives_as_it_is() -> None:
    found = render(ON).named("ConfigMap", f"{RELEASE}-aisix-dashboard")
    assert found is not None
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(found["data"][f"{RELEASE}-aisix-dashboard.json"]) == DASHBOARD


def prometheus(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        tool = promtool.path()
    except Unavailable as missing:
        pytest.skip(f"rules are not read by Prometheus itself: {missing}")
    return subprocess.run([str(tool), *arguments], capture_output=True, text=True, timeout=50, check=False)


def as_file(mode: str, folder: Path) -> Path:
    groups = [group for item in both(mode).of("PrometheusRule") for group in item["spec"]["groups"]]
    file = folder / f"{mode}.yaml"
    file.write_text(yaml.safe_dump({"groups": groups}))
    return file


@pytest.mark.parametrize("mode", MODES)
def test_prometheus_reads_the_rules(mode: str, tmp_path: Path) -> None:
    done = prometheus("check", "rules", "--lint=all", "--lint-fatal", str(as_file(mode, tmp_path)))
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_reads_the_panels(tmp_path: Path) -> None:
    variables = {"$__rate_interval": "5m", "$__range": "3h", "$namespace": NAMESPACE, "$model": ".*", "$pod": ".*"}
    read = []
    for panel in panels():
        for number, target in enumerate(panel["targets"]):
            expression = target["expr"]
            for name, value in variables.items():
                expression = expression.replace(name, value)
            read.append({"record": f"panel:{panel['id']}_{number}", "expr": expression})
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": read}]}))
    done = prometheus("check", "rules", "--lint=all", "--lint-fatal", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


TARGET: Final = f'namespace="{NAMESPACE}", pod="gw-aisix-proxy-1"'
HEALTHY: Final[Mapping[str, str]] = {
    f"aisix_config_last_reload_successful{{{TARGET}}}": "1x120",
    f"aisix_config_source_connected{{{TARGET}}}": "1x120",
    f'aisix_config_rejected_resources{{{TARGET}, kind="models"}}': "0x120",
    f'aisix_config_hash_info{{{TARGET}, hash="a"}}': "1x120",
    f'aisix_llm_requests_total{{{TARGET}, outcome="success"}}': "0+600x120",
    f'aisix_llm_requests_total{{{TARGET}, outcome="upstream_error"}}': "0+6x120",
    f"process_start_time_seconds{{{TARGET}}}": "1700000000x120",
    f'aisix_usage_event_drops_total{{{TARGET}, reason="expired"}}': "0x120",
    f'aisix_admin_store_writes_total{{namespace="{NAMESPACE}", pod="gw-aisix-admin-1", outcome="committed"}}': "0x120",
    f'aisix_cloud_leading{{namespace="{NAMESPACE}", pod="gw-aisix-cloud-agent-1"}}': "1x120",
    f'aisix_cloud_leading{{namespace="{NAMESPACE}", pod="gw-aisix-cloud-agent-2"}}': "0x120",
    f'aisix_cloud_connected{{namespace="{NAMESPACE}", pod="gw-aisix-cloud-agent-1"}}': "1x120",
    f'aisix_cloud_connected{{namespace="{NAMESPACE}", pod="gw-aisix-cloud-agent-2"}}': "0x120",
    f'aisix_cloud_certificate_alarm{{namespace="{NAMESPACE}", pod="gw-aisix-cloud-agent-1"}}': "0x120",
    f'aisix_cloud_projection_held{{namespace="{NAMESPACE}", pod="gw-aisix-cloud-agent-1", alarm="shrink"}}': "0x120",
    f'etcd_server_has_leader{{namespace="{NAMESPACE}", pod="gw-aisix-etcd-0"}}': "1x120",
    f'etcd_mvcc_db_total_size_in_bytes{{namespace="{NAMESPACE}", pod="gw-aisix-etcd-0"}}': "100x120",
    f'etcd_server_quota_backend_bytes{{namespace="{NAMESPACE}", pod="gw-aisix-etcd-0"}}': "2000x120",
}
"""A value each minute, for two hours."""

TROUBLE: Final[Sequence[tuple[str, str, Mapping[str, str | None], set[str]]]] = [
    ("nothing", "managed", {}, set()),
    ("nothing", "selfHosted", {}, set()),
    ("no proxy", "selfHosted", {"aisix_config_last_reload_successful": None}, {"AisixProxyAbsent"}),
    ("etcd is away", "selfHosted", {"aisix_config_source_connected": "1x10 0x110"}, {"AisixEtcdAway"}),
    ("etcd was away", "selfHosted", {"aisix_config_source_connected": "1x10 0x20 1x90"}, set()),
    ("a bad row", "selfHosted", {"aisix_config_rejected_resources": "2x120"}, {"AisixConfigRejected"}),
    (
        "half of the requests fail",
        "selfHosted",
        {"aisix_llm_requests_total{upstream_error}": "0+600x120"},
        {"AisixErrorRate", "AisixErrorRateHigh"},
    ),
    (
        "a tenth of the requests fail",
        "selfHosted",
        {"aisix_llm_requests_total{upstream_error}": "0+66x120"},
        {"AisixErrorRate"},
    ),
    ("restarts", "selfHosted", {"process_start_time_seconds": "1x80 2x10 3x10 4x20"}, {"AisixRestarting"}),
    ("no admin", "selfHosted", {"aisix_admin_store_writes_total": None}, {"AisixAdminAbsent"}),
    ("usage is lost", "managed", {"aisix_usage_event_drops_total": "0x110 100x10"}, {"AisixUsageEventsLost"}),
    ("no leader", "managed", {"aisix_cloud_leading": "0x120"}, {"AisixCloudNoLeader"}),
    ("no Cloud", "managed", {"aisix_cloud_connected": "0x120"}, {"AisixCloudAway"}),
    ("the certificate ends soon", "managed", {"aisix_cloud_certificate_alarm": "1x120"}, {"AisixCloudCertificateSoon"}),
    ("it has ended", "managed", {"aisix_cloud_certificate_alarm": "3x120"}, {"AisixCloudCertificateUrgent"}),
    ("a suspicious list", "managed", {"aisix_cloud_projection_held": "1x120"}, {"AisixCloudProjectionHeld"}),
    ("etcd is full", "managed", {"etcd_mvcc_db_total_size_in_bytes": "1500x120"}, {"AisixEtcdFull"}),
    ("etcd has no leader", "managed", {"etcd_server_has_leader": "0x120"}, {"AisixEtcdNoLeader"}),
]


def changed(changes: Mapping[str, str | None]) -> list[dict[str, str]]:
    """The healthy series but for those that begin with these names, or `name{part of the labels}`."""
    series = []
    for name, values in HEALTHY.items():
        for wanted, others in changes.items():
            metric, _, part = wanted.partition("{")
            if name.startswith(metric + "{") and part.rstrip("}") in name:
                series += [{"series": name, "values": others}] if others is not None else []
                break
        else:
            series.append({"series": name, "values": values})
    return series


@pytest.mark.parametrize("mode", MODES)
def test_what_fires_when(mode: str, tmp_path: Path) -> None:
    """Prometheus' own engine on two hours of numbers: the alerts of each trouble, and no others."""
    tests = []
    for what, of_mode, changes, firing in TROUBLE:
        if of_mode == mode:
            asked = {
                "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": "119m",
                "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(firing)],
            }
            tests.append(
                {"name": what, "interval": "1m", "input_series": changed(changes), "promql_expr_test": [asked]}
            )
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(as_file(mode, tmp_path))], "tests": tests}))
    done = prometheus("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
