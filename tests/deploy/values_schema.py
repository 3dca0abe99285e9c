"""`values.schema.json`, made from values.yaml: its keys, defaults and comments, and what is said here of their shapes.

    python -m tests.deploy.values_schema > deploy/helm/aisix/values.schema.json

A key is in the schema because it is in values.yaml, and described as it is there, so that the two cannot part. Types
follow from the defaults; `SHAPES` says what a default cannot: lists, maps, enums, patterns, bounds, examples.
Everything is closed but `config` (the services check that themselves), `global` (which belongs to parent charts) and
labels and annotations. Draft 7, which both Helm 3 and Helm 4 read.
"""

import json
import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

from .readme import Value, read_values

Schema = dict[str, Any]


def closed(required: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    """A map with just these keys."""
    schema: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    return {**schema, "required": list(required)} if required else schema


def ref(definition: str) -> Schema:
    return {"$ref": f"#/definitions/{definition}"}


def many(item: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": item, **more}


def text(pattern: str = "", **more: Any) -> Schema:
    return {"type": "string", **({"pattern": pattern} if pattern else {}), **more}


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def whole(lowest: int, highest: int = 2**31 - 1, **more: Any) -> Schema:
    return {"type": "integer", "minimum": lowest, "maximum": highest, **more}


TEXT: Final = text()
FLAG: Final[Schema] = {"type": "boolean"}
PORT: Final = whole(1, 65535)
DNS_LABEL: Final = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
OBJECT_NAME: Final = rf"[a-z0-9]([-a-z0-9]{{0,61}}[a-z0-9])?(\.{DNS_LABEL})*"
LABEL_NAME: Final = r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
SECRET_KEY: Final = "[-._a-zA-Z0-9]{1,253}"
NAMED: Final = text(f"^{OBJECT_NAME}$", maxLength=253)
NAMED_OR_NONE: Final = text(f"^({OBJECT_NAME})?$", maxLength=253)
IMAGE: Final = r"[a-z0-9]+([._-]+[a-z0-9]+)*(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
TAG: Final = "[A-Za-z0-9_][-A-Za-z0-9_.]{0,127}"
HOST: Final = text(r"^(\*\.)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", maxLength=253)
GATEWAY_DURATION: Final = text("^([0-9]{1,5}(h|m|s|ms)){1,4}$")
QUEUE_METRIC: Final = {
    "type": "Pods",
    "pods": {"metric": {"name": "requests"}, "target": {"type": "AverageValue", "averageValue": "30"}},
}
CRON: Final = r"^(@(hourly|daily|weekly|monthly|yearly|annually|midnight)|([-*/,0-9A-Za-z]+ ){4}[-*/,0-9A-Za-z]+)$"

DEFINITIONS: Final[Mapping[str, Schema]] = {
    "labels": {
        "type": "object",
        "propertyNames": {"pattern": f"^{LABEL_NAME}$"},
        "additionalProperties": text("^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"),
    },
    "annotations": {
        "type": "object",
        "propertyNames": {"pattern": f"^{LABEL_NAME}$"},
        "additionalProperties": TEXT,
    },
    "quantity": {
        "anyOf": [text(r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$"), {"type": "number", "minimum": 0}],
    },
    "quantities": {"type": "object", "additionalProperties": ref("quantity")},
    "resources": closed(requests=ref("quantities"), limits=ref("quantities")),
    "requirement": closed(
        ("key", "operator"),
        key=TEXT,
        operator={"enum": ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]},
        values=many(TEXT),
    ),
    "selector": closed(matchLabels=ref("labels"), matchExpressions=many(ref("requirement"))),
    "peer": {
        **closed(
            namespaceSelector=ref("selector"),
            podSelector=ref("selector"),
            ipBlock=closed(
                ("cidr",),
                cidr=text(r"^[0-9a-fA-F.:]+/[0-9]{1,3}$"),
                **{"except": many(text(r"^[0-9a-fA-F.:]+/[0-9]{1,3}$"))},
            ),
        ),
        "minProperties": 1,
    },
    "toleration": closed(
        key=TEXT,
        operator={"enum": ["Exists", "Equal"]},
        value=TEXT,
        effect={"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
        tolerationSeconds={"type": "integer"},
    ),
    "nodeTerm": closed(
        matchExpressions=many(ref("requirement")),
        matchFields=many(ref("requirement")),
    ),
    "podTerm": closed(
        ("topologyKey",),
        topologyKey=TEXT,
        labelSelector=ref("selector"),
        namespaceSelector=ref("selector"),
        namespaces=many(TEXT),
        matchLabelKeys=many(TEXT),
        mismatchLabelKeys=many(TEXT),
    ),
    "podTerms": closed(
        requiredDuringSchedulingIgnoredDuringExecution=many(ref("podTerm")),
        preferredDuringSchedulingIgnoredDuringExecution=many(
            closed(("weight", "podAffinityTerm"), weight=whole(1, 100), podAffinityTerm=ref("podTerm"))
        ),
    ),
    "affinity": closed(
        nodeAffinity=closed(
            requiredDuringSchedulingIgnoredDuringExecution=closed(
                ("nodeSelectorTerms",), nodeSelectorTerms=many(ref("nodeTerm"))
            ),
            preferredDuringSchedulingIgnoredDuringExecution=many(
                closed(("weight", "preference"), weight=whole(1, 100), preference=ref("nodeTerm"))
            ),
        ),
        podAffinity=ref("podTerms"),
        podAntiAffinity=ref("podTerms"),
    ),
    "spread": closed(
        ("maxSkew", "topologyKey", "whenUnsatisfiable"),
        maxSkew=whole(1),
        topologyKey=TEXT,
        whenUnsatisfiable={"enum": ["ScheduleAnyway", "DoNotSchedule"]},
        minDomains=whole(1),
        nodeAffinityPolicy={"enum": ["Honor", "Ignore"]},
        nodeTaintsPolicy={"enum": ["Honor", "Ignore"]},
        matchLabelKeys=many(TEXT),
    ),
    "env": {
        **closed(
            ("name",),
            name=text("^[A-Za-z_][A-Za-z0-9_]*$"),
            value=TEXT,
            valueFrom={
                **closed(
                    secretKeyRef=closed(("name", "key"), name=NAMED, key=text(f"^{SECRET_KEY}$"), optional=FLAG),
                    configMapKeyRef=closed(("name", "key"), name=NAMED, key=text(f"^{SECRET_KEY}$"), optional=FLAG),
                    fieldRef=closed(("fieldPath",), fieldPath=TEXT, apiVersion=TEXT),
                    resourceFieldRef=closed(("resource",), resource=TEXT, containerName=TEXT, divisor=ref("quantity")),
                ),
                "minProperties": 1,
                "maxProperties": 1,
            },
        ),
        "not": {"required": ["value", "valueFrom"]},
    },
    "volume": {
        **closed(
            ("name",),
            name=text(f"^{DNS_LABEL}$"),
            **{
                kind: {"type": "object"}
                for kind in (
                    "configMap",
                    "csi",
                    "downwardAPI",
                    "emptyDir",
                    "ephemeral",
                    "persistentVolumeClaim",
                    "projected",
                    "secret",
                )
            },
        ),
        "minProperties": 2,
        "maxProperties": 2,
    },
    "mount": closed(
        ("name", "mountPath"),
        name=text(f"^{DNS_LABEL}$"),
        mountPath=text("^/"),
        subPath=TEXT,
        readOnly=FLAG,
    ),
    "ingressHost": closed(
        host=HOST,
        paths=many(
            closed(("path",), path=text("^/"), pathType={"enum": ["Prefix", "Exact", "ImplementationSpecific"]}),
        ),
    ),
    "issuer": closed(name=TEXT, kind={"enum": ["Issuer", "ClusterIssuer"]}, group=TEXT),
    "scaling": closed(
        stabilizationWindowSeconds=whole(0, 3600),
        selectPolicy={"enum": ["Max", "Min", "Disabled"]},
        policies=many(
            closed(
                ("type", "value", "periodSeconds"),
                type={"enum": ["Pods", "Percent"]},
                value=whole(1),
                periodSeconds=whole(1, 1800),
            ),
        ),
    ),
    "disruptions": {"anyOf": [whole(1), text("^(100|[1-9][0-9]?)%$")]},
}

SHAPES: Final[tuple[tuple[str, Schema], ...]] = (
    ("mode", {"enum": ["selfHosted", "managed"]}),
    ("config", {"type": "object", "examples": [{"upstream": {"retries": 2}}]}),
    ("nameOverride", text(f"^({DNS_LABEL})?$", maxLength=53)),
    ("fullnameOverride", text("^([a-z]([-a-z0-9]*[a-z0-9])?)?$", maxLength=40)),
    ("*abels", ref("labels")),
    ("*nnotations", ref("annotations")),
    ("image.repository", text(f"^{IMAGE}$", examples=["ghcr.io/aisix"])),
    ("*.image.repository", text(f"^({IMAGE})?$", examples=["registry.example.com/aisix-proxy"])),
    ("*mage.tag", text(f"^({TAG})?$")),
    ("*.image.digest", text("^(sha256:[0-9a-f]{64})?$")),
    ("image.pullPolicy", {"enum": ["IfNotPresent", "Always", "Never"]}),
    ("image.pullSecrets", many({"anyOf": [NAMED, closed(("name",), name=NAMED)]}, examples=[["registry"]])),
    ("*.resources", ref("resources")),
    ("*.nodeSelector", ref("labels")),
    ("*.tolerations", many(ref("toleration"))),
    ("*.affinity", ref("affinity")),
    ("*.topologySpreadConstraints", many(ref("spread"))),
    ("*.priorityClassName", NAMED_OR_NONE),
    ("bindAddress", {"enum": ["0.0.0.0", "[::]"]}),
    ("securityContext", closed(runAsUser=or_null(whole(1)), runAsGroup=or_null(whole(1)), fsGroup=or_null(whole(1)))),
    (
        "*.extraEnv",
        many(
            ref("env"),
            examples=[
                [{"name": "AISIX_SECRET_OPENAI", "valueFrom": {"secretKeyRef": {"name": "openai", "key": "key"}}}]
            ],
        ),
    ),
    ("*.extraVolumes", many(ref("volume"))),
    ("*.extraVolumeMounts", many(ref("mount"))),
    ("*.existingSecret", {**NAMED_OR_NONE, "examples": ["aisix-key"]}),
    ("*.existingClaim", NAMED_OR_NONE),
    ("*.tlsSecret", NAMED_OR_NONE),
    ("*.authSecret", NAMED_OR_NONE),
    ("*.caConfigMap", NAMED_OR_NONE),
    ("*.existingSecretKey", text(f"^{SECRET_KEY}$")),
    ("*.bootstrapToken.key", text(f"^{SECRET_KEY}$")),
    ("*.issuerRef", ref("issuer")),
    ("*.dnsNames", many(HOST)),
    ("*.replicas", whole(1, 100)),
    ("proxy.replicas", or_null(whole(0, 1000))),
    ("etcd.bundled.replicas", {"enum": [1, 3]}),
    ("proxy.workers", whole(1, 64)),
    ("*.service.type", {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}),
    ("*.service.externalTrafficPolicy", {"enum": ["", "Cluster", "Local"]}),
    ("*.loadBalancerSourceRanges", many(text(r"^[0-9a-fA-F.:]+/[0-9]{1,3}$"))),
    ("*.service.*ort", PORT),
    ("*.loadBalancerClass", text(f"^({LABEL_NAME})?$")),
    ("*.drain.*Seconds", whole(0, 86400)),
    ("*.minDrainSeconds", whole(0, 86400)),
    ("*.terminationGracePeriodSeconds", whole(1, 172800)),
    ("proxy.terminationGracePeriodSeconds", or_null(whole(1, 172800))),
    ("*.minReplicas", whole(1, 1000)),
    ("*.maxReplicas", whole(1, 1000)),
    ("*.targetCPUUtilizationPercentage", or_null(whole(1, 1000))),
    (
        "*.autoscaling.metrics",
        many({"type": "object", "required": ["type"], "properties": {"type": TEXT}}, examples=[[QUEUE_METRIC]]),
    ),
    ("*.behavior", closed(scaleUp=ref("scaling"), scaleDown=ref("scaling"))),
    ("*.maxUnavailable", ref("disruptions")),
    ("*.sizeLimit", ref("quantity")),
    ("*.persistence.size", ref("quantity")),
    ("*.storageClass", NAMED_OR_NONE),
    ("*.quotaBytes", whole(16777216, 8589934592)),
    ("*.schedule", text(CRON, examples=["17 3 * * *"])),
    ("*.keep", whole(1, 1000)),
    ("*.snapshot", text("^([A-Za-z0-9][-A-Za-z0-9._]*)?$", maxLength=253)),
    ("*.readSecrets", many(NAMED, examples=[["aisix-secret-openai"]])),
    ("*.className", NAMED_OR_NONE),
    ("*.ingress.hosts", many({"anyOf": [HOST, ref("ingressHost")]}, examples=[["ai.example.com"]])),
    ("*.ingress.tls", many(closed(secretName=NAMED, hosts=many(TEXT)))),
    ("*.httpRoute.hostnames", many(HOST)),
    ("*.httpRoute.timeouts", closed(request=GATEWAY_DURATION, backendRequest=GATEWAY_DURATION)),
    (
        "*.serviceAccount.tokens",
        many(
            closed(
                ("name", "audience"),
                name=text(f"^{DNS_LABEL}$", maxLength=57),
                audience=text(minLength=1),
                expirationSeconds=whole(600, 86400),
                asServiceAccount=FLAG,
            ),
            examples=[[{"name": "vault", "audience": "vault"}]],
        ),
    ),
    (
        "admin.extraKeys",
        many(
            closed(
                ("name", "existingSecret"),
                name=text(f"^{DNS_LABEL}$", maxLength=57),
                role={"enum": ["viewer", "admin"]},
                existingSecret=NAMED,
                key=text(f"^{SECRET_KEY}$"),
            ),
            examples=[[{"name": "ci", "role": "viewer", "existingSecret": "ci-key"}]],
        ),
    ),
    (
        "*.httpRoute.parentRefs",
        many(closed(("name",), name=NAMED, namespace=NAMED, sectionName=TEXT, port=PORT, kind=TEXT, group=TEXT)),
    ),
    ("cloudAgent.cloudUrl", text("^(https://[^/]+/?)?$", examples=["https://cloud.example.com"])),
    ("cloudAgent.caPin", text("^([0-9a-fA-F]{64}|[A-Za-z0-9+/]{43}=)?$")),
    ("keyring.keys", many(text("^[-A-Za-z0-9._]{1,64}$"), uniqueItems=True, examples=[["k2", "k1"]])),
    ("etcd.mode", {"enum": ["bundled", "external"]}),
    ("etcd.external.endpoints", many(text(r"^https?://[^/,\s]+$"), examples=[["https://etcd-0.example.com:2379"]])),
    ("networkPolicy.*", many(ref("peer"))),
    ("networkPolicy.*Ports", many(PORT, minItems=1)),
    ("*.networkPolicyTo", many(ref("peer"))),
    ("*.interval", text("^([0-9]+(ms|s|m|h))+$")),
    ("*.runbookUrl", text("^(https?://.*)?$")),
    ("*.ttlSecondsAfterFinished", whole(0, 604800)),
)
"""By pattern of the path; of several that fit, the last one of the right type, and a flag is always one."""


def when(path: str, value: Any, then: str, wanted: Schema) -> Schema:
    """One value that makes another one needed."""
    return {
        "if": _at(path, {"const": value}),
        "then": _at(then, wanted),
    }


def _at(path: str, schema: Schema) -> Schema:
    for name in reversed(path.split(".")):
        schema = {"type": "object", "required": [name], "properties": {name: schema}}
    return schema


NOT_EMPTY: Final[Schema] = {"minItems": 1}
ISSUER: Final = closed(("name",), name=text(minLength=1), kind=TEXT, group=TEXT)

CONDITIONS: Final = (
    when("mode", "managed", "cloudAgent.cloudUrl", text("^https://")),
    when("etcd.mode", "external", "etcd.external.endpoints", NOT_EMPTY),
    when("proxy.ingress.enabled", True, "proxy.ingress.hosts", NOT_EMPTY),
    when("proxy.httpRoute.enabled", True, "proxy.httpRoute.parentRefs", NOT_EMPTY),
    when("proxy.tls.certManager.enabled", True, "proxy.tls.certManager.issuerRef", ISSUER),
    when("proxy.tls.certManager.enabled", True, "proxy.tls.certManager.dnsNames", NOT_EMPTY),
    when("admin.tls.certManager.enabled", True, "admin.tls.certManager.issuerRef", ISSUER),
    when("admin.tls.certManager.enabled", True, "admin.tls.certManager.dnsNames", NOT_EMPTY),
    when("etcd.bundled.tls.certManager.enabled", True, "etcd.bundled.tls.certManager.issuerRef", ISSUER),
)
"""Where what Helm says of them names the value that is missing. What excludes what, and what needs one of two, is
refused by the templates (`_guards.tpl`), with the fix."""


def shape_of(value: Value) -> Schema | None:
    """What is said here of a key; None: its default says all."""
    if isinstance(value.default, bool):
        return None
    return next((shape for pattern, shape in reversed(SHAPES) if fnmatchcase(value.path, pattern)), None)


def render() -> str:
    """The file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def schema() -> Schema:
    root = _map(read_values(is_leaf=lambda value: shape_of(value) is not None))
    root["properties"]["global"] = {"type": "object", "description": "Of parent charts; not used here."}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": "Made by `python -m tests.deploy.values_schema`; change values.yaml and that module instead.",
        "title": "Values of the chart aisix",
        **root,
        "allOf": list(CONDITIONS),
        "definitions": dict(DEFINITIONS),
    }


def _map(values: list[Value]) -> Schema:
    return closed(**{value.name: _property(value) for value in values})


def _property(value: Value) -> Schema:
    described = {"description": value.description} if value.description else {}
    if value.children:
        return {**described, **_map(value.children)}
    shape = shape_of(value) or by_default(value.default)
    if "$ref" in shape:  # what stands beside a reference does not count in draft 7
        shape = {"allOf": [shape]}
    return {**described, **shape, "default": value.default}


def by_default(default: Any) -> Schema:
    """The type of a default that needs no more words."""
    if isinstance(default, bool):
        return FLAG
    if isinstance(default, str):
        return TEXT
    if isinstance(default, int):
        return whole(0)
    raise TypeError(f"say in SHAPES what a default of {default!r} may be")


if __name__ == "__main__":
    sys.stdout.write(render())
