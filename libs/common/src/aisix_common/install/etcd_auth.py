"""Gives etcd its users and roles, and turns authentication on: again and again, with the same result.

Whatever a role of ours holds that it should not is taken away; a service that does not run in this mode has no user.
Users and roles of other names are left alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from .etcd_api import EtcdApi, Refused, decoded, encoded
from .progress import Failed
from .roles import SERVICES, Grant

ROOT: Final = "root"


@dataclass(frozen=True, slots=True)
class Credential:
    """One user of etcd."""

    user: str
    password: str = field(repr=False)


def set_up(
    etcd: EtcdApi,
    root: Credential,
    users: Mapping[str, Credential],
    roles: Mapping[str, Sequence[Grant]],
    say: Callable[[str], None],
) -> None:
    """Users and roles of the services in `roles`, `users` being theirs; then authentication is on. Raises Failed."""
    try:
        enabled = etcd.login(root.user, root.password)
    except Refused as refused:
        raise Failed(
            f"etcd does not take the password of {root.user} ({refused}). It has other passwords than the Secret, as "
            "after a restore or when the Secret was made anew: put the old Secret back, or see docs/guides/etcd.md"
        )
    say("authentication is on already" if enabled else "authentication is off yet")
    setting = _Setting(etcd, enabled, say)
    try:
        setting.role(ROOT, None)
        setting.user(root, ROOT)
        for service, grants in roles.items():
            setting.role(service, grants)
            setting.user(users[service], service)
        for service in SERVICES:
            if service not in roles:
                setting.gone(service, users[service].user if service in users else service)
        if not enabled:
            etcd.call("/v3/auth/enable", {})
            say("authentication is on")
            etcd.login(root.user, root.password)
        for service in roles:
            setting.check(users[service])
    except Refused as refused:
        raise Failed(f"etcd refused to set up its users: {refused}")


class _Setting:
    def __init__(self, etcd: EtcdApi, enabled: bool, say: Callable[[str], None]) -> None:
        self._etcd = etcd
        self._enabled = enabled
        self._say = say
        self._users: set[str] = set(etcd.call("/v3/auth/user/list", {}).get("users") or ())
        self._roles: set[str] = set(etcd.call("/v3/auth/role/list", {}).get("roles") or ())

    def role(self, name: str, grants: Sequence[Grant] | None) -> None:
        """The role with exactly these grants; None: whatever it has."""
        if name not in self._roles:
            self._etcd.call("/v3/auth/role/add", {"name": name})
            self._say(f"role {name}: made")
        if grants is None:
            return
        held = {_held(each) for each in self._etcd.call("/v3/auth/role/get", {"role": name}).get("perm") or ()}
        wanted = {(grant.kind, grant.key, grant.range_end) for grant in grants}
        for _, key, end in sorted({each for each in held if each[1:] not in {one[1:] for one in wanted}}):
            self._etcd.call("/v3/auth/role/revoke", {"role": name, "key": encoded(key), "range_end": encoded(end)})
            self._say(f"role {name}: {key} taken away")
        for kind, key, end in sorted(wanted - held):
            permission = {"permType": kind, "key": encoded(key), "range_end": encoded(end)}
            self._etcd.call("/v3/auth/role/grant", {"name": name, "perm": permission})
            self._say(f"role {name}: {kind.lower()} {key}{'*' if end else ''}")

    def user(self, credential: Credential, role: str) -> None:
        """The user with exactly this role, and its password where it is made now or has another."""
        name = credential.user
        if name not in self._users:
            self._etcd.call("/v3/auth/user/add", {"name": name, "password": credential.password})
            self._say(f"user {name}: made")
        elif not self._enabled:
            self._password(credential)  # nobody can log in yet, so there is no telling which one it has
        held = set(self._etcd.call("/v3/auth/user/get", {"name": name}).get("roles") or ())
        for other in sorted(held - {role}):
            self._etcd.call("/v3/auth/user/revoke", {"name": name, "role": other})
            self._say(f"user {name}: role {other} taken away")
        if role not in held:
            self._etcd.call("/v3/auth/user/grant", {"user": name, "role": role})
            self._say(f"user {name}: role {role}")

    def gone(self, role: str, user: str) -> None:
        """Neither user nor role."""
        if user in self._users and user != ROOT:
            self._etcd.call("/v3/auth/user/delete", {"name": user})
            self._say(f"user {user}: deleted, its service does not run in this mode")
        if role in self._roles:
            self._etcd.call("/v3/auth/role/delete", {"role": role})
            self._say(f"role {role}: deleted")

    def check(self, credential: Credential) -> None:
        """That the user can log in; another password is set to this one."""
        try:
            self._etcd.trial(credential.user, credential.password)
        except Refused:
            self._password(credential)

    def _password(self, credential: Credential) -> None:
        self._etcd.call("/v3/auth/user/changepw", {"name": credential.user, "password": credential.password})
        self._say(f"user {credential.user}: password set to that of the Secret")


def _held(permission: Mapping[str, Any]) -> tuple[str, str, str]:
    """A permission as etcd tells it: what is the first of its kind, or empty, it leaves out."""
    return (
        str(permission.get("permType", "READ")),
        decoded(permission.get("key", "")),
        decoded(permission.get("range_end", "")),
    )
