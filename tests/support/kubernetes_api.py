"""A Kubernetes API server for tests: Secrets and Leases with watches, tokens with permissions, TokenReview; over TLS,
on a loopback port, in the test's own loop (other processes reach it as well). It answers as a real 1.36 did; the same
contract suite can be run against both (tests/support_tests/test_kubernetes_api.py).

    async with kubernetes_api(tmp_path) as api:
        api.url, api.ca, api.ca_file                  # "https://127.0.0.1:34567"; its authority in PEM, and as a file
        api.put_secret("team", "openai", {"key": "sk-1"})     # made or changed, as the admin would; text or bytes
        api.delete_secret("team", "openai")

        account = api.account("aisix", "proxy")
        api.accounts.allow(account, "get list watch", "secrets", "team")       # names={"openai"}: resourceNames
        token = api.accounts.token(account, lifetime=600)
        api.accounts.rotate(account)                  # older tokens: 401; returns a new one
        api.mount(tmp_path / "sa", account)           # token, ca.crt and namespace, as in a pod's folder

        api.faults.add(429, retry_after="1")          # see doubles.py; also delay=, cut=, hang=, path="/secrets"
        api.cut_watches() / api.cut_watches(mid_line=True)     # open watches end, the latter within an event
        api.bookmark()                                # to the watches that asked for bookmarks
        api.store.compact()                           # a watch from an older version gets ERROR 410
        api.store.log                                 # the accepted writes in order: who, what, which version
        api.seen                                      # the requests, with what they were answered

Resources: /api/v1/[namespaces/<ns>/]secrets, /apis/coordination.k8s.io/v1/[namespaces/<ns>/]leases: GET, list (limit,
continue, fieldSelector on metadata.name, labelSelector by equality), watch (resourceVersion, timeoutSeconds, bookmarks,
sendInitialEvents), POST, PUT, PATCH (merge and strategic, which are one for these kinds), DELETE with preconditions;
POST /apis/authentication.k8s.io/v1/tokenreviews; /version, /readyz, /livez. A namespace is there once something was put
into it or an account made in it. Not there: server-side apply, JSON patches, protobuf, discovery, admission.
"""

import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler

from .authority import authority
from .doubles import Fault, Faults, Seen, later, listening, watched
from .kubernetes_accounts import ADMIN, ANONYMOUS, Account, Accounts, Asker
from .kubernetes_store import LEASES, SECRETS, Document, Failure, Key, Resource, Store
from .kubernetes_watch import Selector, Watches, status

_ASKER: Final = web.RequestKey("asker", Asker)
_MERGES: Final = {"application/merge-patch+json", "application/strategic-merge-patch+json"}
_REASONS: Final = {
    429: ("TooManyRequests", "the server has received too many requests and has asked us to try again later"),
    500: ("InternalError", "Internal error occurred: etcdserver: request timed out"),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
    504: ("Timeout", "the server was unable to return a response in the time allotted"),
}


