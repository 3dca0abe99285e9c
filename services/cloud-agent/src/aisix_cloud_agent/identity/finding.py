"""Which bundle is to be in force, of the one in the store and the one that the settings give: looked at again and
again, so that one that is replaced is taken up without a restart. Only who leads writes the store.
"""

import asyncio
from collections.abc import Callable

from aisix_common.clock import Clock
from aisix_common.errors import AisixError, ConfigurationError
from aisix_common.settings.control import Managed

from .bundle import Bundle
from .bundle_store import BundleStore, ChangedMeanwhile, NotSaved, Stored
from .certificate_status import CertificateStatus
from .given import read_given
from .identity import BundleRefused, Identity

STORED = "the stored bundle"
GIVEN = "the bundle of the settings"


class Finder:
    """Looks at both."""

    def __init__(self, managed: Managed, store: BundleStore, clock: Clock, status: CertificateStatus) -> None:
        self._managed = managed
        self._store = store
        self._clock = clock
        self._status = status

    async def best(self, in_force: Identity | None, leading: Callable[[], bool]) -> Stored | None:
        """What is to be in force; None where there is nothing that may be. What is refused is told once."""
        stored = await self._stored(in_force)
        given = await self._given(in_force or (stored.identity if stored is not None else None))
        if given is None or not _outranks(given, stored):
            return stored
        if in_force is not None and given.identity.not_before < in_force.not_before:
            return stored  # what is in force could not be kept
        if not leading():
            return given
        try:
            return await self.save(given.bundle)
        except ChangedMeanwhile:
            return stored  # the next look tells
        except BundleRefused as refused:
            self._status.trouble(GIVEN, str(refused), act=True)
            return stored
        except NotSaved as error:
            self._status.trouble(f"keeping {GIVEN}", str(error), act=True)
            return given

    async def save(self, bundle: Bundle) -> Stored:
        """Keep it in place of whatever is kept. Raises BundleRefused, ChangedMeanwhile, NotSaved."""
        now = self._clock.now()
        try:
            found = await asyncio.to_thread(self._store.load, now)
        except BundleRefused:
            found = None
        return await asyncio.to_thread(self._store.save, bundle, now, found.version if found is not None else None)

    async def _stored(self, in_force: Identity | None) -> Stored | None:
        stored, refused = None, None
        try:
            stored = await asyncio.to_thread(self._store.load, self._clock.now(), in_force)
        except AisixError as error:
            refused = str(error)
        if stored is not None and stored.notes:
            refused = "; ".join(stored.notes)
        self._status.suspect(STORED, refused)
        return stored

    async def _given(self, ours: Identity | None) -> Stored | None:
        try:
            given = await asyncio.to_thread(read_given, self._managed, self._clock.now())
            if given is not None and ours is not None and not given.identity.same_as(ours):
                raise BundleRefused(
                    [
                        f"it names data plane {given.identity.dp_id} of environment {given.identity.env_id}, and this "
                        f"gateway runs as {ours.dp_id} of {ours.env_id}: give it a bundle of its own"
                    ]
                )
        except (ConfigurationError, BundleRefused) as error:
            self._status.suspect(GIVEN, str(error))
            return None
        self._status.suspect(GIVEN, None)
        return given


def _outranks(given: Stored, stored: Stored | None) -> bool:
    """Whether the settings' bundle is used and kept: the stored one may have been renewed since they were written."""
    if stored is None or given.identity.not_before > stored.identity.not_before:
        return True
    return given.identity == stored.identity and given.bundle != stored.bundle  # with another CA
