"""The bundle in a Kubernetes Secret. Blocking: call it in a thread.

    tls.crt tls.key ca.crt    the bundle, under the names that kubernetes.io/tls and cert-manager use
    env_id dp_id              whom it makes us
    bundle.good               the last bundle that is known to have worked
    bundle.pending            the key and CSR of a certificate that was asked for

A Secret is replaced in one write, which counts only if nobody wrote since it was read; so there is nothing half done to
come back to. What else is in it, and its type and labels, stays as it is. It may be made beforehand, empty: then the
agent needs no right to create Secrets.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from aisix_common.secret import Secret

from ..identity.bundle import Bundle
from ..identity.bundle_store import PENDING, NotSaved, StoreAway
from ..identity.candidates import (
    GOOD,
    Kept,
    KeptId,
    Stored,
    Survey,
    joined,
    parted,
    pending_of,
    pending_text,
    survey,
)
from ..identity.enrollment import Pending
from ..identity.identity import BundleRefused, Identity
from .api import SECRET, Document, KubernetesConflict, KubernetesError, Objects, Place

_CERTIFICATE, _KEY, _CA = "tls.crt", "tls.key", "ca.crt"
_ENV_ID, _DP_ID = "env_id", "dp_id"
_TRIES: Final = 5
"""Writes that somebody else came before are tried again, from reading on."""

_Data = Mapping[str, bytes]
_Changes = Mapping[str, str | None]
"""New values by their key; None takes one away."""


class KubernetesStore:
    """A `BundleStore` in the Secret at `at`."""

    def __init__(self, objects: Objects, at: Place) -> None:
        self._objects = objects
        self._at = at
        self._confirmed = ""

    def load(self, now: datetime, in_force: Identity | None = None) -> Stored | None:
        return self._look(self._read(), now, in_force).chosen()

    def save(self, bundle: Bundle, now: datetime, version: str | None) -> Stored:
        saved: Stored | None = None

        def changes(data: _Data) -> _Changes:
            nonlocal saved
            saved = self._kept(data).judged(bundle, now)
            look = self._look(data, now)
            found = look.replaced_by(saved.identity, version, f"Secret {self._at}")
            values = {_CERTIFICATE: bundle.certificate, _KEY: bundle.key.reveal(), _CA: bundle.ca}
            values |= {_ENV_ID: saved.identity.env_id, _DP_ID: saved.identity.dp_id}
            if found is not None and GOOD not in look.sound:
                values[GOOD] = joined(found.bundle)  # the only one there was: it must not get lost
            return values

        self._write(changes)
        assert saved is not None
        return saved

    def confirm(self, version: str, now: datetime) -> None:
        there = False

        def changes(data: _Data) -> _Changes:
            nonlocal there
            look = self._look(data, now)
            found, good = look.newest, look.sound.get(GOOD)
            there = found is not None and found.version == version
            if found is None or not there or (good is not None and good.bundle == found.bundle):
                return {}
            return {GOOD: joined(found.bundle)}

        if version != self._confirmed:  # every good heartbeat asks
            self._write(changes)
            self._confirmed = version if there else ""

    def before(self, now: datetime) -> Stored | None:
        return self._look(self._read(), now).before()

    def load_pending(self) -> Pending | None:
        data = self._read()
        return pending_of(data[PENDING]) if PENDING in data else None

    def save_pending(self, pending: Pending | None) -> None:
        value = pending_text(pending) if pending is not None else None
        self._write(lambda data: {PENDING: value} if value is not None or PENDING in data else {})

    # reading

    def _read(self) -> _Data:
        try:
            return _decoded(self._objects.get(SECRET, self._at))
        except KubernetesError as error:
            raise StoreAway(f"Secret {self._at} cannot be read: {error}") from None

    def _look(self, data: _Data, now: datetime, in_force: Identity | None = None) -> Survey:
        """What lies in the places, "" being the three of the bundle in force."""
        readers = {
            "": lambda: _in_force(data),
            GOOD: lambda: parted(data[GOOD]) if GOOD in data else None,
        }
        return survey(readers, self._where, self._kept(data), now, in_force)

    def _kept(self, data: _Data) -> Kept:
        def kept(name: str) -> KeptId:
            return KeptId(_text(data, name).strip(), self._where(name), f"delete Secret {self._at}")

        return Kept(kept(_ENV_ID), kept(_DP_ID))

    def _where(self, key: str) -> str:
        return f"Secret {self._at}, {key}" if key else f"Secret {self._at}"

    # writing

    def _write(self, changes: Callable[[_Data], _Changes]) -> None:
        """Write what `changes` says to what is there; nothing where it says nothing. Raises NotSaved, and what it
        raises."""
        try:
            for _ in range(_TRIES):
                document = self._objects.get(SECRET, self._at)
                values = changes(_decoded(document))
                if not values:
                    return
                try:
                    self._put(document, values)
                except KubernetesConflict:
                    continue
                return
        except KubernetesError as error:
            raise NotSaved(f"Secret {self._at} cannot be written: {error}") from None
        raise NotSaved(f"Secret {self._at} cannot be written: somebody else writes it all the time")

    def _put(self, document: Document | None, values: _Changes) -> None:
        data = {} if document is None else dict(document.get("data") or {})
        for name, value in values.items():
            if value is None:
                data.pop(name, None)
            else:
                data[name] = base64.b64encode(value.encode("utf-8", "replace")).decode("ascii")
        if document is None:
            self._objects.create(SECRET, self._at, {"type": "Opaque", "data": data})
        elif document.get("immutable"):
            raise NotSaved(f"Secret {self._at} is immutable: delete it, or name another (managed.kubernetes_secret)")
        else:
            self._objects.replace(SECRET, self._at, {**document, "data": data})


def _in_force(data: _Data) -> Bundle | None:
    texts = {name: _text(data, name) for name in (_CERTIFICATE, _KEY, _CA)}
    missing = [f"{name} is missing" for name, text in texts.items() if not text.strip()]
    if len(missing) == len(texts):
        return None
    if missing:
        raise BundleRefused(missing)
    return Bundle(texts[_CERTIFICATE], Secret(texts[_KEY]), texts[_CA])


def _text(data: _Data, name: str) -> str:
    return data.get(name, b"").decode("utf-8", "replace")


def _decoded(document: Document | None) -> _Data:
    data = {}
    for name, value in ((document or {}).get("data") or {}).items():
        try:
            data[name] = base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError):
            data[name] = b""  # the API takes none such
    return data
