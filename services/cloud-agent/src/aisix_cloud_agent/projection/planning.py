"""The projection planner: the Cloud's rows and the local ones in, transactions out (design 9). Pure, but for nonces.

The Cloud is the authority on what lies under the local roots: rows are written as it has them, whoever changed them
here. Nothing unchanged is written (`comparing`), secrets are sealed (`sealing`), the order is that of dependencies
(`ordering`), and no transaction is over etcd's limits (`steps`). A crash between two transactions leaves the marker
`applying`: planning a list anew from what is there gives the rest.

What cannot be projected - a key that is none of this environment, a row too large, a secret without a keyring - is left
out and reported; the row that was projected before stays, as a gateway keeps its last good value.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from aisix_common.managed.projected import Marker, Standing
from aisix_common.secrets.envelope import NO_KEYRING, Keyring
from aisix_common.store.types import Changes, Delete, Deleted, KeyValue, Listing, Put

from .comparing import same
from .layout import Layout, Refused, Spot
from .ordering import Placed, dependencies_first
from .sealing import presented, readable, sealed, size
from .shrink import ShrinkGuard, Suspicious
from .steps import MOST_BYTES, Sealable, Step, fits, in_steps

NO_KEY: Final = "it holds a secret, and there is no keyring to encrypt it with: set secrets.keyring"
TOO_LARGE: Final = f"it does not fit into a transaction of {MOST_BYTES} bytes"


@dataclass(frozen=True, slots=True)
class Rules:
    """What a projection is done by."""

    layout: Layout
    keyring: Keyring = NO_KEYRING
    allow_plaintext: bool = False
    """Secrets are written in clear while there is no keyring (`secrets.allow_plaintext`)."""
    guard: ShrinkGuard = field(default_factory=ShrinkGuard)
    takeover: bool = False
    """Rows that lie under the local roots are ours from now on, whoever wrote them."""
    cannot_seal: str = ""
    """Why nothing may be sealed although there is a keyring, for operators: rows with secrets in clear are refused."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done."""

    steps: Iterator[Step]
    """The transactions, to be committed one by one; after a failure of one, plan anew. Used up once."""
    puts: int
    deletes: int
    refused: tuple[Refused, ...]
    """Rows of the Cloud that are left out."""
    grows: int = 0
    """How many local rows more there are in the end; less than 0: fewer."""


@dataclass(frozen=True, slots=True)
class ForeignEnvironment:
    """The local rows were not projected by this environment: nothing is touched."""

    env_id: str
    """Whose they are, as the projection row says; empty where it says nothing."""
    rows: int

    @property
    def message(self) -> str:
        """For operators."""
        whose = f"are those of environment {self.env_id}" if self.env_id else "were not written by a cloud agent"
        return (
            f"the rows in the local etcd ({self.rows}) {whose}: use another etcd or prefix for this gateway, or allow "
            "the agent to take them over, which replaces them"
        )


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The projection stopped in the middle of a revision: a list has to be planned first."""

    target: int


class Listed:
    """A list of the Cloud beside the local rows, which come piece by piece: of those that need no writing nothing is
    kept, so that not both sides lie in memory as a whole."""

    def __init__(self, cloud: Listing, standing: Standing, rules: Rules) -> None:
        """`cloud`: all that lies under `layout.cloud_prefixes`, read at one revision. `standing` must not be newer than
        any of the local rows."""
        self._rules = rules
        self._standing = standing
        self._revision = cloud.revision
        self._before = _before(standing, rules.layout)
        keep = self._before is not None and self._before.cloud_revision > 0
        self._judged = _Judged(rules, keep=keep)
        self._wanted: dict[str, KeyValue | None] = {}
        """The Cloud's rows by their local keys; None: the local row needs no writing."""
        self._differing: dict[str, KeyValue | None] = {}
        """Local rows that do; the row itself where it may have to go."""
        self._gone: list[KeyValue] = []
        self.rows = 0
        """Local rows so far."""
        for row in cloud.rows:
            spot = rules.layout.spot(row.key)
            if isinstance(spot, Refused):
                self._judged.refused.append(spot)
            else:
                self._wanted[spot.key] = row

    def local(self, rows: Iterable[KeyValue]) -> None:
        """Some of all rows under `layout.local_prefixes`, each once."""
        layout, judged = self._rules.layout, self._judged
        for row in rows:
            if not layout.is_ours(row.key):
                continue
            self.rows += 1
            if row.key not in self._wanted:
                self._gone.append(row)
            elif (wanted := self._wanted[row.key]) is not None:
                spot = layout.spot(wanted.key)
                if isinstance(spot, Spot) and judged.needs_none(spot, wanted, row):
                    self._wanted[row.key] = None
                else:
                    self._differing[row.key] = None if judged.keep else row

    def plan(self, confirmed: str = "") -> Plan | Suspicious | ForeignEnvironment:
        """What follows from it, once. `confirmed`: the digest of the list before, if that was Suspicious."""
        layout, judged, before = self._rules.layout, self._judged, self._before
        foreign = foreign_environment(self._standing, self.rows, self._rules)
        if foreign is not None:
            return foreign
        stay = 0
        for key, row in self._wanted.items():
            spot = layout.spot(row.key) if row is not None else None
            if row is None or not isinstance(spot, Spot) or judged.write(spot, row, new=key not in self._differing):
                stay += 1
            elif (local := self._differing.get(key)) is not None:
                self._gone.append(local)
        self._wanted.clear()
        suspicion = self._rules.guard.judge(
            (row.key for row in self._gone),
            self.rows,
            empty=not stay,
            older=before is not None and self._revision < max(before.cloud_revision, before.target),
            confirmed=confirmed,
        )
        if suspicion is not None:
            return suspicion
        judged.deletes = [(_local_spot(layout, row.key), row) for row in self._gone]
        return judged.plan(before, Marker(layout.env_id, self._revision, "done"))


