"""The watches of the Kubernetes API server of the tests: selectors, and one stream of JSON lines for each watch."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from multidict import MultiMapping

from .kubernetes_store import Document, Event, Failure, Resource, Store

LONGEST: Final = 1800.0
"""Seconds a watch lasts that asked for no other time."""


@dataclass(frozen=True, slots=True)
class Selector:
    """Which objects a list or a watch is of."""

    resource: Resource
    namespace: str | None
    """None: all of them."""
    name: str | None
    labels: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, resource: Resource, namespace: str | None, query: MultiMapping[str]) -> "Selector":
        """As the query says. Raises Failure 400."""
        name = None
        for part in filter(None, query.get("fieldSelector", "").split(",")):
            field, _, value = part.replace("==", "=").partition("=")
            if field == "metadata.name":
                name = value
            elif field == "metadata.namespace" and namespace in (None, value):
                namespace = value
            else:
                raise Failure(400, "BadRequest", f"field label not supported: {field}")
        pairs = [part.replace("==", "=").partition("=") for part in query.get("labelSelector", "").split(",") if part]
        if any("!" in label or not equals for label, equals, _ in pairs):
            raise Failure(400, "BadRequest", "unable to parse requirement: this server knows equality only")
        return cls(resource, namespace, name, tuple((label, value) for label, _, value in pairs))

    def takes(self, document: Document | None) -> bool:
        """Whether an object of the resource belongs to it."""
        if document is None:
            return False
        metadata = document["metadata"]
        labels = metadata.get("labels") or {}
        return (
            self.namespace in (None, metadata["namespace"])
            and self.name in (None, metadata["name"])
            and all(labels.get(label) == value for label, value in self.labels)
        )

    def told(self, event: Event) -> str | None:
        """What a watch says of a write: its type; None: nothing."""
        if event.key.resource != self.resource:
            return None
        before, after = self.takes(event.before), self.takes(event.object) and event.type != "DELETED"
        if before:
            return "MODIFIED" if after else "DELETED"
        return "ADDED" if after else None


class Watches:
    """All open watches of a server."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._open: set[_Watch] = set()

    def __len__(self) -> int:
        return len(self._open)

    def wake(self) -> None:
        """Something happened: each looks for what it has to tell."""
        self._changed.set()
        self._changed = asyncio.Event()

    def cut(self, mid_line: bool) -> None:
        """End them without the end of the stream, within a line if wanted."""
        for watch in self._open:
            watch.cut = "mid-line" if mid_line else "at once"
        self.wake()

    def bookmark(self) -> None:
        """Tell those that asked for it the version of now."""
        for watch in self._open:
            watch.bookmarks_due += 1 if watch.bookmarks else 0
        self.wake()

    async def serve(self, request: web.Request, selector: Selector, store: Store) -> web.StreamResponse:
        """Answer a watch until its time is over. Raises Failure 400."""
        watch = _Watch(request, selector, store, lambda: self._changed)
        self._open.add(watch)
        try:
            return await watch.run()
        finally:
            self._open.discard(watch)


class _Watch:
    def __init__(
        self, request: web.Request, selector: Selector, store: Store, changed: Callable[[], asyncio.Event]
    ) -> None:
        query = request.query
        self.bookmarks = query.get("allowWatchBookmarks") in ("1", "true")
        self.bookmarks_due = 0
        self.cut: str | None = None
        self._seconds = float(query.get("timeoutSeconds") or LONGEST)
        self._initial = query.get("sendInitialEvents") in ("1", "true")
        if self._initial and query.get("resourceVersionMatch") != "NotOlderThan":
            said = "resourceVersionMatch: Forbidden: sendInitialEvents requires resourceVersionMatch=NotOlderThan"
            raise Failure(422, "Invalid", said)
        given = query.get("resourceVersion") or "0"
        if not given.isdecimal():
            raise Failure(400, "BadRequest", f'Invalid value: "{given}": strconv.ParseUint: parsing "{given}"')
        self._from = int(given)
        self._request, self._selector, self._store, self._changed = request, selector, store, changed
        self._response = web.StreamResponse(headers={"Content-Type": "application/json", "Cache-Control": "no-cache"})

    async def run(self) -> web.StreamResponse:
        self._response.enable_chunked_encoding()
        await self._response.prepare(self._request)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._seconds
        if 0 < self._from < self._store.compacted and not self._initial:
            said = f"too old resource version: {self._from} ({self._store.compacted})"
            await self._tell("ERROR", status(Failure(410, "Expired", said)))
            await self._response.write_eof()
            return self._response
        position = self._from
        if self._from == 0 or self._initial:
            position = await self._tell_all()
        while self.cut is None:
            changed = self._changed()
            for event in self._store.since(position):
                position = event.version
                kind = self._selector.told(event)
                if kind is not None:
                    await self._tell(kind, event.object)
            for _ in range(self.bookmarks_due):
                await self._bookmark({})
            self.bookmarks_due = 0
            try:
                async with asyncio.timeout_at(deadline):
                    await changed.wait()
            except TimeoutError:
                await self._response.write_eof()
                return self._response
        if self.cut == "mid-line":
            await self._response.write(b'{"type":"MODIFIED","object":{"kind":"Sec')
            await asyncio.sleep(0)
        if self._request.transport is not None:
            self._request.transport.close() if self.cut == "mid-line" else self._request.transport.abort()
        return self._response

    async def _tell_all(self) -> int:
        """What is there, and the version it is of."""
        position = self._store.version
        for document in self._store.all(self._selector.resource, self._selector.namespace):
            if self._selector.takes(document):
                await self._tell("ADDED", document)
        if self._initial and self.bookmarks:
            await self._bookmark({"annotations": {"k8s.io/initial-events-end": "true"}})
        return position

    async def _bookmark(self, metadata: Document) -> None:
        resource = self._selector.resource
        where = {"resourceVersion": str(self._store.version), "creationTimestamp": None, **metadata}
        document = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": where}
        await self._tell("BOOKMARK", document)

    async def _tell(self, kind: str, document: Document) -> None:
        await self._response.write(json.dumps({"type": kind, "object": document}).encode() + b"\n")


def status(failure: Failure) -> Document:
    """A failure as the API's Status."""
    details = {"details": failure.details} if failure.details else {}
    said = {"status": "Failure", "message": str(failure), "reason": failure.reason, **details, "code": failure.code}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, **said}
