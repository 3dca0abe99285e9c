"""The projection of the Cloud's configuration into the local etcd (design 9): one session after the other, as long as
this agent leads."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from aisix_common.clock import Clock
from aisix_common.logs import Logger
from aisix_common.metrics import Metrics
from aisix_common.secrets.envelope import Keyring
from aisix_common.settings.control import Managed
from aisix_common.store.backoff import Backoff
from aisix_common.store.client import EtcdClient
from aisix_common.tasks import TaskOwner

from ..cloud.link import Link, Session
from ..lead.lead import Lead, LeadLost
from .cloud_rows import CloudAway, serves_ext
from .layout import Layout
from .local_rows import LocalRows
from .metrics import ProjectionMetrics, ProjectionStatus
from .projecting import Following, Pace, Terms
from .shrink import ShrinkGuard

PACE: Final = Pace()
STEADY: Final = 60.0
"""Seconds after which a session that was followed counts as one that can be."""


class Projector:
    """Projects while it runs; `status()` at any time."""

    def __init__(
        self,
        local: EtcdClient,
        layout: Layout,
        keyring: Callable[[], Keyring],
        managed: Managed,
        *,
        allow_plaintext: bool,
        clock: Clock,
        log: Logger,
        metrics: Metrics,
        pace: Pace = PACE,
    ) -> None:
        """The environment is that of each session's certificate, whatever `layout` says.

        `keyring` is asked at every plan, and gives the same object as long as its keys are the same; of `managed`,
        `shrink_share` and `takeover` count. `allow_plaintext` is `secrets.allow_plaintext`. Registers its metrics."""
        self._local = local
        self._log = log
        self._terms = Terms(layout, keyring, ShrinkGuard(managed.shrink_share), managed.takeover, allow_plaintext, pace)
        self._metrics = ProjectionMetrics(metrics, clock, log, lambda: asyncio.get_running_loop().time())
        self._without_ext = False
        """Whether it was said that the Cloud does not serve the ext root."""

    def status(self) -> ProjectionStatus:
        """How it does. Called in the event loop."""
        return self._metrics.status()

    async def run(self, link: Link, lead: Lead) -> None:
        """Project whatever session is in force, until cancelled. Raises LeadLost, and has written nothing since."""
        backoff = Backoff(self._terms.pace.first_delay, self._terms.pace.longest_delay)
        try:
            while True:
                if link.session is None:
                    self._metrics.left()
                session = await link.ready()
                begun = asyncio.get_running_loop().time()
                lost = await self._follow(session, link, lead)
                if lost is not None:
                    raise lost
                if session is not link.session or asyncio.get_running_loop().time() > begun + STEADY:
                    backoff.reset()
                if session is link.session:  # it was not replaced, but has to be followed anew
                    await asyncio.sleep(backoff.delay())
        finally:
            self._metrics.left()

    async def _follow(self, session: Session, link: Link, lead: Lead) -> LeadLost | None:
        try:
            layout = await self._layout_of(session)
        except CloudAway as error:
            self._metrics.lost(0, str(error))
            return None
        self._metrics.follows(len(layout.cloud_prefixes))
        terms = replace(self._terms, layout=layout)
        following = Following(session, link, terms, LocalRows(self._local, layout, lead, self._metrics), self._metrics)

        async def replaced() -> None:
            await link.replaced(session)
            following.inbox.close()
            for watch in watches:
                watch.cancel()  # its client is closed soon, and what is being written may take longer

        async with TaskOwner() as tasks:
            roots = range(len(layout.cloud_prefixes))
            watches = [tasks.spawn(following.watch(root), name=f"the Cloud's rows, root {root}") for root in roots]
            tasks.spawn(replaced(), name="another session with the Cloud")
            try:
                await following.run()
            except LeadLost as lost:
                return lost
        return None

    async def _layout_of(self, session: Session) -> Layout:
        """That of the certificate's environment; without the ext root where the Cloud does not let us read it. Raises
        CloudAway."""
        layout = replace(self._terms.layout, env_id=session.identity.env_id)
        if layout.external and not await serves_ext(session.etcd, layout.cloud_prefixes):
            if not self._without_ext:
                self._log.info("the Cloud does not serve the ext root: its rows here are left alone")
            self._without_ext = True
            return replace(layout, external=False)
        self._without_ext = False
        return layout
