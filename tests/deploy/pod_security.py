"""Whether a pod may run where `pod-security.kubernetes.io/enforce=restricted` holds: the Pod Security Standards of
Kubernetes, levels baseline and restricted, field by field, for pods on Linux.

    violations(spec, annotations)     # [] or what the admission would say, a line for each

No knowledge of this chart: test_chart_pod_security.py shows each rule refusing a pod that breaks it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

Spec = Mapping[str, Any]

VOLUMES: Final = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SYSCTLS: Final = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
}
SELINUX_TYPES: Final = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
APPARMOR_ANNOTATION: Final = "container.apparmor.security.beta.kubernetes.io/"


def violations(spec: Spec, annotations: Mapping[str, str] | None = None) -> list[str]:
    """Everything that the restricted level refuses in a pod."""
    found = [text for rule in _POD_RULES for text in rule(spec)]
    found += [
        f"{key}: {value} is no confinement"
        for key, value in (annotations or {}).items()
        if key.startswith(APPARMOR_ANNOTATION)
        if value not in ("", "runtime/default") and not value.startswith("localhost/")
    ]
    for container in _containers(spec):
        found += [f"{container['name']}: {text}" for rule in _CONTAINER_RULES for text in rule(spec, container)]
    return found


def _containers(spec: Spec) -> list[Spec]:
    return [
        container
        for part in ("initContainers", "containers", "ephemeralContainers")
        for container in spec.get(part) or []
    ]


def _context(holder: Spec) -> Spec:
    return holder.get("securityContext") or {}


def _host_namespaces(spec: Spec) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"{field} is set"


def _volume_types(spec: Spec) -> Iterator[str]:
    for volume in spec.get("volumes") or []:
        for kind in sorted(set(volume) - {"name"} - VOLUMES):
            yield f"volume {volume['name']} is a {kind}"


def _sysctls(spec: Spec) -> Iterator[str]:
    for sysctl in _context(spec).get("sysctls") or []:
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctl {sysctl['name']} is not a safe one"


def _pod_context(spec: Spec) -> Iterator[str]:
    yield from _common_context(_context(spec))


def _common_context(context: Spec) -> Iterator[str]:
    """What may stand in the context of a pod and of a container, and is wrong in both."""
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type", "") not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield "seLinuxOptions sets a user, a role or a type of its own"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield "windowsOptions.hostProcess is set"
    if (context.get("appArmorProfile") or {}).get("type", "RuntimeDefault") not in ("RuntimeDefault", "Localhost"):
        yield "appArmorProfile is unconfined"
    if "seccompProfile" in context and context["seccompProfile"].get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile is neither RuntimeDefault nor Localhost"
    if context.get("runAsUser") == 0:
        yield "runAsUser is 0"
    if context.get("runAsNonRoot") is False:
        yield "runAsNonRoot is false"


def _container_context(_: Spec, container: Spec) -> Iterator[str]:
    yield from _common_context(_context(container))
    if _context(container).get("privileged"):
        yield "is privileged"
    if _context(container).get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if _context(container).get("procMount", "Default") != "Default":
        yield "procMount is not Default"


def _inherited(spec: Spec, container: Spec) -> Iterator[str]:
    """What either the pod or the container has to say."""
    if "runAsNonRoot" not in {**_context(spec), **_context(container)}:
        yield "runAsNonRoot is not true"
    if "seccompProfile" not in {**_context(spec), **_context(container)}:
        yield "has no seccompProfile"


def _capabilities(_: Spec, container: Spec) -> Iterator[str]:
    capabilities = _context(container).get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or []):
        yield "does not drop ALL capabilities"
    for added in capabilities.get("add") or []:
        if added != "NET_BIND_SERVICE":
            yield f"adds the capability {added}"


def _host_ports(_: Spec, container: Spec) -> Iterator[str]:
    for port in container.get("ports") or []:
        if port.get("hostPort"):
            yield f"takes host port {port['hostPort']}"


def _host_of_probes(_: Spec, container: Spec) -> Iterator[str]:
    """Since Kubernetes 1.34: a probe or hook that names a host reaches beyond the pod."""
    lifecycle = container.get("lifecycle") or {}
    handlers = {part: container.get(part) for part in ("livenessProbe", "readinessProbe", "startupProbe")}
    handlers |= {part: lifecycle.get(part) for part in ("preStop", "postStart")}
    for part, handler in handlers.items():
        for way in ("httpGet", "tcpSocket"):
            if ((handler or {}).get(way) or {}).get("host"):
                yield f"{part} names a host"


_POD_RULES: Final[tuple[Callable[[Spec], Iterator[str]], ...]] = (
    _host_namespaces,
    _volume_types,
    _sysctls,
    _pod_context,
)
_CONTAINER_RULES: Final[tuple[Callable[[Spec, Spec], Iterator[str]], ...]] = (
    _container_context,
    _inherited,
    _capabilities,
    _host_ports,
    _host_of_probes,
)
