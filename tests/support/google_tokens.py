"""A double of where Google's access tokens come from, written from the public protocols: service accounts' JWT grants
(developers.google.com: "Using OAuth 2.0 for server to server applications"), the metadata server that GKE gives to pods
(cloud.google.com: "About VM metadata"), the Security Token Service with impersonation ("Workload identity federation
with Kubernetes", "iamcredentials generateAccessToken"). Used by gcp_secrets.py; see there for how it is trusted.

Checked: an assertion's signature, key, audience, scope and times (an hour at most); the Metadata-Flavor header; a
subject token's signature, issuer, subject, audience and times. Tokens are opaque, as Google's are, and known by what
they may do and until when.
"""

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jwt
from aiohttp import web
from jwt.types import Options

from .doubles import Fault, Faults, Seen, key_pem, later, signing_key, watched

CLOUD_PLATFORM: Final = "https://www.googleapis.com/auth/cloud-platform"
IAM: Final = "https://www.googleapis.com/auth/iam"
JWT_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EXCHANGE_GRANT: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"
JWT_TOKENS: Final = frozenset({"urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"})
_AUDIENCE: Final = "https://oauth2.googleapis.com/token"
"""What the document says `aud` always is, and Google's own library sends, wherever the key's `token_uri` leads."""
_HOUR: Final = 3600
_SKEW: Final = 300
"""Seconds that a token may be from the future."""
_SIGNATURE_ONLY: Final[Options] = {"verify_aud": False, "verify_exp": False, "verify_nbf": False, "verify_iat": False}
"""The rest is checked here, by the double's clock and with the service's words."""


@dataclass(frozen=True, slots=True)
class Granted:
    """What an access token stands for. `until`: seconds since 1970."""

    principal: str
    scopes: frozenset[str]
    until: float