def plan_listing(
    cloud: Listing, local: Listing, standing: Standing, rules: Rules, confirmed: str = ""
) -> Plan | Suspicious | ForeignEnvironment:
    """Make the local rows those of the Cloud: as Listed, of all local rows at once."""
    listed = Listed(cloud, standing, rules)
    listed.local(local.rows)
    return listed.plan(confirmed)


def foreign_environment(standing: Standing, rows: int, rules: Rules) -> ForeignEnvironment | None:
    """Whether the local rows (`rows` of them) are none of this environment's, and not to be taken over."""
    if rules.takeover or _before(standing, rules.layout) is not None or not (rows or standing.revision):
        return None
    return ForeignEnvironment(standing.marker.env_id if standing.marker else "", rows)


def plan_changes(
    changes: Changes, local: Mapping[str, KeyValue], standing: Standing, rules: Rules
) -> Plan | ForeignEnvironment | Unfinished:
    """Do what changed in the Cloud. Deletes are what somebody did there, and are never held back.

    `changes` are those of one revision (`one_by_one`). `local`: the rows at `local_keys` that there are, by key.
    """
    layout = rules.layout
    before = _before(standing, layout)
    if before is None:
        marker = standing.marker
        return ForeignEnvironment(marker.env_id if marker else "", len(local))
    if before.state == "applying":
        return Unfinished(before.target)
    judged = _Judged(rules, keep=True)
    for event in {event.key: event for event in changes.events}.values():
        spot = layout.spot(event.key)
        if isinstance(spot, Refused):
            judged.refused.append(spot)
        elif not isinstance(event, Deleted):
            judged.put(spot, event, local.get(spot.key))
        elif spot.key in local:
            judged.deletes.append((spot, local[spot.key]))
    # The two roots are two watches: one of them may be behind the other.
    return judged.plan(before, Marker(layout.env_id, max(before.cloud_revision, changes.revision), "done"))


def one_by_one(changes: Changes) -> Iterator[Changes]:
    """Changes of several revisions, revision by revision: each is a transaction of its own."""
    events: dict[int, list[KeyValue | Deleted]] = {}
    for event in changes.events:
        events.setdefault(event.mod_revision, []).append(event)
    for revision in sorted(events):
        yield Changes(tuple(events[revision]), revision)


def local_keys(changes: Changes, layout: Layout) -> list[str]:
    """The local rows that have to be known to plan these changes, each once."""
    spots = (layout.spot(event.key) for event in changes.events)
    return list(dict.fromkeys(spot.key for spot in spots if isinstance(spot, Spot)))


class _Judged:
    """What becomes of each row."""

    def __init__(self, rules: Rules, *, keep: bool) -> None:
        self.rules = rules
        self.keep = keep
        """Whether the local copy of a row that is refused stays: only if it was projected by this environment."""
        self.puts: list[Placed] = []
        self.deletes: list[Placed] = []
        self.refused: list[Refused] = []

        self.grows = 0

    def put(self, spot: Spot, row: KeyValue, local: KeyValue | None) -> bool:
        """A row of the Cloud; False where nothing may lie in its place."""
        if local is not None and self.needs_none(spot, row, local):
            return True
        return self.write(spot, row, new=local is None)

    def needs_none(self, spot: Spot, row: KeyValue, local: KeyValue) -> bool:
        """Whether the local row needs no writing."""
        return same(spot, self.bytes_of(row), local.value, self.rules.keyring)

    def write(self, spot: Spot, row: KeyValue, *, new: bool) -> bool:
        """A row that needs to be written, if it can be. `new`: there is none in its place."""
        reason = self._reason(spot, row)
        if reason is None:
            self.puts.append((spot, row))
            self.grows += new
            return True
        self.refused.append(Refused(row.key, reason))
        return self.keep

    def plan(self, before: Marker | None, done: Marker) -> Plan:
        steps, grows = in_steps(self._operations(), before, done), self.grows - len(self.deletes)
        return Plan(steps, len(self.puts), len(self.deletes), tuple(self.refused), grows)

    def bytes_of(self, row: KeyValue) -> bytes:
        """What is projected, before sealing."""
        return row.value if self._in_clear else presented(row.value)

    @property
    def _in_clear(self) -> bool:
        return not self.rules.keyring and self.rules.allow_plaintext

    def _reason(self, spot: Spot, row: KeyValue) -> str | None:
        """Why a row cannot be written."""
        raw, keyring = self.bytes_of(row), self.rules.keyring
        withheld = self.rules.cannot_seal or ("" if keyring or self._in_clear else NO_KEY)
        if withheld and readable(spot.kind, raw):
            return withheld
        return None if fits(spot.key, size(spot.kind, raw, keyring)) else TOO_LARGE

    def _operations(self) -> Iterator[Sealable]:
        for spot, row in dependencies_first(self.puts):
            raw = self.bytes_of(row)
            found = () if self._in_clear else readable(spot.kind, raw)
            yield Put(spot.key, sealed(spot.kind, spot.id, raw, found, self.rules.keyring)), bool(found)
        for spot, _ in reversed(dependencies_first(self.deletes)):
            yield Delete(spot.key), False


def _before(standing: Standing, layout: Layout) -> Marker | None:
    """The projection row, if it is of this environment."""
    marker = standing.marker
    return marker if marker is not None and marker.env_id == layout.env_id else None


def _local_spot(layout: Layout, key: str) -> Spot:
    """The place of a local row, whatever its key is: it is going to be deleted."""
    root = next(prefix for prefix in layout.local_prefixes if key.startswith(prefix))
    kind, _, id = key[len(root) :].partition("/")
    return Spot(key, kind, id)
