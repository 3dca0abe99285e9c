"""`rate_limit_policies`: limits beside those of keys and models (control-plane 3.8), in one of two forms.

The classic form counts what one key, model, team or member does in a window; the conditional form counts whatever its
conditions match. Both may be suspended at times.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from functools import cache
from typing import Annotated, Final, Literal, TypeAlias
from zoneinfo import available_timezones

import msgspec
from msgspec import UNSET, Meta, UnsetType

from .flaw import Flaw, Path
from .kind import Kind
from .rate_limit import RateLimit
from .reference import Reference, by_id
from .scalars import PositiveU64, Text

DEEPEST: Final = 3
"""Conditions inside of conditions."""
MOST_LEAVES: Final = 16
MOST_VALUES: Final = 64
LONGEST_REGEX: Final = 256
"""Bytes."""

Dimension: TypeAlias = Literal["team", "member", "api_key", "model", "model_name", "provider"]
Operator: TypeAlias = Literal["==", "~=", "~~", "~*", "in", "has", ">", ">=", "<", "<=", "ipmatch"]

ANYWHERE: Final = frozenset({"==", "~=", "in"})
REGEX: Final = frozenset({"~~", "~*"})
"""Only where there is a text to look at: `model_name` and `provider`."""


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """When the policy does not count: start > end crosses midnight, start = end is never."""

    timezone: str
    """IANA name."""
    start_time: Annotated[str, Meta(pattern=r"^(?:[01][0-9]|2[0-3]):[0-5][0-9]\Z")]
    end_time: Annotated[str, Meta(pattern=r"^(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)\Z")]
    days_of_week: (
        Annotated[tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...], Meta(min_length=1)] | UnsetType
    ) = UNSET
    dates: (
        Annotated[tuple[Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")], ...], Meta(min_length=1)]
        | UnsetType
    ) = UNSET


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A leaf (dimension, operator, value) or a group (logic, children); `rules` tells which it may be."""

    dimension: Dimension | UnsetType = UNSET
    operator: Operator | UnsetType = UNSET
    value: str | tuple[str, ...] | UnsetType = UNSET
    """A list for `in`, one text otherwise. Of `api_key` and `model` they are ids."""
    logic: Literal["and", "or"] | UnsetType = UNSET
    children: tuple["Condition", ...] | UnsetType = UNSET
    negate: bool = False


class RateLimitPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One policy; see `conditional`."""

    name: Text
    scope: Literal["api_key", "model", "team", "member", "team_member"] | UnsetType = UNSET
    scope_ref: Text | UnsetType = UNSET
    window: Literal["second", "minute", "hour", "day"] | UnsetType = UNSET
    max_requests: PositiveU64 | UnsetType = UNSET
    max_tokens: PositiveU64 | UnsetType = UNSET
    limits: RateLimit | UnsetType = UNSET
    conditions: tuple[Condition, ...] | UnsetType = UNSET
    """All must hold."""
    group_by: tuple[Literal["team", "member", "api_key", "model", "provider"], ...] | UnsetType = UNSET
    """One counter for each combination."""
    action: Literal["reject"] | UnsetType = UNSET
    schedules: tuple[Schedule, ...] = ()

    @property
    def conditional(self) -> bool:
        """Which of the two forms it is."""
        return bool(_given(self, CONDITIONAL))


CLASSIC: Final = ("scope", "scope_ref", "window", "max_requests", "max_tokens")
CONDITIONAL: Final = ("limits", "conditions", "group_by", "action")


def _given(value: msgspec.Struct, names: Sequence[str]) -> list[str]:
    return [name for name in names if getattr(value, name) is not UNSET]


def rules(value: RateLimitPolicy, strict: bool) -> Sequence[Flaw]:
    """One form with nothing of the other, and conditions that can be decided."""
    flaws: list[Flaw] = []
    if value.conditional:
        flaws += [Flaw((name,), "not accepted beside limits or conditions") for name in _given(value, CLASSIC)]
        if value.limits is UNSET:
            flaws.append(Flaw((), '"limits" is a required property of a conditional policy'))
        elif value.limits == RateLimit():
            flaws.append(Flaw(("limits",), "at least one limit must be given"))
        flaws += _conditions(value)
    else:
        flaws += [
            Flaw((), f'"{name}" is a required property')
            for name in ("scope", "scope_ref", "window")
            if getattr(value, name) is UNSET
        ]
        if value.max_requests is UNSET and value.max_tokens is UNSET:
            flaws.append(Flaw((), "`max_requests`, `max_tokens` or both must be given"))
    for place, schedule in enumerate(value.schedules):
        flaws += _schedule(schedule, ("schedules", place), strict)
    return flaws


def _conditions(value: RateLimitPolicy) -> Iterator[Flaw]:
    if value.group_by is not UNSET and len(set(value.group_by)) < len(value.group_by):
        yield Flaw(("group_by",), "a dimension is given twice")
    nodes = list(_nodes(value))
    for at, node, depth in nodes:
        if depth > DEEPEST:
            yield Flaw(at, f"conditions are nested more than {DEEPEST} deep")
        else:
            yield from _node(node, at)
    if sum(node.children is UNSET for _, node, _ in nodes) > MOST_LEAVES:
        yield Flaw(("conditions",), f"more than {MOST_LEAVES} leaves")


def _nodes(value: RateLimitPolicy) -> Iterator[tuple[Path, Condition, int]]:
    """Every node with its place and depth, in the order of the document, down to the first level that is too deep."""
    if value.conditions is not UNSET:
        for place, node in enumerate(value.conditions):
            yield from _below(node, ("conditions", place), 1)


def _below(node: Condition, at: Path, depth: int) -> Iterator[tuple[Path, Condition, int]]:
    yield at, node, depth
    if node.children is not UNSET and depth <= DEEPEST:
        for place, child in enumerate(node.children):
            yield from _below(child, (*at, "children", place), depth + 1)


def _node(node: Condition, at: Path) -> Iterator[Flaw]:
    leaf, group = ("dimension", "operator", "value"), ("logic", "children")
    wanted, foreign = (group, leaf) if _given(node, group) else (leaf, group)
    missing = [name for name in wanted if getattr(node, name) is UNSET]
    yield from (Flaw(at, f'"{name}" is a required property') for name in missing)
    yield from (Flaw((*at, name), "not accepted on a group") for name in _given(node, foreign))
    if missing:
        return
    if wanted is group:
        if not node.children:
            yield Flaw((*at, "children"), "value is shorter than 1 item")
        return
    yield from _leaf(node, at)


def _leaf(node: Condition, at: Path) -> Iterator[Flaw]:
    textual = node.dimension in ("model_name", "provider")
    if node.operator not in ANYWHERE and not (textual and node.operator in REGEX):
        yield Flaw((*at, "operator"), "this operator is not available on this dimension")
    if node.operator == "in":
        if not isinstance(node.value, tuple):
            yield Flaw((*at, "value"), "must be a list with this operator")
        elif not 1 <= len(node.value) <= MOST_VALUES or not all(node.value):
            yield Flaw((*at, "value"), f"must be 1 to {MOST_VALUES} texts, none of them empty")
    elif not isinstance(node.value, str) or not node.value:
        yield Flaw((*at, "value"), "must be one text, not empty, with this operator")
    elif node.operator in REGEX and not _compiles(node.value):
        yield Flaw((*at, "value"), f"must be a regular expression of at most {LONGEST_REGEX} bytes")


def _compiles(regex: str) -> bool:
    if len(regex.encode("utf-8", "surrogatepass")) > LONGEST_REGEX:
        return False
    try:
        re.compile(regex)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def _schedule(schedule: Schedule, at: Path, strict: bool) -> Iterator[Flaw]:
    if (schedule.days_of_week is UNSET) == (schedule.dates is UNSET):
        yield Flaw(at, "exactly one of `days_of_week` and `dates` must be given")
    if not strict:
        return  # a schedule that nobody can read never suspends: better than a policy that is lost for it
    if (known := _zones()) and schedule.timezone not in known:
        yield Flaw((*at, "timezone"), "value is not a time zone of the IANA database")
    for place, day in enumerate(schedule.dates or ()):
        if not _is_day(day):
            yield Flaw((*at, "dates", place), "there is no such day")


@cache
def _zones() -> frozenset[str]:
    """All names there are, read once; empty on a machine without the database, where no name can be judged."""
    return frozenset(available_timezones())


def _is_day(day: str) -> bool:
    try:
        date.fromisoformat(day)
    except ValueError:
        return False
    return True


_KINDS: Final[Mapping[str, str]] = {"api_key": "api_keys", "model": "models"}
"""Dimensions and scopes whose values are ids of rows; teams and members are no rows."""


def references(value: RateLimitPolicy) -> Sequence[Reference]:
    """The rows that are limited, or that conditions compare with."""
    found: list[Reference] = []
    if value.scope is not UNSET and value.scope in _KINDS:
        found += by_id(_KINDS[value.scope], ("scope_ref",), value.scope_ref)
    for at, node, _ in _nodes(value):
        kind = _KINDS.get(node.dimension) if node.dimension is not UNSET else None
        if kind is None:
            continue
        if isinstance(node.value, tuple):
            for place, one in enumerate(node.value):
                found += by_id(kind, (*at, "value", place), one)
        else:
            found += by_id(kind, (*at, "value"), node.value)
    return found


RATE_LIMIT_POLICIES: Final = Kind(
    "rate_limit_policies",
    RateLimitPolicy,
    name_field="name",
    nulls=False,
    rules=rules,
    references=references,
)
