"""What several workers answered, as one answer. Pure: bodies in, body out.

The rule everywhere: the fleet is as good as its worst worker, so that nobody is told "applied" by nine of ten.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import orjson

PageAnswer: TypeAlias = tuple[int, str, bytes]
"""Status, content type, body."""

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"

_NOTHING_LOADED: Final = (
    b'{"state":"never_loaded","source":%b,"last_failure":null,"rejected":[],"partially_compatible":[]}'
)
_WORST_LAST: Final = ("not_applicable", "healthy", "cooldown", "unhealthy")


def ready(answers: Sequence[PageAnswer | None]) -> PageAnswer:
    """`/status/ready`: 200 when every worker said so; None is a worker that never answered."""
    for answer in answers:
        if answer is None:
            return 503, TEXT, b"no configuration available"
        if answer[0] != 200:
            return answer
    return 200, TEXT, b"ok"


def config(answers: Sequence[PageAnswer | None]) -> PageAnswer:
    """`/status/config`: the answer of the worker that lags most behind; one that never answered has loaded nothing."""
    bodies = [answer[2] for answer in answers if answer is not None and answer[0] == 200]
    if len(bodies) < len(answers) or not bodies:
        from_file = any(orjson.loads(body).get("source", {}).get("type") == "file" for body in bodies)
        source = b'{"type":"file"}' if from_file else b'{"type":"etcd","connected":false}'
        return 200, JSON, _NOTHING_LOADED % source
    return 200, JSON, min(bodies, key=_progress)


def _progress(body: bytes) -> tuple[int, int]:
    """How far a worker came: nothing applied is least, then by revision; where there is none, by times applied."""
    applied = orjson.loads(body).get("applied")
    if not isinstance(applied, Mapping):
        return (-1, 0)
    return (int(applied.get("applied_revision") or 0), int(applied.get("apply_seq") or 0))


def models(answers: Sequence[PageAnswer | None]) -> PageAnswer:
    """`/status/models`: every model once, as the worker saw it that saw it worst, in the order first seen.

    Workers that failed are left out; when all did, the answer is theirs.
    """
    bodies = [answer[2] for answer in answers if answer is not None and answer[0] == 200]
    if not bodies:
        return 500, JSON, b'{"error_msg":"failed to list models"}'
    worst: dict[str, Any] = {}
    for body in bodies:
        for row in orjson.loads(body):
            known = worst.get(row["id"])
            if known is None or _badness(row) > _badness(known):
                worst[row["id"]] = row
    return 200, JSON, orjson.dumps(list(worst.values()))


def _badness(row: Mapping[str, Any]) -> int:
    status = row.get("status")
    return _WORST_LAST.index(status) if status in _WORST_LAST else len(_WORST_LAST)


MERGES: Final = MappingProxyType({"/status/config": config, "/status/ready": ready, "/status/models": models})
"""Every page beside the metrics that a fleet answers as one."""
