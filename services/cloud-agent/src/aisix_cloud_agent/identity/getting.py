"""Asks the Cloud for certificates: when it is time, with a key that is kept before, and again after a pause where it
failed. Only who leads asks.
"""

import asyncio
import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from aisix_common.clock import Clock
from aisix_common.errors import AisixError, ConfigurationError
from aisix_common.settings.control import Managed

from ..cloud.link import CloudUnavailable
from .bundle_store import BundleStore, ChangedMeanwhile, NotSaved, Stored
from .certificate_status import CertificateStatus
from .enrolling import Rotates, enroll, read_trust, rotate
from .enrollment import NotEnrolled, Pending, is_sound, new_pending
from .finding import Finder
from .given import read_token, renews
from .identity import BundleRefused, Identity, key_hash
from .renewal import retry_in

TOKEN = "the token"  # noqa: S105 - of which is told
ENROLMENT = "enrolment"
RENEWAL = "renewal"


class Getter:
    """Gets bundles, and has them kept."""

    def __init__(
        self,
        managed: Managed,
        store: BundleStore,
        finder: Finder,
        *,
        clock: Clock,
        random: Callable[[], float],
        monotonic: Callable[[], float],
        status: CertificateStatus,
    ) -> None:
        self._managed = managed
        self._store = store
        self._finder = finder
        self._clock = clock
        self._random = random
        self._monotonic = monotonic
        self._status = status
        self._failures = 0
        """In a row."""
        self._not_before = monotonic()
        """When there may be a call again."""
        self._spent = ""
        """Digest of a token that is not taken."""

    @property
    def stuck(self) -> bool:
        """Whether no certificate will come for the token that is there."""
        return bool(self._spent)

    @property
    def renews(self) -> bool:
        """Whether certificates are renewed."""
        return renews(self._managed)

    async def enroll(self, leading: Callable[[], bool]) -> Stored | None:
        """What the token gives; None where there is none, it is not time, or it failed, which is told."""
        try:
            token = await asyncio.to_thread(read_token, self._managed)
        except ConfigurationError as error:
            self._status.trouble(TOKEN, str(error), act=True)
            return None
        if token is None:
            return None
        digest = hashlib.sha256(token.reveal().encode()).hexdigest()
        if digest == self._spent or (self._monotonic() < self._not_before and not self._spent):
            return None
        self._spent = ""
        try:
            trust = await asyncio.to_thread(read_trust, self._managed)
            pending = await self._pending(None)
            url = self._managed.bootstrap.url or self._managed.cp_base_url or ""
            bundle = await enroll(url, token, pending, trust, self._clock)
            if not leading():
                return None  # who leads now asks with the same key, and gets the same answer
            return await self._finder.save(bundle)
        except (NotEnrolled, BundleRefused) as refused:
            final = isinstance(refused, BundleRefused) or not refused.again
            self._spent = digest if final else ""
            self._failed(ENROLMENT, refused, act=final)
        except ConfigurationError as error:
            self._failed(ENROLMENT, error, act=True)
        except (CloudUnavailable, ChangedMeanwhile, NotSaved) as error:
            self._failed(ENROLMENT, error)
        return None

    async def renew(self, session: Rotates, current: Stored, leading: Callable[[], bool]) -> Stored | None:
        """What follows `current`, asked for over its session; None where it is not time yet after a failure, or it
        failed, which is told."""
        if self._monotonic() < self._not_before:
            return None
        try:
            pending = await self._pending(current.identity)
            bundle = await rotate(session, self._managed.cp_base_url or "", pending, current, self._clock)
            if not leading():
                return None
            stored = await self._finder.save(bundle)
        except (NotEnrolled, CloudUnavailable, BundleRefused, ChangedMeanwhile, NotSaved) as error:
            final = isinstance(error, BundleRefused) or (isinstance(error, NotEnrolled) and not error.again)
            self._status.renewal("failed")
            self._failed(RENEWAL, error, current.identity, act=final)
            return None
        self._status.renewal("renewed")
        return stored

    async def worked(self, identity: Identity) -> None:
        """A certificate has worked: what was needed to get it is forgotten. Raises NotSaved."""
        pending = await asyncio.to_thread(self._store.load_pending)
        if pending is not None and _is_key_of(pending, identity):
            await asyncio.to_thread(self._store.save_pending, None)
        if self._managed.bootstrap.token is not None:
            without = msgspec.structs.replace(self._managed.bootstrap, token=None)
            self._managed = msgspec.structs.replace(self._managed, bootstrap=without, renew=True)
        self._failures = 0

    async def did_not_work(self, identity: Identity, more: int) -> float:
        """A new certificate was left for the one of `identity`. Its key is not asked for again. Returns when there may
        be a call again, or another try with it: as after `more` failures more than there were."""
        try:
            await asyncio.to_thread(self._store.save_pending, None)
        except NotSaved as error:
            self._status.trouble("forgetting a key", str(error))
        self._failures += 1
        self._put_off(self._failures + more, identity.not_after)
        return self._not_before

    async def _pending(self, identity: Identity | None) -> Pending:
        """The key that is asked for, kept: the one of a call whose answer did not arrive, or a new one."""
        kept = await asyncio.to_thread(self._store.load_pending)
        if kept is not None and is_sound(kept) and (identity is None or not _is_key_of(kept, identity)):
            return kept
        pending = await asyncio.to_thread(new_pending, identity)
        await asyncio.to_thread(self._store.save_pending, pending)
        return pending

    def _failed(self, topic: str, error: AisixError, identity: Identity | None = None, *, act: bool = False) -> None:
        self._failures += 1
        wait = error.retry_after if isinstance(error, CloudUnavailable) else None
        self._put_off(self._failures, identity.not_after if identity is not None else None, wait)
        self._status.trouble(topic, str(error), act=act)

    def _put_off(self, failures: int, end: datetime | None, wait: int | None = None) -> None:
        left = end - self._clock.now() if end is not None else None
        if left is not None and left <= timedelta():
            left = None  # it has expired: haste does not help any more
        self._not_before = self._monotonic() + retry_in(failures, self._random(), left, wait).total_seconds()


def _is_key_of(pending: Pending, identity: Identity) -> bool:
    try:
        key = load_pem_private_key(pending.key_pem.reveal().encode("utf-8", "replace"), None)
    except (ValueError, TypeError):
        return False
    return key_hash(key.public_key()) == identity.key_hash
