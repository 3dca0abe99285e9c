"""A double of Microsoft Entra's token endpoint, written from the public protocol (learn.microsoft.com: "OAuth 2.0
client credentials flow", "Workload identity federation", "Microsoft Entra authentication error codes").

It knows one tenant and one client, by secret or by a federated credential, and checks the grant, the client, its
secret or assertion (signature, issuer, subject, audience, times) and the scope. Used by azure_vault.py; see there for
how its certificate is trusted. Not there: certificate credentials, managed identities, claims challenges.
"""

import re
import time
import uuid
from collections.abc import Callable
from typing import Final

import jwt
from aiohttp import web
from jwt.types import Options

from .doubles import Fault, Faults, Seen, later, signing_key, watched

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
TOKEN_AUDIENCE: Final = "api://AzureADTokenExchange"
_SKEW: Final = 300.0
"""Seconds that a token may be from the future."""
_SIGNATURE_ONLY: Final[Options] = {"verify_aud": False, "verify_exp": False, "verify_nbf": False, "verify_iat": False}
"""The rest is checked here, by the double's clock and with the service's words."""


class Entra:
    """One tenant with one client. `now`: seconds since 1970."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.authority = ""
        """Its origin, once it listens."""
        self.tenant_id, self.client_id, self.object_id = str(uuid.uuid4()), str(uuid.uuid4()), str(uuid.uuid4())
        self.client_secret = f"azure-client-secret~{uuid.uuid4().hex}"
        self.cluster_issuer = "https://cluster.test/oidc"
        self.subject = "system:serviceaccount:aisix:proxy"
        """The service account that the client's federated credential names."""
        self.token_lifetime = 3599
        """Seconds that tokens given from now on are good for."""
        self.faults = Faults()
        self.seen: list[Seen] = []
        self._now = now
        self._generation = 0

    def sign_anew(self) -> None:
        """Tokens that were given before are not taken any more."""
        self._generation += 1

    def workload_token(self, *, lifetime: float = 3600.0, signer: str = "cluster", **claims: object) -> str:
        """A projected service account token as the cluster makes them; `claims` replace its own, another `signer` is
        a stranger."""
        now = int(self._now())
        own = {"iss": self.cluster_issuer, "sub": self.subject, "aud": [TOKEN_AUDIENCE]}
        times = {"iat": now, "nbf": now, "exp": int(now + lifetime)}
        return jwt.encode({**own, **times, **claims}, signing_key(signer), "RS256", {"kid": signer})

    def app(self) -> web.Application:
        """Entra: tokens, and what libraries look up before they ask for one."""
        app = web.Application(middlewares=[watched(self.faults, self.seen, self._fault)])
        app.router.add_post("/{tenant}/oauth2/v2.0/token", self._token)
        app.router.add_get("/{tenant}/v2.0/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/common/discovery/instance", self._instances)
        return app

    def wrong_token(self, token: str, resource: str) -> str | None:
        """What a service at `resource` has against a bearer, in Key Vault's words; None: it is good."""
        key = signing_key(f"entra-{self._generation}").public_key()
        try:
            claims = jwt.decode(token, key, ["RS256"], options=_SIGNATURE_ONLY)
        except jwt.InvalidTokenError:
            return "Error validating token: IDX10511: Signature validation failed."
        if not claims["nbf"] - _SKEW <= self._now() < claims["exp"]:
            return "Error validating token: IDX10223: Lifetime validation failed. The token is expired."
        if claims["aud"].rstrip("/") != resource:
            return f"AKV10022: Invalid audience. Expected {resource}, found: {claims['aud']}."
        return None

    async def _discovery(self, request: web.Request) -> web.Response:
        tenant = request.match_info["tenant"]
        base = f"{self.authority}/{tenant}"
        if tenant not in (self.tenant_id, "common", "organizations"):
            return self._oauth_error(400, "invalid_tenant", 90002, f"Tenant '{tenant}' not found.")
        return web.json_response(
            {
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "jwks_uri": f"{base}/discovery/v2.0/keys",
                "issuer": f"{base}/v2.0",
                "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
                "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "tenant_region_scope": "EU",
                "cloud_instance_name": "microsoftonline.com",
            }
        )

    async def _instances(self, request: web.Request) -> web.Response:
        host = self.authority.removeprefix("https://")
        return web.json_response(
            {
                "tenant_discovery_endpoint": f"{self.authority}/{self.tenant_id}/v2.0/.well-known/openid-configuration",
                "api-version": "1.1",
                "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
            }
        )

    async def _token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        if request.match_info["tenant"] != self.tenant_id:
            tenant = request.match_info["tenant"]
            return self._oauth_error(400, "invalid_request", 90002, f"Tenant '{tenant}' not found.")
        if "grant_type" not in form:
            missing = "The request body must contain the following parameter: 'grant_type'."
            return self._oauth_error(400, "invalid_request", 900144, missing)
        if form["grant_type"] != "client_credentials":
            return self._oauth_error(400, "unsupported_grant_type", 70003, "The grant type is not supported.")
        if form.get("client_id") != self.client_id:
            unknown = f"Application with identifier '{form.get('client_id')}' was not found in the directory."
            return self._oauth_error(400, "unauthorized_client", 700016, unknown)
        scope = form.get("scope", "")
        if not re.fullmatch(r"https://\S+/\.default", scope):
            return self._oauth_error(
                400, "invalid_scope", 1002012, f"The provided value for scope {scope} is not valid."
            )
        if refused := self._wrong_credential(form):
            return refused
        lifetime = self.token_lifetime
        document = {"token_type": "Bearer", "expires_in": lifetime, "ext_expires_in": lifetime}
        token = self._access_token(scope.removesuffix("/.default"), lifetime)
        return web.json_response({**document, "access_token": token}, headers={"Cache-Control": "no-store, no-cache"})

    def _wrong_credential(self, form: dict[str, str]) -> web.Response | None:
        if "client_assertion" in form:
            if form.get("client_assertion_type") != ASSERTION_TYPE:
                return self._oauth_error(400, "invalid_request", 900023, "The client assertion type is not supported.")
            return self._wrong_assertion(form["client_assertion"])
        if "client_secret" not in form:
            missing = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
            return self._oauth_error(401, "invalid_client", 7000218, missing)
        if form["client_secret"] != self.client_secret:
            wrong = f"Invalid client secret provided for app '{self.client_id}'."
            return self._oauth_error(401, "invalid_client", 7000215, wrong)
        return None

    def _wrong_assertion(self, assertion: str) -> web.Response | None:
        nothing = "No matching federated identity record found for presented assertion"
        try:
            claims = jwt.decode(
                assertion,
                signing_key("cluster").public_key(),
                ["RS256"],
                options=_SIGNATURE_ONLY,
            )
        except jwt.InvalidTokenError:
            failed = "Client assertion failed signature validation."
            return self._oauth_error(401, "invalid_client", 700027, failed)
        if not claims.get("nbf", 0) - _SKEW <= self._now() < claims.get("exp", 0):
            return self._oauth_error(
                401, "invalid_client", 700024, "Client assertion is not within its valid time range."
            )
        if claims.get("iss") != self.cluster_issuer:
            return self._oauth_error(401, "invalid_client", 700211, f"{nothing} issuer '{claims.get('iss')}'.")
        if TOKEN_AUDIENCE not in _listed(claims.get("aud")):
            return self._oauth_error(401, "invalid_client", 700212, f"{nothing} audience '{claims.get('aud')}'.")
        if claims.get("sub") != self.subject:
            return self._oauth_error(401, "invalid_client", 700213, f"{nothing} subject '{claims.get('sub')}'.")
        return None

    def _access_token(self, audience: str, lifetime: int) -> str:
        now = int(self._now())
        who = {"appid": self.client_id, "oid": self.object_id, "sub": self.object_id, "tid": self.tenant_id}
        claims = {
            "aud": audience,
            "iss": self.issuer,
            "iat": now,
            "nbf": now,
            "exp": now + lifetime,
            **who,
            "ver": "1.0",
        }
        kid = f"entra-{self._generation}"
        return jwt.encode(claims, signing_key(kid), "RS256", {"kid": kid, "x5t": kid})

    @property
    def issuer(self) -> str:
        """Who access tokens are from."""
        return f"https://sts.windows.net/{self.tenant_id}/"

    def _oauth_error(self, status: int, error: str, code: int, said: str) -> web.Response:
        trace, correlation, stamp = (
            str(uuid.uuid4()),
            str(uuid.uuid4()),
            time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()),
        )
        tail = f" Trace ID: {trace} Correlation ID: {correlation} Timestamp: {stamp}"
        document = {
            "error": error,
            "error_description": f"AADSTS{code}: {said}{tail}",
            "error_codes": [code],
            "timestamp": stamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"{self.authority}/error?code={code}",
        }
        return web.json_response(document, status=status)

    def _fault(self, fault: Fault) -> web.Response:
        kind = "temporarily_unavailable" if fault.status in (429, 503) else "server_error"
        answer = self._oauth_error(fault.status, kind, 90033, "A transient error has occurred. Please try again.")
        return later(answer, fault)


def _listed(audience: object) -> list[object]:
    return audience if isinstance(audience, list) else [audience]
