"""The evaluator of the restricted level: a pod that keeps it passes, and each way to break it is seen."""

from copy import deepcopy
from typing import Any

import pytest

from .pod_security import violations

GOOD: dict[str, Any] = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "c",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            "ports": [{"containerPort": 80}],
            "livenessProbe": {"httpGet": {"port": 80}},
        }
    ],
    "volumes": [{"name": "v", "emptyDir": {}}],
}

BROKEN: list[tuple[str, Any, str]] = [
    ("hostNetwork", True, "hostNetwork"),
    ("hostPID", True, "hostPID"),
    ("hostIPC", True, "hostIPC"),
    ("volumes.0.hostPath", {"path": "/"}, "hostPath"),
    ("volumes.0.nfs", {}, "nfs"),
    ("securityContext.sysctls", [{"name": "kernel.msgmax"}], "sysctl"),
    ("securityContext.runAsNonRoot", False, "runAsNonRoot"),
    ("securityContext.runAsUser", 0, "runAsUser"),
    ("securityContext.seccompProfile", {"type": "Unconfined"}, "seccompProfile"),
    ("securityContext.seLinuxOptions", {"type": "spc_t"}, "seLinux"),
    ("securityContext.seLinuxOptions", {"user": "u"}, "seLinux"),
    ("securityContext.appArmorProfile", {"type": "Unconfined"}, "appArmor"),
    ("securityContext.windowsOptions", {"hostProcess": True}, "hostProcess"),
    ("securityContext", {"seccompProfile": {"type": "RuntimeDefault"}}, "runAsNonRoot"),
    ("securityContext", {"runAsNonRoot": True}, "seccompProfile"),
    ("containers.0.securityContext.privileged", True, "privileged"),
    ("containers.0.securityContext.allowPrivilegeEscalation", None, "allowPrivilegeEscalation"),
    ("containers.0.securityContext.runAsNonRoot", False, "runAsNonRoot"),
    ("containers.0.securityContext.runAsUser", 0, "runAsUser"),
    ("containers.0.securityContext.procMount", "Unmasked", "procMount"),
    ("containers.0.securityContext.seccompProfile", {"type": "Unconfined"}, "seccompProfile"),
    ("containers.0.securityContext.capabilities", {"drop": ["NET_RAW"]}, "ALL"),
    ("containers.0.securityContext.capabilities", {"drop": ["ALL"], "add": ["SYS_TIME"]}, "SYS_TIME"),
    ("containers.0.securityContext", {}, "allowPrivilegeEscalation"),
    ("containers.0.ports.0.hostPort", 80, "host port"),
    ("containers.0.livenessProbe.httpGet.host", "169.254.169.254", "names a host"),
    ("containers.0.lifecycle", {"preStop": {"tcpSocket": {"host": "x"}}}, "names a host"),
]


def test_a_pod_that_keeps_the_level_passes() -> None:
    assert violations(GOOD) == []
    bound = with_change("containers.0.securityContext.capabilities.add", ["NET_BIND_SERVICE"])
    assert violations(bound) == []


@pytest.mark.parametrize(("path", "value", "said"), BROKEN, ids=lambda v: v if isinstance(v, str) else None)
def test_every_way_to_break_it_is_seen(path: str, value: Any, said: str) -> None:
    assert any(said in text for text in violations(with_change(path, value)))


def test_init_containers_are_looked_at_too() -> None:
    assert violations({**GOOD, "initContainers": [{"name": "i"}]})[0].startswith("i: ")


def test_the_older_annotation_of_apparmor_is_looked_at() -> None:
    key = "container.apparmor.security.beta.kubernetes.io/c"
    assert violations(GOOD, {key: "runtime/default"}) == []
    assert violations(GOOD, {key: "unconfined"}) != []


def with_change(path: str, value: Any) -> dict[str, Any]:
    """The good pod with one field set; None takes it away."""
    pod = deepcopy(GOOD)
    *parents, last = path.split(".")
    place: Any = pod
    for part in parents:
        place = place[int(part)] if part.isdigit() else place[part]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return pod
