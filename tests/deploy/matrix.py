"""The values that the chart is rendered with in tests: what people install, and each switch on and off.

Secrets that these values name are canaries: their *names* appear in what is rendered, and nothing that is in them may.
"""

from collections.abc import Mapping
from typing import Any, Final

from .rendering import HELMS, NEWEST, OLDEST

Values = Mapping[str, Any]

PEER: Final = [{"namespaceSelector": {"matchLabels": {"team": "apps"}}}]
ISSUER: Final = {"name": "house-ca", "kind": "ClusterIssuer"}
OFF: Final = {"enabled": False}
ON: Final = {"enabled": True}
PIN: Final = "5f" * 32
DIGEST: Final = "sha256:" + "ab" * 32

TOKEN: Final[Values] = {
    "mode": "managed",
    "cloudAgent": {
        "cloudUrl": "https://cloud.example.com",
        "bootstrapToken": {"existingSecret": "cloud-token"},
        "caPin": PIN,
    },
}

SETS: Final[Mapping[str, Values]] = {
    "default": {},
    "ha": {
        "proxy": {"replicas": 3, "autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 30}},
        "admin": {"replicas": 2, "podDisruptionBudget": ON},
        "etcd": {"bundled": {"replicas": 3, "backup": {"enabled": True, "existingClaim": "backups"}}},
        "networkPolicy": {"callers": PEER, "operators": PEER},
    },
    "managed-token": TOKEN,
    "managed-bundle": {
        "mode": "managed",
        "cloudAgent": {
            "cloudUrl": "https://cloud.example.com",
            "bundle": {"existingSecret": "cloud-bundle"},
            "caConfigMap": "cloud-ca",
        },
        "etcd": {"bundled": {"replicas": 3}},
        "metrics": {"serviceMonitor": ON, "rules": ON, "dashboard": ON},
    },
    "external-etcd": {
        "etcd": {
            "mode": "external",
            "external": {
                "endpoints": ["https://etcd-0.example.com:2379", "https://etcd-1.example.com:2379"],
                "tlsSecret": "etcd-client",
                "authSecret": "etcd-users",
                "networkPolicyTo": [{"ipBlock": {"cidr": "10.9.0.0/24"}}],
            },
        },
        "admin": {"existingSecret": "our-admin-key", "existingSecretKey": "key"},
        "keyring": {"existingSecret": "our-keyring", "keys": ["k2", "k1"]},
    },
    "cert-manager": {
        "proxy": {
            "tls": {
                "enabled": True,
                "certManager": {"enabled": True, "issuerRef": ISSUER, "dnsNames": ["ai.example.com"]},
            },
            "httpRoute": {"enabled": True, "parentRefs": [{"name": "gate"}], "hostnames": ["ai.example.com"]},
        },
        "etcd": {"bundled": {"tls": {"certManager": {"enabled": True, "issuerRef": ISSUER}}}},
    },
    "everything-on": {
        "commonLabels": {"team": "platform"},
        "commonAnnotations": {"example.com/owner": "platform"},
        "image": {"pullSecrets": ["registry"]},
        "config": {"upstream": {"retries": 2}, "observability": {"log_format": "json"}},
        "proxy": {
            "image": {"digest": DIGEST},
            "workers": 2,
            "tls": {"enabled": True, "existingSecret": "ai-example-com"},
            "autoscaling": ON,
            "priorityClassName": "gateway",
            "nodeSelector": {"pool": "gateways"},
            "tolerations": [{"key": "pool", "operator": "Equal", "value": "gateways", "effect": "NoSchedule"}],
            "podLabels": {"sidecar.example.com/inject": "false"},
            "podAnnotations": {"example.com/seen": "yes"},
            "extraEnv": [
                {"name": "AISIX_SECRET_OPENAI", "valueFrom": {"secretKeyRef": {"name": "openai", "key": "key"}}}
            ],
            "extraVolumes": [{"name": "authorities", "configMap": {"name": "authorities"}}],
            "extraVolumeMounts": [{"name": "authorities", "mountPath": "/etc/authorities", "readOnly": True}],
            "ingress": {
                "enabled": True,
                "className": "nginx",
                "hosts": ["ai.example.com", {"host": "v1.example.com", "paths": [{"path": "/v1"}]}],
                "tls": [{"hosts": ["ai.example.com"], "secretName": "ai-example-com"}],
            },
            "service": {"type": "LoadBalancer", "externalTrafficPolicy": "Local"},
        },
        "admin": {
            "replicas": 2,
            "podDisruptionBudget": ON,
            "service": {"type": "LoadBalancer"},
            "iKnowThisExposesTheAdmin": True,
        },
        "etcd": {"bundled": {"backup": {"enabled": True, "existingClaim": "backups"}}},
        "networkPolicy": {"callers": PEER, "operators": PEER, "redis": PEER, "metadata": True},
        "metrics": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "rules": {"enabled": True, "labels": {"release": "prometheus"}, "runbookUrl": "https://docs.example.com/"},
            "dashboard": ON,
        },
    },
    "everything-off": {
        "proxy": {"podDisruptionBudget": OFF, "topologySpreadConstraints": []},
        "etcd": {
            "bundled": {
                "auth": OFF,
                "tls": OFF,
                "persistence": OFF,
                "defragmentation": OFF,
                "podDisruptionBudget": OFF,
            }
        },
        "networkPolicy": OFF,
        "metrics": {"annotations": False},
        "tests": OFF,
    },
    "restore": {
        "etcd": {
            "bundled": {
                "replicas": 3,
                "backup": {"enabled": True, "existingClaim": "backups"},
                "restore": {"snapshot": "aisix-20260101.db"},
            }
        }
    },
    "secret-managers": {
        "proxy": {
            "serviceAccount": {
                "annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/aisix"},
                "readSecrets": ["aisix-secret-openai"],
                "tokens": [{"name": "aws", "audience": "sts.amazonaws.com"}],
            }
        },
        "networkPolicy": {"metadata": True},
    },
}

VERSIONS: Final = (OLDEST, NEWEST)


COMBINATIONS: Final = [(values, kubernetes, helm) for values in SETS for kubernetes in VERSIONS for helm in HELMS]
"""Every (value set, Kubernetes, Helm)."""