class KubernetesApi:
    """One cluster's API; see the module. Its methods are for the loop it runs in."""

    def __init__(self, ca_file: Path, now: Callable[[], float]) -> None:
        self.url = ""
        """Its origin, once it listens."""
        self.ca_file = ca_file
        self.ca = authority("kubernetes").pem
        self.accounts = Accounts(now)
        self.watches = Watches()
        self.store = Store(now, self.watches.wake)
        self.namespaces = {"default", "kube-system"}
        self.faults = Faults()
        self.seen: list[Seen] = []

    def put_secret(self, namespace: str, name: str, data: Mapping[str, str | bytes], **fields: object) -> Document:
        """Make the Secret or change what it holds, as the admin would; what it is then. `fields`: type, immutable."""
        self.namespaces.add(namespace)
        encoded = {key: base64.b64encode(_bytes(value)).decode("ascii") for key, value in data.items()}
        document: Document = {"metadata": {"name": name}, "data": encoded, **fields}
        key = Key(SECRETS, namespace, name)
        try:
            return self.store.replace(key, document, ADMIN)[0]
        except Failure as missing:
            if missing.code != 404:
                raise
            return self.store.create(SECRETS, namespace, document, ADMIN)

    def delete_secret(self, namespace: str, name: str) -> None:
        """Delete it, as the admin would. Raises Failure 404."""
        self.store.delete(Key(SECRETS, namespace, name), {}, ADMIN)

    def account(self, namespace: str, name: str) -> Account:
        """A service account, made with its namespace if it is not there. It may do nothing yet."""
        self.namespaces.add(namespace)
        return self.accounts.account(namespace, name)

    def mount(self, folder: Path, account: Account, token: str | None = None) -> None:
        """Write what a pod of the account finds in its folder; again after its tokens were rotated."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (
            ("token", token or self.accounts.token(account)),
            ("ca.crt", self.ca),
            ("namespace", account.namespace),
        ):
            (folder / f".{name}.new").write_text(text)
            (folder / f".{name}.new").rename(folder / name)

    def cut_watches(self, *, mid_line: bool = False) -> None:
        """End all open watches without a proper end, `mid_line`: within an event."""
        self.watches.cut(mid_line)

    def bookmark(self) -> None:
        """Send a bookmark to the watches that asked for them."""
        self.watches.bookmark()

    def app(self) -> web.Application:
        """The server."""
        app = web.Application(
            middlewares=[watched(self.faults, self.seen, self._fault), _failures, self._authenticate],
            client_max_size=3 << 20,
        )
        for path in ("/livez", "/readyz"):
            app.router.add_get(path, self._well)
        app.router.add_get("/version", self._version)
        app.router.add_post("/apis/authentication.k8s.io/v1/tokenreviews", self._review)
        for resource in (SECRETS, LEASES):
            calls = _Calls(self, resource)
            root = f"/apis/{resource.group}/v1" if resource.group else "/api/v1"
            collection = f"{root}/namespaces/{{namespace}}/{resource.plural}"
            app.router.add_get(f"{root}/{resource.plural}", calls.list)
            app.router.add_get(collection, calls.list)
            app.router.add_post(collection, calls.create)
            app.router.add_get(f"{collection}/{{name}}", calls.get)
            app.router.add_put(f"{collection}/{{name}}", calls.replace)
            app.router.add_patch(f"{collection}/{{name}}", calls.patch)
            app.router.add_delete(f"{collection}/{{name}}", calls.delete)
        return app

    def demand(self, request: web.Request, verb: str, resource: Resource, namespace: str, name: str = "") -> Asker:
        """Who asks, who may do this. Raises Failure 403."""
        asker = request[_ASKER]
        if not self.accounts.may(asker, verb, resource.plural, namespace, name):
            where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
            what = f'resource "{resource.plural}" in API group "{resource.group}" {where}'
            named = f'"{name}" ' if name else ""
            dotted = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
            said = f'{dotted} {named}is forbidden: User "{asker.username}" cannot {verb} {what}'
            raise Failure(403, "Forbidden", said, **({"name": name} if name else {}), kind=resource.plural)
        return asker

    @web.middleware
    async def _authenticate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        asker: Asker | None = Asker(ANONYMOUS)
        if scheme.lower() == "bearer" and token:
            asker = self.accounts.asker(token.strip())
        if asker is None:
            raise Failure(401, "Unauthorized", "Unauthorized")
        request[_ASKER] = asker
        return await handler(request)

    async def _well(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"major": "1", "minor": "36", "gitVersion": "v1.36.2", "platform": "linux/amd64"})

    async def _review(self, request: web.Request) -> web.Response:
        reviews = Resource("tokenreviews", "TokenReview", "authentication.k8s.io")
        self.demand(request, "create", reviews, "")
        wanted = await _document(request)
        spec = wanted.get("spec") or {}
        audiences = spec.get("audiences")
        asker = self.accounts.asker(spec.get("token", ""), None) if audiences else self.accounts.asker(spec["token"])
        shared = [each for each in audiences or () if asker is not None and each in asker.audiences]
        if asker is None or (audiences and not shared):
            found: Document = {"user": {}, "error": "[invalid bearer token, token lookup failed]"}
        else:
            account = asker.account
            who = {} if account is None else {"uid": account.uid, "groups": account.groups}
            found = {"authenticated": True, "user": {"username": asker.username, **who}}
            found |= {"audiences": shared or list(asker.audiences)}
        document = {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "spec": spec}
        return web.json_response({**document, "status": found}, status=201)

    def _fault(self, fault: Fault) -> web.StreamResponse:
        reason, said = _REASONS.get(fault.status, ("", "the server answered with an error"))
        seconds = fault.retry_after or ""
        wait = {"retryAfterSeconds": int(seconds)} if seconds.isdecimal() else {}
        answer = web.json_response(status(Failure(fault.status, reason, said, **wait)), status=fault.status)
        return later(answer, fault)


class _Calls:
    """The calls of one resource."""

    def __init__(self, api: KubernetesApi, resource: Resource) -> None:
        self._api = api
        self._resource = resource

    async def get(self, request: web.Request) -> web.StreamResponse:
        key, _ = self._named(request, "get")
        return web.json_response(self._api.store.get(key))

    async def list(self, request: web.Request) -> web.StreamResponse:
        namespace = request.match_info.get("namespace")
        watch = request.query.get("watch") in ("1", "true")
        selector = Selector.of(self._resource, namespace, request.query)
        self._api.demand(request, "watch" if watch else "list", self._resource, namespace or "", selector.name or "")
        if watch:
            return await self._api.watches.serve(request, selector, self._api.store)
        found = [each for each in self._api.store.all(self._resource, selector.namespace) if selector.takes(each)]
        start, limit = int(request.query.get("continue") or 0), int(request.query.get("limit") or 0) or len(found) or 1
        metadata: Document = {"resourceVersion": str(self._api.store.version)}
        if start + limit < len(found):
            metadata |= {"continue": str(start + limit), "remainingItemCount": len(found) - start - limit}
        # The items of a list do not say what they are: the list does.
        items = [_untyped(each) for each in found[start : start + limit]]
        kind = {"kind": f"{self._resource.kind}List", "apiVersion": self._resource.api_version}
        return web.json_response({**kind, "metadata": metadata, "items": items})

    async def create(self, request: web.Request) -> web.StreamResponse:
        namespace = request.match_info["namespace"]
        asker = self._api.demand(request, "create", self._resource, namespace)
        self._there(namespace)
        given = await _document(request)
        return web.json_response(self._api.store.create(self._resource, namespace, given, asker.username), status=201)

    async def replace(self, request: web.Request) -> web.StreamResponse:
        key, asker = self._named(request, "update")
        self._there(key.namespace)
        document, made = self._api.store.replace(key, await _document(request), asker.username)
        return web.json_response(document, status=201 if made else 200)

    async def patch(self, request: web.Request) -> web.StreamResponse:
        key, asker = self._named(request, "patch")
        if request.content_type not in _MERGES:
            said = "the body of the request was in an unknown format - accepted media types include: "
            raise Failure(415, "UnsupportedMediaType", said + ", ".join(sorted(_MERGES)))
        return web.json_response(self._api.store.patch(key, await _document(request), asker.username))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        key, asker = self._named(request, "delete")
        options = await _document(request) if request.can_read_body else {}
        gone = self._api.store.delete(key, options.get("preconditions") or {}, asker.username)
        group = {"group": self._resource.group} if self._resource.group else {}
        details = {"name": key.name, **group, "kind": self._resource.plural, "uid": gone["metadata"]["uid"]}
        told = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        return web.json_response(told)

    def _named(self, request: web.Request, verb: str) -> tuple[Key, Asker]:
        key = Key(self._resource, request.match_info["namespace"], request.match_info["name"])
        return key, self._api.demand(request, verb, self._resource, key.namespace, key.name)

    def _there(self, namespace: str) -> None:
        if namespace not in self._api.namespaces:
            raise Failure(404, "NotFound", f'namespaces "{namespace}" not found', name=namespace, kind="namespaces")


@web.middleware
async def _failures(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Failures as the API's Status, also of paths that are not there."""
    try:
        return await handler(request)
    except Failure as failure:
        return web.json_response(status(failure), status=failure.code)
    except web.HTTPNotFound:
        missing = Failure(404, "NotFound", "the server could not find the requested resource")
        return web.json_response(status(missing), status=404)


async def _document(request: web.Request) -> dict[str, Any]:
    try:
        document = json.loads(await request.read())
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise Failure(400, "BadRequest", "couldn't get version/kind; json parse error")
    return document


def _untyped(document: Document) -> Document:
    return {field: value for field, value in document.items() if field not in ("kind", "apiVersion")}


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


@asynccontextmanager
async def kubernetes_api(folder: Path, *, now: Callable[[], float] = time.time) -> AsyncIterator[KubernetesApi]:
    """A server while the context lasts; `folder` gets its certificate. `now`: seconds since 1970."""
    folder.mkdir(parents=True, exist_ok=True)
    ca_file = folder / "kubernetes-ca.crt"
    api = KubernetesApi(ca_file, now)
    ca_file.write_text(api.ca)
    tls = authority("kubernetes").server(folder, "127.0.0.1", "localhost", "kubernetes.default.svc")
    async with listening(api.app(), tls) as port:
        api.url = f"https://127.0.0.1:{port}"
        yield api