class GoogleTokens:
    """One project with one service account. `now`: seconds since 1970."""

    def __init__(self, project_id: str, now: Callable[[], float] = time.time) -> None:
        self.origin = ""
        """Of the token endpoints, once they listen: https."""
        self.metadata_host = ""
        """`127.0.0.1:<port>`, what GCE_METADATA_HOST is to say: http, as in life."""
        self.project_id, self.project_number = project_id, 123456789012
        self.email = f"proxy@{project_id}.iam.gserviceaccount.com"
        self.key_id = uuid.uuid4().hex
        self.cluster_issuer = "https://cluster.test/oidc"
        self.subject = "system:serviceaccount:aisix:proxy"
        """The Kubernetes service account that the pool takes."""
        self.pool = (
            f"//iam.googleapis.com/projects/{self.project_number}/locations/global/"
            "workloadIdentityPools/cluster/providers/kubernetes"
        )
        self.token_lifetime = 3599
        """Seconds that tokens given from now on are good for."""
        self.faults, self.metadata_faults = Faults(), Faults()
        self.seen: list[Seen] = []
        self.metadata_seen: list[Seen] = []
        self._now = now
        self._granted: dict[str, Granted] = {}

    @property
    def token_uri(self) -> str:
        """Where a service account's assertions go."""
        return f"{self.origin}/token"

    def service_account(self, **changed: object) -> str:
        """The JSON text of the service account's key; `changed` replaces fields of it."""
        document = {
            "type": "service_account",
            "project_id": self.project_id,
            "private_key_id": self.key_id,
            "private_key": key_pem(signing_key("service account")),
            "client_email": self.email,
            "client_id": "100000000000000000001",
            "token_uri": self.token_uri,
            "universe_domain": "googleapis.com",
        }
        return json.dumps({**document, **changed})

    def external_account(self, token_file: Path, *, impersonate: bool = False) -> str:
        """The JSON text of credentials that exchange the token in a file, and then become the service account."""
        account = f"{self.origin}/v1/projects/-/serviceAccounts/{self.email}:generateAccessToken"
        document = {
            "type": "external_account",
            "audience": self.pool,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{self.origin}/v1/token",
            "credential_source": {"file": str(token_file)},
            **({"service_account_impersonation_url": account} if impersonate else {}),
        }
        return json.dumps(document)

    def workload_token(self, *, lifetime: float = _HOUR, signer: str = "cluster", **claims: object) -> str:
        """A projected service account token as the cluster makes them; `claims` replace its own, another `signer` is
        a stranger."""
        now = int(self._now())
        own = {"iss": self.cluster_issuer, "sub": self.subject, "aud": [f"https:{self.pool}"]}
        times = {"iat": now, "exp": int(now + lifetime)}
        return jwt.encode({**own, **times, **claims}, signing_key(signer), "RS256", {"kid": signer})

    def revoke(self) -> None:
        """Tokens that were given before are not taken any more."""
        self._granted.clear()

    def granted(self, token: str, audience: str) -> Granted | None:
        """What a bearer may do at the API called `audience`; None: it is not taken. Besides tokens, APIs take what a
        service account's key has signed for them."""
        found = self._granted.get(token) or self._self_signed(token, audience)
        return found if found is not None and self._now() < found.until else None

    def app(self) -> web.Application:
        """The token endpoints of OAuth, STS and IAM."""
        app = web.Application(middlewares=[watched(self.faults, self.seen, self._fault)])
        app.router.add_post("/token", self._assertion_grant)
        app.router.add_post("/v1/token", self._exchange)
        app.router.add_post("/v1/projects/-/serviceAccounts/{email}:generateAccessToken", self._impersonate)
        return app

    def metadata_app(self) -> web.Application:
        """The metadata server."""
        app = web.Application(middlewares=[watched(self.metadata_faults, self.metadata_seen, self._metadata_fault)])
        accounts = "/computeMetadata/v1/instance/service-accounts/{account}"
        app.router.add_get("/", self._metadata)
        app.router.add_get("/computeMetadata/v1/project/project-id", self._metadata)
        app.router.add_get("/computeMetadata/v1/universe/universe-domain", self._metadata)
        app.router.add_get(f"{accounts}/token", self._metadata)
        app.router.add_get(f"{accounts}/email", self._metadata)
        app.router.add_get(f"{accounts}/", self._metadata)
        return app

    def _give(self, principal: str, scopes: frozenset[str]) -> str:
        token = f"ya29.c.{uuid.uuid4().hex}{uuid.uuid4().hex}"
        self._granted[token] = Granted(principal, scopes, self._now() + self.token_lifetime)
        return token

    def _self_signed(self, token: str, audience: str) -> Granted | None:
        try:
            claims = jwt.decode(token, signing_key("service account").public_key(), ["RS256"], options=_SIGNATURE_ONLY)
        except jwt.InvalidTokenError:
            return None
        if claims.get("iss") != self.email or claims.get("sub") != self.email or not self._timely(claims):
            return None
        if claims.get("aud") == audience:
            return Granted(self.email, frozenset({CLOUD_PLATFORM}), claims["exp"])
        return Granted(self.email, frozenset(claims["scope"].split()), claims["exp"]) if "scope" in claims else None

    def _timely(self, claims: dict[str, Any]) -> bool:
        begin, end = claims.get("iat", 0), claims.get("exp", 0)
        return bool(begin - _SKEW <= self._now() < end and end - begin <= _HOUR)

    async def _assertion_grant(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        if form.get("grant_type") != JWT_GRANT:
            return _refused("unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type')}")
        assertion = form.get("assertion", "")
        try:
            said = jwt.decode(assertion, options={"verify_signature": False})
            if said.get("iss") != self.email:
                return _refused("invalid_grant", "Invalid grant: account not found")
            if jwt.get_unverified_header(assertion).get("kid", self.key_id) != self.key_id:
                return _refused("invalid_grant", "Invalid JWT Signature.")
            key = signing_key("service account").public_key()
            claims = jwt.decode(assertion, key, ["RS256"], options=_SIGNATURE_ONLY)
        except jwt.InvalidSignatureError:
            return _refused("invalid_grant", "Invalid JWT Signature.")
        except jwt.InvalidTokenError:
            return _refused("invalid_grant", "Bad Request")
        if claims.get("aud") not in (self.token_uri, _AUDIENCE):
            return _refused("invalid_grant", "Invalid JWT: Failed audience check. The right audience is the token_uri")
        if not self._timely(claims):
            times = "Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
            return _refused("invalid_grant", f"Invalid JWT: {times} Check your iat and exp values in the JWT claim.")
        scopes = frozenset(str(claims.get("scope", "")).split())
        if not scopes or not all(scope.startswith("https://www.googleapis.com/auth/") for scope in scopes):
            return _refused("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        return self._bearer(self._give(self.email, scopes))

    async def _exchange(self, request: web.Request) -> web.Response:
        if request.content_type == "application/json":
            given: dict[str, object] = await request.json()
            form = {_snake(name): str(value) for name, value in given.items()}
        else:
            form = {name: str(value) for name, value in (await request.post()).items()}
        if form.get("grant_type") != EXCHANGE_GRANT:
            return _refused("unsupported_grant_type", "Invalid grant type. Must be token-exchange.")
        if form.get("audience") != self.pool:
            return _refused("invalid_target", "The target service indicated by the audience is invalid.")
        if form.get("subject_token_type") not in JWT_TOKENS or form.get("requested_token_type") != ACCESS_TOKEN:
            return _refused("invalid_request", "Invalid or missing token type.")
        if not form.get("scope"):
            return _refused("invalid_scope", "Invalid or missing scope.")
        try:
            token = form.get("subject_token", "")
            claims = jwt.decode(token, signing_key("cluster").public_key(), ["RS256"], options=_SIGNATURE_ONLY)
        except jwt.InvalidTokenError:
            return _refused("invalid_grant", "Error connecting to the given credential's issuer, or wrong signature.")
        if claims.get("iss") != self.cluster_issuer:
            return _refused("invalid_grant", "The issuer in ID Token does not match the expected ones.")
        audience = claims.get("aud")
        if f"https:{self.pool}" not in (audience if isinstance(audience, list) else [audience]):
            return _refused("invalid_grant", "The audience in ID Token does not match the expected audience.")
        if not claims.get("iat", 0) - _SKEW <= self._now() < claims.get("exp", 0):
            return _refused("invalid_grant", "ID Token is stale to sign-in.")
        if claims.get("sub") != self.subject:
            return _refused("unauthorized_client", "The given credential is rejected by the attribute condition.")
        principal = f"principal:{self.pool.removesuffix('/providers/kubernetes')}/subject/{self.subject}"
        return self._bearer(self._give(principal, frozenset(form["scope"].split())), issued_token_type=ACCESS_TOKEN)

    async def _impersonate(self, request: web.Request) -> web.Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        held = self.granted(token, "https://iamcredentials.googleapis.com/")
        if held is None:
            return status_error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        if request.match_info["email"] != self.email or not held.scopes & {CLOUD_PLATFORM, IAM}:
            denied = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."
            return status_error(403, "PERMISSION_DENIED", denied)
        wanted = await request.json()
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._now() + self.token_lifetime))
        given = self._give(self.email, frozenset(wanted["scope"]))
        return web.json_response({"accessToken": given, "expireTime": until})

    async def _metadata(self, request: web.Request) -> web.Response:
        marked = {"Metadata-Flavor": "Google", "Server": "Metadata Server"}
        if request.headers.get("Metadata-Flavor") != "Google" or "X-Forwarded-For" in request.headers:
            refused = "<title>Error 403 (Forbidden)!!1</title>Missing required header: Metadata-Flavor"
            return web.Response(status=403, text=refused, content_type="text/html", headers=marked)
        account, leaf = request.match_info.get("account"), request.path.rpartition("/")[2]
        if account not in (None, "default", self.email):
            return web.Response(status=404, text="The requested resource was not found.", headers=marked)
        if leaf == "token":
            scopes = frozenset(request.query.get("scopes", CLOUD_PLATFORM).split(","))
            document = {"access_token": self._give(self.email, scopes), "expires_in": self.token_lifetime}
            return web.json_response({**document, "token_type": "Bearer"}, headers=marked)
        if account is not None and leaf == "":
            described = {"aliases": ["default"], "email": self.email, "scopes": [CLOUD_PLATFORM]}
            return web.json_response(described, headers=marked)
        texts = {"project-id": self.project_id, "universe-domain": "googleapis.com", "email": self.email}
        return web.Response(text=texts.get(leaf, "computeMetadata/\n"), headers=marked)

    def _bearer(self, token: str, **more: str) -> web.Response:
        document = {"access_token": token, "expires_in": self.token_lifetime, "token_type": "Bearer"}
        return web.json_response({**document, **more}, headers={"Cache-Control": "no-store"})

    def _fault(self, fault: Fault) -> web.Response:
        document = {"error": "internal_failure", "error_description": "Backend Error"}
        return later(web.json_response(document, status=fault.status), fault)

    def _metadata_fault(self, fault: Fault) -> web.Response:
        return later(web.Response(status=fault.status, text="try again"), fault)


def status_error(status: int, name: str, said: str, **detail: object) -> web.Response:
    """An error as Google's APIs word them; `detail`: fields of an ErrorInfo."""
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "domain": "googleapis.com", **detail}
    error = {"code": status, "message": said, "status": name, **({"details": [info]} if detail else {})}
    return web.json_response({"error": error}, status=status)


def _refused(error: str, said: str) -> web.Response:
    return web.json_response({"error": error, "error_description": said}, status=400)


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
