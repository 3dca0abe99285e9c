"""Who may do what at the Kubernetes API server of the tests: service accounts, their tokens, and RBAC's rules.

Tokens are JWTs as the real server's projected tokens are, so that OpenBao's `kubernetes` login takes them. Each is good
until it ends or the account's tokens are rotated.
"""

import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

import jwt

from .doubles import signing_key

ISSUER: Final = "https://kubernetes.default.svc.cluster.local"
ADMIN: Final = "kubernetes-admin"
ANONYMOUS: Final = "system:anonymous"
EVERYTHING: Final = "*"


@dataclass(frozen=True, slots=True)
class Account:
    """A service account."""

    namespace: str
    name: str
    uid: str

    @property
    def username(self) -> str:
        return f"system:serviceaccount:{self.namespace}:{self.name}"

    @property
    def groups(self) -> list[str]:
        return ["system:serviceaccounts", f"system:serviceaccounts:{self.namespace}", "system:authenticated"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What one user may do; `*` stands for all. `names`: only these objects; empty: any."""

    username: str
    verbs: frozenset[str]
    resource: str
    namespace: str
    names: frozenset[str]

    def allows(self, username: str, verb: str, resource: str, namespace: str, name: str) -> bool:
        return (
            self.username == username
            and bool(self.verbs & {verb, EVERYTHING})
            and self.resource in (resource, EVERYTHING)
            and self.namespace in (namespace, EVERYTHING)
            and (not self.names or name in self.names)
        )


@dataclass(frozen=True, slots=True)
class Asker:
    """Who a request is from."""

    username: str
    account: Account | None = None
    audiences: tuple[str, ...] = (ISSUER,)


class Accounts:
    """The accounts of one cluster. `now`: seconds since 1970."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.admin_token = f"admin-{uuid.uuid4().hex}"
        """May do everything."""
        self._now = now
        self._accounts: dict[str, Account] = {}
        self._generations: dict[str, int] = {}
        self._rules: list[Rule] = []

    def account(self, namespace: str, name: str) -> Account:
        """Make a service account, or find it. It may do nothing yet."""
        made = Account(namespace, name, str(uuid.uuid4()))
        return self._accounts.setdefault(made.username, made)

    def token(
        self, account: Account, *, lifetime: float = 3600.0, audience: str = ISSUER, signer: str = "kubernetes"
    ) -> str:
        """A new token of the account. Another `signer` is a stranger."""
        now = int(self._now())
        bound = {"namespace": account.namespace, "serviceaccount": {"name": account.name, "uid": account.uid}}
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "sub": account.username,
            "aud": [audience],
            "iat": now,
            "nbf": now,
            "exp": int(now + lifetime),
            "jti": str(uuid.uuid4()),
            "kubernetes.io": bound,
        }
        kid = f"{signer}-{self._generations.get(account.username, 0)}"
        return jwt.encode(claims, signing_key(signer), "RS256", {"kid": kid})

    def rotate(self, account: Account) -> str:
        """Refuse every token that the account had; a new one."""
        self._generations[account.username] = self._generations.get(account.username, 0) + 1
        return self.token(account)

    def delete(self, account: Account) -> None:
        """The account is gone, and what it was allowed."""
        del self._accounts[account.username]
        self._rules = [rule for rule in self._rules if rule.username != account.username]

    def allow(
        self,
        account: Account,
        verbs: str,
        resource: str,
        namespace: str = EVERYTHING,
        names: Collection[str] = (),
    ) -> None:
        """Let the account do this; `verbs` separated by spaces, `names` as RBAC's resourceNames."""
        rule = Rule(account.username, frozenset(verbs.split()), resource, namespace, frozenset(names))
        self._rules.append(rule)

    def forbid(self, account: Account) -> None:
        """Take back all that the account was allowed."""
        self._rules = [rule for rule in self._rules if rule.username != account.username]

    def may(self, asker: Asker, verb: str, resource: str, namespace: str, name: str) -> bool:
        """Whether a rule allows it. A name is "" where the request names none."""
        return asker.username == ADMIN or any(
            rule.allows(asker.username, verb, resource, namespace, name) for rule in self._rules
        )

    def asker(self, token: str, audience: str | None = ISSUER) -> Asker | None:
        """Whose token it is; None: it is not taken. `audience` None: any."""
        if token == self.admin_token:
            return Asker(ADMIN)
        unchecked: Any = {"verify_aud": False, "verify_exp": False, "verify_nbf": False, "verify_iat": False}
        try:
            key = signing_key("kubernetes").public_key()
            claims = jwt.decode(token, key, ["RS256"], options=unchecked)
            kid = jwt.get_unverified_header(token)["kid"]
        except jwt.InvalidTokenError:
            return None
        account = self._accounts.get(claims["sub"])
        generation = self._generations.get(claims["sub"], 0)
        if account is None or kid != f"kubernetes-{generation}" or not claims["nbf"] <= self._now() < claims["exp"]:
            return None
        if audience is not None and audience not in claims["aud"]:
            return None
        return Asker(account.username, account, tuple(claims["aud"]))
